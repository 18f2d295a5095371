/** The stores that need no service keep the contracts of the store ports. */

import { testAccountStore } from "@docyard/adapters/conformance/account-store";
import type { OpenStore } from "@docyard/adapters/conformance/artifact-store";
import { testArtifactStore } from "@docyard/adapters/conformance/artifact-store";
import { testStoreRecords } from "@docyard/adapters/conformance/store-records";
import { memoryStore } from "@docyard/adapters/store/memory";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import { openSqliteFile } from "./store-files.ts";

const inMemory = async (): Promise<OpenStore> => {
  const store = memoryStore();
  return { store, close: () => store.close() };
};

const onSqliteInMemory = async (): Promise<OpenStore> => {
  const store = await sqliteStore({ file: ":memory:" });
  return { store, close: () => store.close() };
};

for (const [name, open] of [
  ["memory", inMemory],
  ["sqlite", () => openSqliteFile()],
  ["sqlite in memory", onSqliteInMemory],
] as const) {
  testArtifactStore(name, open);
  testAccountStore(name, open);
  testStoreRecords(name, open);
}
