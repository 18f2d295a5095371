/**
 * Snapshots of a SQLite database: each a connection of its own in one long read, which writers do not wait for.
 * What is read in them is `sql-dump.ts`.
 */

import { setImmediate as nextTurn } from "node:timers/promises";
import type { Database } from "better-sqlite3";
import type { Snapshot } from "./sql-dump.ts";
import type { SqliteStoreOptions } from "./sqlite-open.ts";
import { connect, describedByCode, drive, executor, insistently } from "./sqlite-open.ts";

export interface Snapshots {
  open(): Promise<Snapshot>;
  /** Closes those that are open; later calls reject. */
  close(): void;
}

export function sqliteSnapshots(db: Database, options: SqliteStoreOptions): Snapshots {
  const open = new Set<Database>();
  let isClosed = false;
  const requireOpen = (own: Database): void => {
    if (!own.open) throw new Error("the store is closed");
  };

  return {
    open: async () => {
      const own = await insistently(options, () => openNow(db, options));
      if (isClosed) own.close();
      requireOpen(own);
      open.add(own);
      const execute = executor(own);
      return {
        read: async (operation) => {
          // Whoever reads page after page leaves room for others in between.
          await nextTurn();
          requireOpen(own);
          try {
            return drive(operation(), execute);
          } catch (error) {
            throw describedByCode(error, options.file);
          }
        },
        close: async () => {
          open.delete(own);
          own.close();
        },
      };
    },
    close: () => {
      isClosed = true;
      for (const own of open) own.close();
      open.clear();
    },
  };
}

/** A connection in a read that has begun: from now on it sees this moment. */
function openNow(db: Database, options: SqliteStoreOptions): Database {
  // What is in memory no other connection can see: there, a copy is the moment.
  const own = connect(options.file === ":memory:" ? db.serialize() : options.file, options, true);
  try {
    own.exec("begin");
    own.prepare("select number from migration limit 1").get();
    return own;
  } catch (error) {
    own.close();
    throw error;
  }
}
