/**
 * Connections to a PostgreSQL server and transactions over them: how they are set up, when they are tried again, when
 * the server is taken to be out of reach. What is asked in them is `postgres.ts`'s and the operations' in `sql-*.ts`.
 */

import { createHash } from "node:crypto";
import type { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { DocyardError } from "@docyard/core";
import { Pool as PgPool, types } from "pg";
import type { ClientBase, ClientConfig, CustomTypesConfig } from "pg";
import { codeOf } from "../error-code.ts";
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
  /** Told of connections that broke while idle; nothing needs doing, the pool makes new ones. Default: nobody is. */
  readonly onConnectionError?: (error: Error) => void;
}

export const CONNECTIONS_DEFAULT = 10;
const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;
/** How long a call waits beyond the server's own limit before it takes the server for hung, in milliseconds. */
const ANSWER_SLACK_MS = 5_000;
export const PATIENCE_MS = 3_000;
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

/** The server undid the transaction so that another could go on: the same again may succeed. */
const TRANSIENT = new Set(["40001", "40P01"]);
/** Ended by a limit of time or of memory, or by an operator; of a transaction nothing is kept. */
const GIVEN_UP = new Set(["57014", "55P03", "53200"]);
/**
 * A server that takes no writes, as one that has become a standby: the whole transaction is refused. The session may
 * stay like that for good, while a new one reaches the server that has taken over.
 */
const READ_ONLY = "25006";
/**
 * The server is gone, going, or not there yet, or has ended the session; whatever was not committed never happened.
 * Beside these, all of class 08 and the client library's own errors, which have no code.
 */
