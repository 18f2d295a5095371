/**
 * Opens a SQLite file the one way that docyard does: durable, waiting for nobody for long, with its schema up to date.
 * What is done with the connection is `sqlite.ts`; what the tables are is `migrations.ts`.
 */

import { closeSync, existsSync, openSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Worker, WorkerOptions } from "node:worker_threads";
import SqliteDatabase from "better-sqlite3";
import type { Database, Statement } from "better-sqlite3";
import { setBounded } from "../bounded-map.ts";
import { codeOf } from "../error-code.ts";
import type { Migrated } from "./migrations.ts";
import { migrate, NewerSchemaError, SCHEMA_VERSION, schemaVersion } from "./migrations.ts";
import type { Query, Sql } from "./sql.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import { isBusy } from "./sqlite-group.ts";

export interface SqliteStoreOptions {
  /** Path of the database file, made if missing; its folder must exist. `:memory:` keeps nothing. */
  readonly file: string;
  /** better-sqlite3's compiled addon, already loaded: for executables that carry it inside. Default: the installed one. */
  readonly nativeBinding?: object;
  /** How long a write waits for another process that holds the write lock, in milliseconds. Default 5,000. */
  readonly busyTimeoutMs?: number;
  /** Most memory for cached pages of a connection, in KiB. Default 32,768. */
  readonly cacheKiB?: number;
  /**
   * The thread that writes while many do, and is not there otherwise; null for none. Default: there is one, but not in
   * memory, with a single processor, or where `nativeBinding` is given.
   */
  readonly writerThread?: WriterThreadOptions | null;
}

export interface WriterThreadOptions {
  /**
   * It is called for when so many writes more have come in groups of more than four than were missing in smaller ones.
   * Default 256; with 0 it is there as long as the store is open.
   */
  readonly crowd?: number;
  /** Milliseconds without two writes at once after which it is ended. Default 60,000. */
  readonly aloneMs?: number;
  /** Starts the thread with these options. Default: from the file beside this one. */
  readonly start?: (options: WorkerOptions) => Worker;
}

export const BUSY_TIMEOUT_MS = 5_000;
/** What SQLite itself may wait in the thread, in milliseconds; longer waits leave the event loop running. */
const BLOCKING_WAIT_MS = 50;
/** Pause between attempts to open a file that another process is opening or migrating, in milliseconds. */
const OPEN_RETRY_MS = 20;
const CACHE_KIB = 32_768;
/** Statements kept prepared: all fixed ones and the common shapes of lists. */
const PREPARED_MAX = 400;
/** The write-ahead log is cut back to this many bytes after a burst made it longer. */
const WAL_BYTES_MAX = 64 * 1024 * 1024;
/** `PRAGMA synchronous = FULL`: a commit is on the disk before it is acknowledged. */
const SYNCHRONOUS_FULL = 2;

/** Runs a query at once; each statement is prepared once. */
export type Execute = (query: Query) => readonly unknown[];

export interface OpenSqlite {
  readonly db: Database;
  readonly execute: Execute;
  readonly migrated: Migrated;
}

/**
 * Opens and migrates, again and again while another process is in the way and there is time.
 * @throws Error with one line that says what to do: folder missing, not writable, not a database, another program's
 * database, locked for too long, schema newer than this program (`NewerSchemaError`).
 */
export function openSqlite(options: SqliteStoreOptions): Promise<OpenSqlite> {
  return insistently(options, () => openOnce(options));
}

/** Opens something again and again while another process is in the way and there is time. */
export async function insistently<T>(options: SqliteStoreOptions, open: () => T): Promise<T> {
  const { file, busyTimeoutMs = BUSY_TIMEOUT_MS } = options;
  for (const start = performance.now(); ; await sleep(OPEN_RETRY_MS)) {
    try {
      return open();
    } catch (error) {
      if (isBusy(error) && performance.now() - start < busyTimeoutMs) continue;
      throw described(error, file);
    }
  }
}

/** Runs an operation to its end without giving anyone else a turn. */
export function drive<T>(operation: Sql<T>, execute: Execute): T {
  let step = operation.next();
  while (step.done !== true) step = operation.next(execute(step.value));
  return step.value;
}

/** A connection that nothing is set on; of a file, or of the bytes of one. */
export function connect(source: string | Buffer, options: SqliteStoreOptions, readonly = false): Database {
  // The typings know a path only; an addon that is loaded already is taken as well.
  const binding = options.nativeBinding as unknown as string | undefined;
  return new SqliteDatabase(source, {
    readonly,
    timeout: BLOCKING_WAIT_MS,
    ...(binding === undefined ? {} : { nativeBinding: binding }),
  });
}

