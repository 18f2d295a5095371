/**
 * Looks at a PostgreSQL server and a database with docyard's eyes, and changes nothing: what is there, what is missing,
 * what is set in a way that endangers data. Working with it is `postgres.ts`.
 */

import { Client } from "pg";
import type { Finding } from "../probe.ts";
import { clockFinding, failing, ok, warning } from "../probe.ts";
import { SCHEMA_VERSION } from "./migrations.ts";
import type { PostgresStoreOptions } from "./postgres-connection.ts";
import { CONNECTIONS_DEFAULT } from "./postgres-connection.ts";
import { reasonOf } from "./postgres.ts";

/** How long connecting and each question may take, in milliseconds. */
const TIMEOUT_MS = 5_000;
/** The oldest major version that the tests have seen, as `server_version_num` counts. */
const VERSION_MIN = 150_000;
/** A round trip that takes longer makes every request slow, in milliseconds. */
const ROUND_TRIP_MAX_MS = 20;

interface Facts {
  readonly version: number;
  readonly version_text: string;
  readonly encoding: string;
  readonly is_replica: boolean;
  readonly may_create: boolean;
  readonly fsync: string;
  readonly connections_max: number;
  readonly connections_used: number;
  readonly clock: number;
  readonly migrations: string | null;
}

const FACTS = `select
  current_setting('server_version_num')::int as version,
  current_setting('server_version') as version_text,
  current_setting('server_encoding') as encoding,
  pg_is_in_recovery() as is_replica,
  has_database_privilege(current_database(), 'create')
    and coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
  current_setting('fsync') as fsync,
  current_setting('max_connections')::int as connections_max,
  (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as connections_used,
  (extract(epoch from clock_timestamp()) * 1000)::float8 as clock,
  to_regclass('migration')::text as migrations`;

/** Never rejects: what cannot be reached is a finding, too. The URL, which holds a password, is in none of them. */
export async function probePostgres({
  url,
  connectionsMax = CONNECTIONS_DEFAULT,
}: Pick<PostgresStoreOptions, "url" | "connectionsMax">): Promise<Finding[]> {
  let client: Client | null = null;
  try {
    client = new Client({
      connectionString: url,
      connectionTimeoutMillis: TIMEOUT_MS,
      query_timeout: TIMEOUT_MS,
      application_name: "docyard doctor",
    });
    // Without a listener a server that goes away would end this process.
    client.on("error", () => {});
    await client.connect();
    return await look(client, connectionsMax);
  } catch (error) {
    const [detail, fix] = reasonOf(error).split(": ", 2) as [string, string?];
    return [failing("connect", detail, fix ?? "check the server and its URL")];
  } finally {
    await client?.end().catch(() => {});
  }
}

async function look(client: Client, connectionsMax: number): Promise<Finding[]> {
  const startedAt = performance.now();
  await client.query("select 1");
  const roundTripMs = Math.ceil(performance.now() - startedAt);
  const asked = Date.now();
  const { rows } = await client.query<Facts>(FACTS);
  const answered = Date.now();
  const facts = rows[0]!;
  return [
    roundTripMs > ROUND_TRIP_MAX_MS
      ? warning(
          "connect",
          `answers in ${roundTripMs} ms`,
          "each request asks several times: put the server nearer",
        )
      : ok("connect", `answers in ${roundTripMs} ms`),
    facts.version < VERSION_MIN
      ? warning(
          "version",
          `PostgreSQL ${facts.version_text}`,
          "docyard is tested with PostgreSQL 15 and newer",
        )
      : ok("version", `PostgreSQL ${facts.version_text}`),
    facts.encoding === "UTF8"
      ? ok("encoding", "UTF8")
      : failing(
          "encoding",
          facts.encoding,
          "filenames may hold any character: create the database with ENCODING 'UTF8'",
        ),
    facts.is_replica
      ? failing("writing", "this is a read-only standby", "name the primary in --db")
      : facts.may_create
        ? ok("writing", "tables may be made")
        : failing("writing", "the user may not make tables", "make the user the owner of the database"),
    await extensions(client),
    await schema(client, facts.migrations),
    facts.fsync === "on"
      ? ok("durability", "fsync is on")
      : failing("durability", "fsync is off", "a power cut would lose what was acknowledged: set fsync = on"),
    connections(facts, connectionsMax),
    clockFinding(facts.clock, asked, answered),
  ];
}

async function extensions(client: Client): Promise<Finding> {
  const needed = ["btree_gin", "pg_trgm"];
  const { rows } = await client.query<{ name: string }>(
    "select name from pg_available_extensions where name = any($1)",
    [needed],
  );
  const missing = needed.filter((name) => !rows.some((row) => row.name === name));
  return missing.length === 0
    ? ok("extensions", needed.join(", "))
    : failing("extensions", `${missing.join(", ")} cannot be had`, "install PostgreSQL's contrib modules");
}

async function schema(client: Client, table: string | null): Promise<Finding> {
  if (table === null) return ok("schema", "none yet: the first start makes it");
  const { rows } = await client.query<{ number: number }>(
    "select coalesce(max(number), 0)::int as number from migration",
  );
  const { number } = rows[0]!;
  if (number > SCHEMA_VERSION) {
    return failing("schema", `${number}, and this docyard knows ${SCHEMA_VERSION}`, "upgrade docyard");
  }
  if (number < SCHEMA_VERSION) {
    return ok("schema", `${number}: the next start, or \`migrate\`, brings it to ${SCHEMA_VERSION}`);
  }
  return ok("schema", `${number}, up to date`);
}

function connections(
  { connections_max: max, connections_used: used }: Facts,
  connectionsMax: number,
): Finding {
  const detail = `${used} of ${max} in use`;
  return max - used >= connectionsMax
    ? ok("connections", detail)
    : warning(
        "connections",
        detail,
        `each server process takes up to ${connectionsMax}: raise max_connections or use a pooler`,
      );
}
