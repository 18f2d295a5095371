/**
 * A process of its own that upgrades a database, and may die on the way: `store-upgrader.ts sqlite|postgres TARGET
 * [KILL]`. With KILL it ends itself by SIGKILL where the first statement that contains that text is about to run,
 * or when all is done but nothing is closed. Else it prints from which schema to which it went.
 */

import { migrate as migratePostgres } from "@docyard/adapters/store/postgres";
import { openSqlite } from "../../packages/adapters/src/store/sqlite-open.ts";
import SqliteDatabase from "better-sqlite3";
import { Client } from "pg";

const [kind, target = "", kill] = process.argv.slice(2);

function dieAt(text: string): void {
  if (kill !== undefined && text.includes(kill)) process.kill(process.pid, "SIGKILL");
}

// Underneath the drivers, which prepare each statement just before they first run it, or send it.
const { prepare } = SqliteDatabase.prototype;
SqliteDatabase.prototype.prepare = function (this: SqliteDatabase.Database, text: string) {
  dieAt(text);
  return prepare.call(this, text);
} as typeof prepare;
const query = Client.prototype.query as (...values: unknown[]) => unknown;
Client.prototype.query = function (this: Client, ...values: unknown[]) {
  const [first] = values as [string | { readonly text: string }];
  dieAt(typeof first === "string" ? first : first.text);
  return query.apply(this, values);
} as typeof Client.prototype.query;

const migrated =
  kind === "sqlite"
    ? (await openSqlite({ file: target, busyTimeoutMs: 60_000 })).migrated
    : await migratePostgres({ url: target });
dieAt("when all is done");
process.stdout.write(JSON.stringify(migrated));