function openOnce(options: SqliteStoreOptions): OpenSqlite {
  const { file, cacheKiB = CACHE_KIB } = options;
  requireFolder(file);
  makePrivate(file);
  const db = connect(file, options);
  try {
    configure(db, cacheKiB);
    const execute = executor(db);
    return { db, execute, migrated: migrateNow(db, execute) };
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Set on every open: none of it is kept in the file but the journal mode. */
function configure(db: Database, cacheKiB: number): void {
  const mode = db.pragma("journal_mode = wal", { simple: true });
  if (mode !== "wal" && mode !== "memory") {
    throw new Error("SQLite cannot keep a write-ahead log there: use a local file system");
  }
  // The library is compiled with NORMAL as the default for WAL, which may lose commits on power loss.
  db.pragma("synchronous = full");
  if (db.pragma("synchronous", { simple: true }) !== SYNCHRONOUS_FULL) {
    throw new Error("SQLite does not accept synchronous = full");
  }
  db.pragma("foreign_keys = on");
  db.pragma("temp_store = memory");
  db.pragma(`cache_size = -${cacheKiB}`);
  db.pragma(`journal_size_limit = ${WAL_BYTES_MAX}`);
}

function migrateNow(db: Database, execute: Execute): Migrated {
  const tables = db
    .prepare<[], { name: string }>("select name from sqlite_schema where type = 'table'")
    .all();
  const isOurs = tables.some(({ name }) => name === "migration");
  if (tables.length > 0 && !isOurs) throw new Error("it is a SQLite database of another program");
  if (isOurs) {
    // No lock where there is nothing to do: another process may be writing.
    const from = drive(schemaVersion(sqliteDialect), execute);
    if (from === SCHEMA_VERSION) return { from, to: from };
    if (from > SCHEMA_VERSION) throw new NewerSchemaError(from);
  }
  return db.transaction(() => drive(migrate(sqliteDialect, Date.now()), execute)).immediate();
}

/** Runs statements, each prepared once. */
export function executor(db: Database): Execute {
  const prepared = new Map<string, Statement>();
  return ({ sql, parameters }) => {
    let found = prepared.get(sql);
    if (found === undefined) {
      found = db.prepare(sql);
      setBounded(prepared, sql, found, PREPARED_MAX);
    }
    if (found.reader) return found.all(...parameters);
    found.run(...parameters);
    return [];
  };
}

function requireFolder(file: string): void {
  if (file === ":memory:") return;
  const folder = dirname(file);
  if (!existsSync(folder)) throw new Error(`the folder ${folder} does not exist: create it`);
  if (existsSync(file) && statSync(file).isDirectory()) throw new Error("it is a folder: name a file in it");
}

/** The server's signing keys are in it, so a new file is its owner's alone; its log and index take after it. */
function makePrivate(file: string): void {
  if (file === ":memory:" || existsSync(file)) return;
  try {
    closeSync(openSync(file, "a", 0o600));
  } catch {
    // SQLite fails the same way next, and has words for it.
  }
}

/** The disk has no room. The second: the index of the log could not be made as long as it has to be, for want of it. */
const FULL_CODES: readonly string[] = ["SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"];

export function isFull(error: unknown): boolean {
  return FULL_CODES.includes(codeOf(error));
}

/** What each of SQLite's codes means for the operator; the first that the extended code starts with. */
const REASONS: readonly (readonly [code: string, reason: string])[] = [
  ["SQLITE_BUSY", "another process keeps it locked: stop that process, or try again when it is done"],
  ["SQLITE_LOCKED", "another connection keeps it locked: try again when it is done"],
  ["SQLITE_NOTADB", "the file is not a SQLite database: name another file"],
  ["SQLITE_CORRUPT", "the database is damaged: restore it from a backup"],
  ["SQLITE_READONLY", "the file or its folder is not writable: check owner and permissions"],
  ["SQLITE_CANTOPEN", "the file or its folder cannot be opened: check path, owner and permissions"],
  ["SQLITE_PERM", "access is denied: check owner and permissions"],
  ...FULL_CODES.map((code) => [code, "the disk is full: make room"] as const),
  ["SQLITE_IOERR", "the disk reports an input or output error: check it"],
];

/** One line that names the file and says what to do; the error itself is its cause. */
export function described(error: unknown, file: string): unknown {
  if (error instanceof NewerSchemaError) return error;
  const reason = REASONS.find(([code]) => codeOf(error).startsWith(code))?.[1];
  if (reason === undefined && codeOf(error) !== "") return error;
  const text = reason ?? (error instanceof Error ? error.message : String(error));
  return new Error(`cannot use the database ${file}: ${text}`, { cause: error });
}

/** As `described` where SQLite itself has something to say; whatever else was thrown passes as it is. */
export function describedByCode(error: unknown, file: string): unknown {
  return codeOf(error).startsWith("SQLITE_") ? described(error, file) : error;
}
