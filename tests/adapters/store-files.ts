/** SQLite files for tests: each in a temporary folder of its own, which is gone afterwards. */

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OpenStore } from "@docyard/adapters/conformance/artifact-store";
import type { SqliteStoreOptions } from "@docyard/adapters/store/sqlite";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Store } from "@docyard/core";

const NAME = "docyard.db";

export interface Folder {
  readonly path: string;
  readonly file: string;
  remove(): Promise<void>;
}

export async function temporaryFolder(): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), "docyard-store-"));
  return { path, file: join(path, NAME), remove: () => rm(path, { recursive: true, force: true }) };
}

/** A store on a file, as the conformance suites want it: once closed, nothing but the database is in its folder. */
export async function openSqliteFile(options: Omit<SqliteStoreOptions, "file"> = {}): Promise<OpenStore> {
  const folder = await temporaryFolder();
  const opened: Store[] = [];
  const open = async (): Promise<Store> => {
    const store = await sqliteStore({ file: folder.file, ...options });
    opened.push(store);
    return store;
  };
  const closeAll = async (): Promise<void> => {
    for (const store of opened) await store.close();
  };
  return {
    store: await open(),
    reopen: async () => {
      await closeAll();
      return open();
    },
    leftovers: async () => (await readdir(folder.path)).filter((name) => name !== NAME),
    close: async () => {
      await closeAll();
      await folder.remove();
    },
  };
}
