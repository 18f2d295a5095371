/**
 * The store on PostgreSQL: a pool of connections, a transaction for each write, one snapshot for each read.
 * What the operations are is in the `sql-*.ts` files; any number of processes may share the database.
 */

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Store } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { Pool as PgPool, types } from "pg";
import type { ClientBase, CustomTypesConfig } from "pg";
import type { Migrated } from "./migrations.ts";
import { migrate as migrateSql, NewerSchemaError, SCHEMA_VERSION, schemaVersion } from "./migrations.ts";
import { postgresDialect } from "./postgres-dialect.ts";
import { sqlStore } from "./sql-store.ts";
import type { Query, Sql } from "./sql.ts";

export interface PostgresStoreOptions {
  /** `postgres://user:password@host:port/database`. */
  readonly url: string;
  /** Most connections of this process. Default 10: a handful per core of the server is enough. */
  readonly connectionsMax?: number;
  /** How long a call waits for a connection, in milliseconds. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** How long a statement may run, in milliseconds. Default 30,000. */
  readonly statementTimeoutMs?: number;
  /**
   * After how long the server ends a transaction whose process hangs between two statements, in milliseconds: its locks
   * hold up every other replica. Default 30,000.
   */
  readonly idleTransactionTimeoutMs?: number;
  /**
   * How long a call goes on trying while the server is out of reach, in milliseconds. Default 3,000: a restart of the
   * server is over by then, and no request notices.
   */
  readonly patienceMs?: number;
  /** Whether statements are prepared by name. Switch it off behind a pooler that cannot. Default true. */
  readonly prepare?: boolean;
  /** Told of connections that broke while idle; nothing needs doing, the pool makes new ones. */
  readonly onConnectionError?: (error: Error) => void;
}

const CONNECTIONS_MAX = 10;
const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;
/** How long a call waits beyond the server's own limit before it takes the server for hung, in milliseconds. */
const ANSWER_SLACK_MS = 5_000;
const PATIENCE_MS = 3_000;
/** Pause between two tries to reach a server, in milliseconds. */
const RECONNECT_DELAY_MS = 100;
/** A peer that vanished without a word is asked for a sign of life after so long, in milliseconds. */
const KEEP_ALIVE_MS = 10_000;
/** How long closing waits for the server to say goodbye, in milliseconds. */
const CLOSE_TIMEOUT_MS = 3_000;
const IDLE_TRANSACTION_TIMEOUT_MS = 30_000;
/** How often a transaction that the server refused for another's sake is tried in all. */
const ATTEMPTS_MAX = 5;
const RETRY_DELAY_MS = 10;
/** Names that replicas which start at once agree on for migrations: "docyard" in ASCII. */
const MIGRATION_LOCK = "28269970699940452";
/** How long a migration waits for another process's, in milliseconds: building an index may take long. */
const MIGRATION_TIMEOUT_MS = 60 * 60_000;

/** The server undid the transaction so that another could go on: the same again may succeed. */
const TRANSIENT = new Set(["40001", "40P01"]);
/**
 * The server is gone, going, or not there yet; whatever was not committed never happened. Beside these, all of class 08
 * and the client library's own errors, which have no code.
 */
const OUT_OF_REACH = new Set([
  "57P01",
  "57P02",
  "57P03",
  "53300",
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
]);
const UNIQUE_VIOLATION = "23505";
const UNDEFINED_TABLE = "42P01";
const INT8 = 20;

/**
 * Connects and applies missing migrations; of several processes that start at once, one does and the others wait.
 * @throws Error with one line that says what to do, never with the URL, which holds a password.
 */
export async function postgresStore(options: PostgresStoreOptions): Promise<Store> {
  await migrate(options);
  const pool = createPool(options);
  const { patienceMs = PATIENCE_MS } = options;
  let closing: Promise<void> | null = null;
  const requireOpen = (): void => {
    if (closing !== null) throw new Error("the store is closed");
  };
  /** A pool that ends lets those wait in vain who have no connection yet: they are waited for first. */
  const underWay = new Set<Promise<unknown>>();
  const tracked = async <T>(work: Promise<T>): Promise<T> => {
    underWay.add(work);
    try {
      return await work;
    } finally {
      underWay.delete(work);
    }
  };

  return sqlStore(postgresDialect, {
    async read(operation) {
      requireOpen();
      return tracked(
        patiently(patienceMs, async () => {
          const single = await readOnce(pool, operation);
          if (single !== null) return single.value;
          return transaction(pool, "begin isolation level repeatable read, read only", operation);
        }),
      );
    },
    async write(operation, taken) {
      requireOpen();
      try {
        return await tracked(patiently(patienceMs, () => transaction(pool, "begin", operation)));
      } catch (error) {
        if (codeOf(error) !== UNIQUE_VIOLATION) throw error;
        throw new DocyardError("already_exists", taken, { cause: error });
      }
    },
    async ready() {
      requireOpen();
      const version = await transaction(pool, "begin", () => schemaVersion(postgresDialect));
      if (version > SCHEMA_VERSION) throw new NewerSchemaError(version);
    },
    close() {
      closing ??= Promise.allSettled(underWay).then(() => end(pool));
      return closing;
    },
  });
}

