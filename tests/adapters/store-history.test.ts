/** After any history SQLite and the store in memory answer alike, and so does what was loaded from their dumps. */

import { memoryStore } from "@docyard/adapters/store/memory";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { test } from "vitest";
import { openSqliteFile } from "./store-files.ts";
import { checkHistories } from "./store-history.ts";

const IS_FULL = process.env["DOCYARD_TEST_FULL"] === "1";

test("the store in memory itself", async () => {
  await checkHistories(
    async () => {
      const store = memoryStore();
      return { store, close: () => store.close() };
    },
    IS_FULL ? 2_000 : 25,
  );
});

test("sqlite in memory", async () => {
  await checkHistories(
    async () => {
      const store = await sqliteStore({ file: ":memory:" });
      return { store, close: () => store.close() };
    },
    IS_FULL ? 2_000 : 15,
  );
}, 600_000);

test("sqlite on a file", async () => {
  await checkHistories(() => openSqliteFile(), IS_FULL ? 500 : 3);
}, 600_000);

test("sqlite on a file that a thread writes", async () => {
  await checkHistories(() => openSqliteFile({ writerThread: { crowd: 0 } }), IS_FULL ? 500 : 3);
}, 600_000);
