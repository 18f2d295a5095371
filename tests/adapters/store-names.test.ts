/** Long parts of names are looked for by their rarest trigrams, and found exactly. */

import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { test } from "vitest";
import { checkNames } from "./store-names.ts";

test("law: whatever is searched for, exactly the names that contain it are found", async () => {
  const store = await sqliteStore({ file: ":memory:" });
  try {
    await checkNames(store, process.env["DOCYARD_TEST_FULL"] === "1" ? 300 : 15);
  } finally {
    await store.close();
  }
}, 300_000);
