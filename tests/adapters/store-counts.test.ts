/** Totals are exact while rows come and go, on SQLite. */

import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { test } from "vitest";
import type { Pair } from "./store-counts.ts";
import { checkCounts } from "./store-counts.ts";
import { temporaryFolder } from "./store-files.ts";

async function openPair(): Promise<Pair> {
  const { file, remove } = await temporaryFolder();
  const stores = [await sqliteStore({ file }), await sqliteStore({ file })] as const;
  return {
    stores,
    async close() {
      for (const store of stores) await store.close();
      await remove();
    },
  };
}

test("law: what is remembered and counted on is what counting anew says", async () => {
  await checkCounts(openPair, process.env["DOCYARD_TEST_FULL"] === "1" ? 1_000 : 100);
}, 600_000);