const OUT_OF_REACH = new Set([
  "57P01",
  "57P02",
  "57P03",
  // Ended by limits of time: of a session between two transactions, of one between two statements, of a transaction.
  "57P05",
  "25P03",
  "25P04",
  READ_ONLY,
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
const INT8 = 20;

/** What all connections have in common. */
export function configOf(options: PostgresStoreOptions): ClientConfig {
  const { statementTimeoutMs = STATEMENT_TIMEOUT_MS } = options;
  return {
    connectionString: options.url,
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
    // Names that are not in their index yet are read by each search: the 4 MB of the default take 5 ms, and save nothing.
    options:
      "-c synchronous_commit=on -c default_transaction_isolation=read\\ committed " +
      "-c max_parallel_workers_per_gather=0 -c jit=off -c gin_pending_list_limit=256kB",
    types: { getTypeParser: numbers },
  };
}

export function createPool(options: PostgresStoreOptions): Pool {
  const { connectionsMax = CONNECTIONS_DEFAULT, prepare = true, onConnectionError } = options;
  // Pipelined: a query is sent when it is asked, whether or not those before it have been answered.
  const pool = new PgPool({ ...configOf(options), max: connectionsMax, pipeline: true });
  // Without a listener a server that goes away would end this process. The pool listens to idle connections only; one
  // that breaks while a transaction has it tells the transaction as well.
  pool.on("error", (error) => onConnectionError?.(error));
  pool.on("connect", (client) => client.on("error", () => (pool as EventEmitter).emit(LOST)));
  return Object.assign(pool, { execute: executor(prepare) });
}

/** What a pool emits for each connection that broke, whoever had it. */
export const LOST = "lost";

export type Execute = (client: ClientBase | PgPool, query: Query) => Promise<readonly unknown[]>;
export type Pool = PgPool & { readonly execute: Execute };

/** 64 bit integers as numbers: ours are counts, sizes and milliseconds, all below 2^53. */
const numbers: CustomTypesConfig["getTypeParser"] = (oid, format) =>
  (oid as number) === INT8 ? Number : (types.getTypeParser(oid, format) as (value: unknown) => unknown);

/** Statements prepared by name: those made once; a name is the digest of its text. */
const PREPARED_MAX = 400;

export function executor(prepare: boolean): Execute {
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

/** The server may hang, and a stop must not: what it does not answer in time ends with the process. */
export async function end(pool: { end(): Promise<void> }): Promise<void> {
  const giveUp = new AbortController();
  const late = sleep(CLOSE_TIMEOUT_MS, undefined, { signal: giveUp.signal }).catch(() => {});
  await Promise.race([pool.end(), late]);
  giveUp.abort();
}

/** The commit was sent and its answer never came: it may or may not have happened, so nothing may be repeated. */
class CommitUnknown extends Error {
  override readonly name = "CommitUnknown";
}

/** How transactions of one kind begin: all reads of one see one moment. */
const BEGIN = { read: "begin isolation level repeatable read, read only", write: "begin" } as const;

/**
 * Runs an operation in a transaction, again where the server undid it for another's sake. No answer is waited for that
 * decides nothing: over a network the round trips are most of what a transaction takes, and of how long it holds locks.
 */
export async function transaction<T>(
  pool: Pool,
  kind: keyof typeof BEGIN,
  operation: () => Sql<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const client = await pool.connect();
    let broken: Error | undefined;
    let isCommitting = false;
    const pending: Promise<unknown>[] = [];
    try {
      const begun = client.query(BEGIN[kind]);
      // A write that ran before a transaction which then does not begin would be committed by itself.
      if (kind === "write") await begun;
      else pending.push(ignored(begun));
      const value = await drive(operation(), (query) => pool.execute(client, query), pending);
      isCommitting = kind === "write";
      const ended = ignored(client.query("commit"));
      // What failed on the way makes a rollback of the commit. Of reads all answers are there: whoever has the
      // connection next waits for this one.
      if (isCommitting) pending.push(ended);
      await Promise.all(pending);
      return value;
    } catch (error) {
      if (isOutOfReach(error)) {
        // Thrown away: the server undoes what was begun when the connection ends.
        broken = error as Error;
        if (isCommitting && codeOf(error) !== READ_ONLY)
          throw new CommitUnknown("no answer to a commit", { cause: error });
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
 * @throws DocyardError `upstream_failed` when there is no more time, or the server has given the work up: worth a retry
 * of the caller's.
 */
export async function patiently<T>(patienceMs: number, work: () => Promise<T>): Promise<T> {
  for (const start = performance.now(); ; await sleep(RECONNECT_DELAY_MS)) {
    try {
      return await work();
    } catch (error) {
      const code = codeOf(error);
      if (TRANSIENT.has(code) || GIVEN_UP.has(code)) {
        throw new DocyardError("upstream_failed", "The database is too busy: try again", { cause: error });
      }
      const isUnknown = error instanceof CommitUnknown;
      if (!isUnknown && !isOutOfReach(error)) throw error;
      if (isUnknown || performance.now() - start >= patienceMs) {
        const reason = isNoneFree(error)
          ? "No connection to the database came free in time"
          : "The database is out of reach";
        throw new DocyardError("upstream_failed", `${reason}: try again`, { cause: error });
      }
    }
  }
}

/** Whether the connection failed, rather than what was asked over it. */
function isOutOfReach(error: unknown): boolean {
  const code = codeOf(error);
  if (code.startsWith("08") || OUT_OF_REACH.has(code) || isNoneFree(error)) return true;
  return code === "" && error instanceof Error && CONNECTION_MESSAGE.test(error.message);
}

/** The client library's errors about connections have no code. */
const CONNECTION_MESSAGE =
  /^(Connection terminated|Client has encountered a connection error|Query read timeout|timeout expired$)/;

/**
 * Whether all connections were taken for as long as a call waits for one: by what takes long, or by what waits for a
 * server that has gone away. The pool says this of nothing else, whatever the words mean.
 */
function isNoneFree(error: unknown): boolean {
  return error instanceof Error && error.message === "timeout exceeded when trying to connect";
}

/**
 * Runs an operation.
 * @param pending takes the answers that the operation has not waited for: it has succeeded when they have all come
 */
export async function drive<T>(
  operation: Sql<T>,
  execute: (query: Query) => Promise<readonly unknown[]>,
  pending: Promise<unknown>[] = [],
): Promise<T> {
  try {
    let step = operation.next();
    while (step.done !== true) {
      const answer = execute(step.value);
      if (step.value.unread === true) pending.push(ignored(answer));
      step = operation.next(step.value.unread === true ? [] : await answer);
    }
    return step.value;
  } catch (error) {
    // One that nobody waited for may have failed before, and then is the reason.
    await Promise.all(pending);
    throw error;
  }
}

/** A promise that may be rejected before anybody has come to wait for it. */
function ignored<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
