/**
 * Fills a SQLite file with very many artifacts: by the store's own load, but without waiting for the disk, and with the
 * indexes made when all rows are there. What the artifacts are is `subjects.ts`'s.
 */

import type { StoreRecord } from "@docyard/core";
import { loadSql } from "../../../packages/adapters/src/store/sql-load.ts";
import { sqliteDialect } from "../../../packages/adapters/src/store/sqlite-dialect.ts";
import { drive, openSqlite } from "../../../packages/adapters/src/store/sqlite-open.ts";

/** Page cache while it is filled: all places where rows of so many terms are added stay in it. */
const CACHE_KIB = 2 * 1024 ** 2;
/** Loads in one transaction. */
const LOADS = 100;

/** Ten million rows take some twenty minutes. A crash leaves a file of no use. */
export async function fillInBulk(file: string, batches: Iterable<readonly StoreRecord[]>): Promise<void> {
  const { db, execute } = await openSqlite({ file, cacheKiB: CACHE_KIB });
  const load = loadSql(sqliteDialect);
  db.pragma("synchronous = off");
  const indexes = db
    .prepare<[], { name: string; sql: string }>(
      "select name, sql from sqlite_schema where type = 'index' and sql is not null",
    )
    .all();
  for (const { name } of indexes) db.exec(`drop index ${name}`);
  db.exec("begin");
  let loads = 0;
  for (const records of batches) {
    drive(load(records), execute);
    if (++loads % LOADS === 0) db.exec("commit; begin");
  }
  db.exec("commit");
  for (const { sql } of indexes) db.exec(sql);
  db.close();
}