/** Brings the schema of a database up to date, and says from which version to which. */
export async function migrate(options: PostgresStoreOptions): Promise<Migrated> {
  const pool = createPool({ ...options, connectionsMax: 1, statementTimeoutMs: MIGRATION_TIMEOUT_MS });
  try {
    return await migrateNow(pool);
  } catch (error) {
    throw described(error);
  } finally {
    await end(pool);
  }
}

/** The server may hang, and a stop must not: what it does not answer in time ends with the process. */
async function end(pool: Pool): Promise<void> {
  const giveUp = new AbortController();
  const late = sleep(CLOSE_TIMEOUT_MS, undefined, { signal: giveUp.signal }).catch(() => {});
  await Promise.race([pool.end(), late]);
  giveUp.abort();
}

function createPool(options: PostgresStoreOptions): Pool {
  const { prepare = true, onConnectionError, statementTimeoutMs = STATEMENT_TIMEOUT_MS } = options;
  const pool = new PgPool({
    connectionString: options.url,
    max: options.connectionsMax ?? CONNECTIONS_MAX,
    connectionTimeoutMillis: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: options.idleTransactionTimeoutMs ?? IDLE_TRANSACTION_TIMEOUT_MS,
    statement_timeout: statementTimeoutMs,
    // The server's own limit is no help where the server, or the way to it, hangs.
    query_timeout: statementTimeoutMs + ANSWER_SLACK_MS,
    application_name: "docyard",
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    // A commit is on the server's disk before it is acknowledged, whatever its configuration says.
    // One request takes one of its processors, and pages are too short for compiling them to pay.
    options:
      "-c synchronous_commit=on -c default_transaction_isolation=read\\ committed " +
      "-c max_parallel_workers_per_gather=0 -c jit=off",
    types: { getTypeParser: numbers },
  });
  // Without a listener a server that goes away would end this process. The pool listens to idle connections only; one
  // that breaks while a transaction has it tells the transaction as well.
  pool.on("error", (error) => onConnectionError?.(error));
  pool.on("connect", (client) => client.on("error", () => {}));
  return Object.assign(pool, { execute: executor(prepare) });
}

type Execute = (client: ClientBase | PgPool, query: Query) => Promise<readonly unknown[]>;
type Pool = PgPool & { readonly execute: Execute };

/** 64 bit integers as numbers: ours are counts, sizes and milliseconds, all below 2^53. */
const numbers: CustomTypesConfig["getTypeParser"] = (oid, format) =>
  (oid as number) === INT8 ? Number : (types.getTypeParser(oid, format) as (value: unknown) => unknown);

/** Statements prepared by name: those made once; a name is the digest of its text. */
const PREPARED_MAX = 400;

function executor(prepare: boolean): Execute {
  const names = new Map<string, string>();
  const nameOf = (text: string): string | undefined => {
    let name = names.get(text);
    if (name === undefined && names.size < PREPARED_MAX) {
      name = createHash("sha256").update(text).digest("base64url").slice(0, 32);
      names.set(text, name);
    }
    return name;
  };
  return async (client, { sql, parameters }) => {
    const name = prepare && parameters.length > 0 ? nameOf(sql) : undefined;
    const values = [...parameters];
    const result = await client.query(
      name === undefined ? { text: sql, values } : { name, text: sql, values },
    );
    return result.rows as readonly unknown[];
  };
}

/**
 * Runs an operation of a single query without a transaction: one statement is one snapshot anyway, and a third of the
 * round trips. Null when the operation has more queries: then it has to start anew, inside one.
 */
async function readOnce<T>(pool: Pool, operation: () => Sql<T>): Promise<{ readonly value: T } | null> {
  const running = operation();
  const step = running.next();
  if (step.done === true) return { value: step.value };
  const rows = await pool.execute(pool, step.value);
  const next = running.next(rows);
  return next.done === true ? { value: next.value } : null;
}

/** The commit was sent and its answer never came: it may or may not have happened, so nothing may be repeated. */
class CommitUnknown extends Error {
  override readonly name = "CommitUnknown";
}

