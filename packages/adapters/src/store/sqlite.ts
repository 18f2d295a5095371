/**
 * The store on one SQLite file: runs reads on one connection, and commits writes in groups.
 * What the operations are is in the `sql-*.ts` files; several processes may have the same file open.
 */

import type { Store } from "@docyard/core";
import type { Migrated } from "./migrations.ts";
import { NewerSchemaError, SCHEMA_VERSION } from "./migrations.ts";
import { sqlStore } from "./sql-store.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import type { SqliteStoreOptions } from "./sqlite-open.ts";
import { describedByCode, drive, openSqlite } from "./sqlite-open.ts";
import { createReader } from "./sqlite-reads.ts";
import { sqliteSnapshots } from "./sqlite-snapshot.ts";
import { createWriter } from "./sqlite-writer.ts";

export type { SqliteStoreOptions, WriterThreadOptions } from "./sqlite-open.ts";

/**
 * Opens the file and applies missing migrations.
 * @throws Error with one line that says what to do: folder missing, not writable, not a database, another program's
 * database, locked for too long, schema newer than this program (`NewerSchemaError`).
 */
export async function sqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const opened = await openSqlite(options);
  const { db, execute } = opened;
  const { file } = options;
  const writer = await createWriter(opened, options);
  const snapshots = sqliteSnapshots(db, options);
  let closing: Promise<void> | null = null;

  const requireOpen = (): void => {
    if (closing !== null) throw new Error("the store is closed");
  };
  const reader = createReader(db, execute, requireOpen);

  return sqlStore(sqliteDialect, {
    read: async (operation, isSingle = false) => {
      requireOpen();
      try {
        return isSingle ? drive(operation(), execute) : await reader.read(operation);
      } catch (error) {
        throw describedByCode(error, file);
      }
    },
    aside: (operation) => {
      // Whoever asks for what could not be read will hear why.
      reader.readAside(operation).catch(() => {});
    },
    write: (name, args, taken) => {
      requireOpen();
      return writer.write(name, args, taken);
    },
    snapshot: async () => {
      requireOpen();
      return snapshots.open();
    },
    ready: async () => {
      requireOpen();
      // Takes the write lock and reads: fails where a write would.
      const { value: version } = await writer.write("version", [], "");
      if (version > SCHEMA_VERSION) throw new NewerSchemaError(version);
    },
    close: () => {
      // The others first: the last connection of a file takes its log away.
      snapshots.close();
      closing ??= writer.close().then(() => void db.close());
      return closing;
    },
  });
}

/** Brings the schema of a file up to date, makes the file if need be, and says from which version to which. */
export async function migrate(options: SqliteStoreOptions): Promise<Migrated> {
  const { db, migrated } = await openSqlite(options);
  db.close();
  return migrated;
}
