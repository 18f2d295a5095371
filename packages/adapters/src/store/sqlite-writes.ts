/**
 * Writes on one SQLite connection, by name: run in groups, and refused in words that callers can act on.
 * Which thread they run on is `sqlite.ts`'s and `sqlite-worker.ts`'s.
 */

import { DocyardError } from "@docyard/core";
import { codeOf } from "../error-code.ts";
import { noSpace } from "./sql-store.ts";
import type { WriteArgs, WriteName, WriteResult } from "./sql-writes.ts";
import { operationOf, writesSql } from "./sql-writes.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import type { GroupOptions } from "./sqlite-group.ts";
import { createGroupWriter } from "./sqlite-group.ts";
import type { OpenSqlite, SqliteStoreOptions } from "./sqlite-open.ts";
import { BUSY_TIMEOUT_MS, described, drive, isFull } from "./sqlite-open.ts";

export interface SqliteWriter {
  /**
   * All of the write or nothing of it, durable once resolved.
   * @param taken what a violated unique index means here: the message of the `already_exists` to reject with
   */
  write<N extends WriteName>(name: N, args: WriteArgs<N>, taken: string): Promise<WriteResult<N>>;
  /** Resolves when everything asked for so far has settled. */
  idle(): Promise<void>;
}

/** As groups are written (`GroupOptions`). */
export function sqliteWriter(
  { db, execute }: OpenSqlite,
  { file, busyTimeoutMs = BUSY_TIMEOUT_MS }: SqliteStoreOptions,
  how: Pick<GroupOptions, "onGroup" | "gather">,
): SqliteWriter {
  const describe = (error: unknown): unknown => (isFull(error) ? noSpace(error) : described(error, file));
  const group = createGroupWriter(db, { busyTimeoutMs, describe, ...how });
  const writes = writesSql(sqliteDialect);
  return {
    write: (name, args, taken) =>
      group.write(() => {
        try {
          return drive(operationOf(writes, name, args), execute);
        } catch (error) {
          if (isUniqueViolation(error)) throw new DocyardError("already_exists", taken, { cause: error });
          throw isFull(error) ? noSpace(error) : error;
        }
      }),
    idle: () => group.idle(),
  };
}

function isUniqueViolation(error: unknown): boolean {
  const code = codeOf(error);
  return code === "SQLITE_CONSTRAINT_UNIQUE" || code === "SQLITE_CONSTRAINT_PRIMARYKEY";
}