/** Runs an operation in a transaction, again where the server undid it for another's sake. */
async function transaction<T>(pool: Pool, begin: string, operation: () => Sql<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const client = await pool.connect();
    let broken: Error | undefined;
    let isCommitting = false;
    try {
      await client.query(begin);
      const value = await drive(operation(), (query) => pool.execute(client, query));
      isCommitting = true;
      await client.query("commit");
      return value;
    } catch (error) {
      if (isOutOfReach(error)) {
        // Thrown away: the server undoes what was begun when the connection ends.
        broken = error as Error;
        if (isCommitting) throw new CommitUnknown("no answer to a commit", { cause: error });
        throw error;
      }
      await client.query("rollback").catch((failure: Error) => {
        broken = failure;
      });
      if (!TRANSIENT.has(codeOf(error)) || attempt >= ATTEMPTS_MAX) throw error;
    } finally {
      client.release(broken);
    }
    await sleep(RETRY_DELAY_MS * attempt * (1 + Math.random()));
  }
}

/**
 * Does the work again while the server is out of reach and there is time; never after a commit whose outcome is unknown.
 * @throws DocyardError `upstream_failed` when there is no more time: worth a retry of the caller's.
 */
async function patiently<T>(patienceMs: number, work: () => Promise<T>): Promise<T> {
  for (const start = performance.now(); ; await sleep(RECONNECT_DELAY_MS)) {
    try {
      return await work();
    } catch (error) {
      const isUnknown = error instanceof CommitUnknown;
      if (!isUnknown && !isOutOfReach(error)) throw error;
      if (isUnknown || performance.now() - start >= patienceMs) {
        throw new DocyardError("upstream_failed", "The database is out of reach: try again", {
          cause: error,
        });
      }
    }
  }
}

/** Whether the connection failed, rather than what was asked over it. */
function isOutOfReach(error: unknown): boolean {
  const code = codeOf(error);
  if (code.startsWith("08") || OUT_OF_REACH.has(code)) return true;
  return code === "" && error instanceof Error && CONNECTION_MESSAGE.test(error.message);
}

/** The client library's errors about connections have no code. */
const CONNECTION_MESSAGE =
  /^(Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect|Query read timeout)/;

async function drive<T>(
  operation: Sql<T>,
  execute: (query: Query) => Promise<readonly unknown[]>,
): Promise<T> {
  let step = operation.next();
  while (step.done !== true) step = operation.next(await execute(step.value));
  return step.value;
}

async function migrateNow(pool: Pool): Promise<Migrated> {
  const from = await currentVersion(pool);
  if (from === SCHEMA_VERSION) return { from, to: from };
  if (from > SCHEMA_VERSION) throw new NewerSchemaError(from);
  return transaction(pool, "begin", function* (): Sql<Migrated> {
    yield { sql: `select pg_advisory_xact_lock(${MIGRATION_LOCK})`, parameters: [] };
    return yield* migrateSql(postgresDialect, Date.now());
  });
}

/** 0 for a database without tables of ours. */
async function currentVersion(pool: Pool): Promise<number> {
  try {
    return await transaction(pool, "begin", () => schemaVersion(postgresDialect));
  } catch (error) {
    if (codeOf(error) === UNDEFINED_TABLE) return 0;
    throw error;
  }
}

/** SQLSTATE or the system's error code; an empty string for other errors. */
function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}

/** What each code means for the operator. */
const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens at its host and port: start it, or correct the URL",
  ENOTFOUND: "its host name is unknown: correct the URL",
  ETIMEDOUT: "its host does not answer: check the network",
  "28P01": "user name or password is wrong: correct the URL",
  "28000": "it refuses this user: check pg_hba.conf and the URL",
  "3D000": "the database does not exist: create it, or correct the URL",
  "42501": "the user may not do this: it has to own the database",
  "0A000":
    "it lacks a needed feature or extension (pg_trgm, btree_gin): install PostgreSQL's contrib modules",
  "53300": "it has no connection to spare: raise max_connections or use a pooler",
  "57P03": "it is starting up: try again",
};

/** What is wrong and, after a colon, what to do about it; never with the URL, which holds a password. */
export function reasonOf(error: unknown): string {
  return REASONS[codeOf(error)] ?? (error instanceof Error ? error.message : String(error));
}

/** One line that says what to do; the error itself is its cause. */
function described(error: unknown): unknown {
  if (error instanceof NewerSchemaError) return error;
  return new Error(`cannot use the PostgreSQL database: ${reasonOf(error)}`, { cause: error });
}
