/**
 * The store on PostgreSQL: a pool of connections, a transaction for each write, one snapshot for each read.
 * What the operations are is in the `sql-*.ts` files; any number of processes may share the database.
 */

import type { EventEmitter } from "node:events";
import type { Store } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { codeOf } from "../error-code.ts";
import type { Migrated } from "./migrations.ts";
import { migrate as migrateSql, NewerSchemaError, SCHEMA_VERSION, schemaVersion } from "./migrations.ts";
import { postgresDialect } from "./postgres-dialect.ts";
import type { Pool, PostgresStoreOptions } from "./postgres-connection.ts";
import { createPool, drive, end, LOST, PATIENCE_MS, patiently, transaction } from "./postgres-connection.ts";
import { postgresSnapshots } from "./postgres-snapshot.ts";
import { noSpace, sqlStore } from "./sql-store.ts";
import { operationOf, writesSql } from "./sql-writes.ts";
import type { Sql } from "./sql.ts";

export type { PostgresStoreOptions } from "./postgres-connection.ts";

/** Names that replicas which start at once agree on for migrations: "docyard" in ASCII. */
const MIGRATION_LOCK = "28269970699940452";
/** How long a migration waits for another process's, in milliseconds: building an index may take long. */
const MIGRATION_TIMEOUT_MS = 60 * 60_000;

const UNIQUE_VIOLATION = "23505";
const DISK_FULL = "53100";
const UNDEFINED_TABLE = "42P01";

/**
 * Connects and applies missing migrations; of several processes that start at once, one does and the others wait.
 * @throws Error with one line that says what to do, never with the URL, which holds a password.
 */
export async function postgresStore(options: PostgresStoreOptions): Promise<Store> {
  await migrate(options);
  const pool = createPool(options);
  const snapshots = postgresSnapshots(options);
  const writes = writesSql(postgresDialect);
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
    async read(operation, isSingle = false) {
      requireOpen();
      // One statement sees one moment by itself.
      const once = () => drive(operation(), (query) => pool.execute(pool, query));
      return tracked(patiently(patienceMs, isSingle ? once : () => transaction(pool, "read", operation)));
    },
    async write(name, args, taken) {
      requireOpen();
      const operation = () => operationOf(writes, name, args);
      try {
        return await tracked(patiently(patienceMs, () => transaction(pool, "write", operation)));
      } catch (error) {
        const code = codeOf(error);
        if (code === UNIQUE_VIOLATION) throw new DocyardError("already_exists", taken, { cause: error });
        throw code === DISK_FULL ? noSpace(error) : error;
      }
    },
    // Whoever answers next may be a standby that has taken over.
    onLost: (listener) => void (pool as EventEmitter).on(LOST, listener),
    async snapshot() {
      requireOpen();
      return tracked(snapshots.open());
    },
    async ready() {
      requireOpen();
      const version = await transaction(pool, "write", () => schemaVersion(postgresDialect));
      if (version > SCHEMA_VERSION) throw new NewerSchemaError(version);
    },
    close() {
      closing ??= Promise.allSettled(underWay)
        .then(() => snapshots.close())
        .then(() => end(pool));
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

async function migrateNow(pool: Pool): Promise<Migrated> {
  const from = await currentVersion(pool);
  if (from === SCHEMA_VERSION) return { from, to: from };
  if (from > SCHEMA_VERSION) throw new NewerSchemaError(from);
  return transaction(pool, "write", function* (): Sql<Migrated> {
    yield { sql: `select pg_advisory_xact_lock(${MIGRATION_LOCK})`, parameters: [] };
    // Where every writer begins: those under way end before a step locks what they are about to need, instead of each
    // waiting for the other.
    if (from > 0) yield { sql: "lock table artifact in access exclusive mode", parameters: [] };
    return yield* migrateSql(postgresDialect, Date.now());
  });
}

/** 0 for a database without tables of ours. */
async function currentVersion(pool: Pool): Promise<number> {
  try {
    return await transaction(pool, "write", () => schemaVersion(postgresDialect));
  } catch (error) {
    if (codeOf(error) === UNDEFINED_TABLE) return 0;
    throw error;
  }
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
