/**
 * Looks at a SQLite file with docyard's eyes: of which version its tables are, and whether all of its pages are whole.
 * Whether the file can be opened at all is the caller's to try; working with it is `sqlite.ts`.
 */

import type { Database } from "better-sqlite3";
import type { Finding } from "../probe.ts";
import { failing, ok } from "../probe.ts";
import { SCHEMA_VERSION, schemaVersion } from "./migrations.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import type { SqliteStoreOptions } from "./sqlite-open.ts";
import { connect, described, drive, executor } from "./sqlite-open.ts";

const RESTORE = "restore it from a backup, once you trust the disk again";

/**
 * Reads all of the file, which takes as long as the disk needs for it, and changes nothing that is in it; beside running
 * servers, too. Never rejects: what cannot be read is a finding, too.
 */
export function probeSqliteFile(options: SqliteStoreOptions): Finding[] {
  let db: Database | null = null;
  try {
    db = connect(options.file, options);
    // One line for the first fault is enough: there is nothing to mend by hand.
    const said = String(db.pragma("quick_check(1)", { simple: true }));
    if (said !== "ok") return [failing("contents", `the database is damaged (${firstLine(said)})`, RESTORE)];
    return [schemaOf(db), ok("contents", "every page is as it should be")];
  } catch (error) {
    const told = described(error, options.file);
    return [failing("contents", firstLine(told instanceof Error ? told.message : String(told)), RESTORE)];
  } finally {
    db?.close();
  }
}

function schemaOf(db: Database): Finding {
  const tables = db.prepare("select 1 from sqlite_schema where type = 'table' and name = 'migration'").all();
  if (tables.length === 0) return ok("schema", "none yet: the first start makes it");
  const version = drive(schemaVersion(sqliteDialect), executor(db));
  if (version > SCHEMA_VERSION) {
    return failing("schema", `${version}, and this docyard knows ${SCHEMA_VERSION}`, "upgrade docyard");
  }
  return version < SCHEMA_VERSION
    ? ok("schema", `${version}: the next start, or \`migrate\`, brings it to ${SCHEMA_VERSION}`)
    : ok("schema", `${version}, up to date`);
}

/** Without the heading that SQLite puts above what it has found. */
function firstLine(text: string): string {
  return text.replace(/^\*\*\* in database \w+ \*\*\*\n/, "").split("\n", 1)[0]!;
}
