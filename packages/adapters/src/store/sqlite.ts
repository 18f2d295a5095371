/**
 * The store on one SQLite file: runs operations on one connection and commits writes in groups.
 * What the operations are is in the `sql-*.ts` files; several processes may have the same file open.
 */

import { setImmediate as nextTurn } from "node:timers/promises";
import type { Store } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import type { Migrated } from "./migrations.ts";
import { NewerSchemaError, SCHEMA_VERSION, schemaVersion } from "./migrations.ts";
import { noSpace, sqlStore } from "./sql-store.ts";
import type { Query, Sql } from "./sql.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import { codeOf, createGroupWriter } from "./sqlite-group.ts";
import type { SqliteStoreOptions } from "./sqlite-open.ts";
import { BUSY_TIMEOUT_MS, described, drive, openSqlite } from "./sqlite-open.ts";
import { sqliteSnapshots } from "./sqlite-snapshot.ts";

export type { SqliteStoreOptions } from "./sqlite-open.ts";

/** How long reads that can pause go on in one turn of the event loop, in milliseconds: everybody waits meanwhile. */
const PAUSING_MS = 10;

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
  const turns = createTurns();
  const begin = db.prepare<[]>("begin");
  const end = db.prepare<[]>("commit");
  let closing: Promise<void> | null = null;

  const requireOpen = (): void => {
    if (closing !== null) throw new Error("the store is closed");
  };

  /** In a transaction all queries see what the first one has seen, whatever other processes commit. */
  const readTogether = async <T>(operation: () => Sql<T>): Promise<T> => {
    const running = operation();
    for (;;) {
      const step = readOn(running);
      if (step.done === true) return step.value;
      await turns.next();
      requireOpen();
    }
  };

  /** Goes on until the end, or a pause when it is time for one. */
  const readOn = <T>(running: Sql<T>): IteratorResult<Query, T> => {
    begin.run();
    try {
      let step = running.next([]);
      while (step.done !== true) {
        if (step.value.pause === true && turns.isOver()) return step;
        step = running.next(step.value.pause === true ? [] : execute(step.value));
      }
      return step;
    } finally {
      end.run();
    }
  };

  return sqlStore(sqliteDialect, {
    read: async (operation, isSingle = false) => {
      requireOpen();
      return isSingle ? drive(operation(), execute) : readTogether(operation);
    },
    write: async (operation, taken) => {
      requireOpen();
      return group.write((defer) => {
        try {
          return drive(operation(), (query) => {
            if (query.deferred !== true) return execute(query);
            defer(() => void execute(query));
            return [];
          });
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

/** Reads that can pause share a little of each turn of the event loop, however many they are. */
function createTurns() {
  let end = 0;
  let isBegun = false;
  let last: Promise<unknown> = Promise.resolve();
  return {
    isOver(): boolean {
      if (!isBegun) {
        isBegun = true;
        end = performance.now() + PAUSING_MS;
        setImmediate(() => (isBegun = false));
      }
      return performance.now() >= end;
    },
    /** A turn of one's own, after those of all who have asked for one before. */
    next: (): Promise<unknown> => (last = last.then(() => nextTurn())),
  };
}

function isFull(error: unknown): boolean {
  return codeOf(error) === "SQLITE_FULL";
}

function isUniqueViolation(error: unknown): boolean {
  const code = codeOf(error);
  return code === "SQLITE_CONSTRAINT_UNIQUE" || code === "SQLITE_CONSTRAINT_PRIMARYKEY";
}
