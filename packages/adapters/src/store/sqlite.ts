/**
 * The store on one SQLite file: runs operations on one connection and commits writes in groups.
 * What the operations are is in the `sql-*.ts` files; several processes may have the same file open.
 */

import type { Store } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { codeOf } from "../error-code.ts";
import type { Migrated } from "./migrations.ts";
import { NewerSchemaError, SCHEMA_VERSION, schemaVersion } from "./migrations.ts";
import { noSpace, sqlStore } from "./sql-store.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import { createGroupWriter } from "./sqlite-group.ts";
import type { SqliteStoreOptions } from "./sqlite-open.ts";
import { BUSY_TIMEOUT_MS, described, describedByCode, drive, isFull, openSqlite } from "./sqlite-open.ts";
import { createReader } from "./sqlite-reads.ts";
import { sqliteSnapshots } from "./sqlite-snapshot.ts";

export type { SqliteStoreOptions } from "./sqlite-open.ts";

/**
 * Opens the file and applies missing migrations.
 * @throws Error with one line that says what to do: folder missing, not writable, not a database, another program's
 * database, locked for too long, schema newer than this program (`NewerSchemaError`).
 */
export async function sqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { db, execute } = await openSqlite(options);
  const { file, busyTimeoutMs = BUSY_TIMEOUT_MS } = options;
  const describe = (error: unknown): unknown => (isFull(error) ? noSpace(error) : described(error, file));
  const group = createGroupWriter(db, { busyTimeoutMs, describe });
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
    write: async (operation, taken) => {
      requireOpen();
      return group.write(() => {
        try {
          return drive(operation(), execute);
        } catch (error) {
          if (isUniqueViolation(error)) throw new DocyardError("already_exists", taken, { cause: error });
          throw isFull(error) ? noSpace(error) : error;
        }
      });
    },
    snapshot: async () => {
      requireOpen();
      return snapshots.open();
    },
    ready: async () => {
      requireOpen();
      // Takes the write lock and reads: fails where a write would.
      const version = await group.write(() => drive(schemaVersion(sqliteDialect), execute));
      if (version > SCHEMA_VERSION) throw new NewerSchemaError(version);
    },
    close: () => {
      // The others first: the last connection of a file takes its log away.
      snapshots.close();
      closing ??= group.idle().then(() => void db.close());
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

function isUniqueViolation(error: unknown): boolean {
  const code = codeOf(error);
  return code === "SQLITE_CONSTRAINT_UNIQUE" || code === "SQLITE_CONSTRAINT_PRIMARYKEY";
}
