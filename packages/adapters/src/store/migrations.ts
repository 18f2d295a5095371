/**
 * The numbered steps that make the tables, and the operation that applies the missing ones.
 * The transaction around them, so that a step is there whole or not at all, is the driver's.
 */

import { STRETCH_MS } from "./sql-marks.ts";
import type { Dialect, Query, Sql } from "./sql.ts";
import { all, first } from "./sql.ts";

interface Migration {
  readonly name: string;
  statements(dialect: Dialect): readonly string[];
}

/** What `migrate` did: schema numbers before and after; equal when nothing was missing. */
export interface Migrated {
  readonly from: number;
  readonly to: number;
}

/** In order of their numbers, which count from 1. Released steps never change; new ones are added at the end. */
const MIGRATIONS: readonly Migration[] = [
  {
    name: "artifacts, events, metadata and name indexes, accounts",
    statements: ({ words: { integer, serial, real, text, table, clustered }, names }) => [
      `create table artifact (
        n ${serial},
        id ${text} not null unique,
        dock_id ${text} not null,
        face ${text} not null,
        version ${integer} not null,
        status ${text} not null,
        filename ${text} not null,
        folded ${text} not null,
        content_type ${text} not null,
        size ${integer},
        digest ${text},
        metadata ${text} not null,
        media_type ${text},
        source ${text} not null,
        duration_ms ${real},
        failure ${text},
        upload_id ${text} unique,
        staging_key ${text},
        storage_key ${text} not null,
        blob_key ${text},
        shares_blob ${integer} not null,
        duplicate_of ${text},
        attempts ${integer} not null,
        due_at ${integer},
        created_by ${text} not null,
        created_at ${integer} not null,
        updated_at ${integer} not null
      )${table}`,
      // The list's order, walked backwards: serves completed rows and, status by status, widened lists.
      "create index artifact_list on artifact (dock_id, face, status, created_at, id)",
      "create index artifact_due on artifact (due_at, id) where due_at is not null",
      // The two rules of ArtifactStore.update.
      `create unique index artifact_machine_digest on artifact (dock_id, digest)
        where status = 'upload_completed' and face = 'machine'`,
      `create unique index artifact_holder_digest on artifact (dock_id, digest)
        where status = 'upload_completed' and shares_blob = 0`,
      // findByDigest for the rows that the two rules leave out; they are few.
      `create index artifact_sharer_digest on artifact (dock_id, digest)
        where status = 'upload_completed' and shares_blob = 1`,
      "create index artifact_blob on artifact (blob_key) where status = 'upload_completed'",
      `create table dock_log (dock_id ${text} primary key, seq ${integer} not null)${clustered}`,
      `create table event (
        dock_id ${text} not null,
        seq ${integer} not null,
        artifact_id ${text} not null,
        type ${text} not null,
        at ${integer} not null,
        "by" ${text},
        data ${text} not null,
        primary key (dock_id, seq)
      )${clustered}`,
      `create table listing (
        n ${serial},
        dock_id ${text} not null,
        face ${text} not null,
        completed ${integer} not null,
        changes ${integer} not null,
        unique (dock_id, face)
      )${table}`,
      `create table term (
        id ${serial},
        listing ${integer} not null,
        path ${text} not null,
        value ${text} not null,
        documents ${integer} not null,
        unique (listing, path, value)
      )${table}`,
      `create table posting (
        term ${integer} not null,
        created_at ${integer} not null,
        id ${text} not null,
        n ${integer} not null,
        primary key (term, created_at, id)
      )${clustered}`,
      `create table account (
        kind ${text} not null,
        id ${text} not null,
        handle ${text} not null,
        organization_id ${text},
        created_at ${integer} not null,
        body ${text} not null,
        primary key (kind, id),
        unique (kind, handle)
      )${clustered}`,
      "create index account_list on account (kind, created_at, id)",
      ...names.create,
    ],
  },
  {
    name: "usage of each dock",
    statements: ({ words: { integer } }) => [
      // First of all: it waits for the writers under way and locks out the others, so that every row is counted. A
      // process that knows schema 1 only, and would not count, finds no table to write to afterwards.
      "alter table dock_log rename to dock_count",
      ...["artifacts", "open", "bytes"].map(
        (name) => `alter table dock_count add column ${name} ${integer} not null default 0`,
      ),
      `insert into dock_count (dock_id, seq, artifacts, open, bytes)
        select dock_id, 0, count(*), sum(case when status = 'upload_completed' then 0 else 1 end),
          coalesce(sum(size), 0)
        from artifact where status in ('created', 'upload_started', 'upload_completed') group by dock_id
        on conflict (dock_id) do update
          set artifacts = excluded.artifacts, open = excluded.open, bytes = excluded.bytes`,
    ],
  },
  {
    name: "marks in each listing",
    statements: ({ words: { integer, clustered } }) => [
      // First, for the same reasons: a process that would set no marks completes nothing afterwards.
      "alter table listing rename to listing_count",
      `create table listing_mark (
        listing ${integer} not null,
        stretch ${integer} not null,
        documents ${integer} not null,
        primary key (listing, stretch)
      )${clustered}`,
      `insert into listing_mark (listing, stretch, documents)
        select l.n, a.created_at / ${STRETCH_MS}, count(*) from listing_count as l
        join artifact as a on a.dock_id = l.dock_id and a.face = l.face and a.status = 'upload_completed'
        group by 1, 2`,
    ],
  },
  {
    name: "row numbers of each stretch",
    statements: ({ words: { integer } }) => [
      // First, for the same reasons: a process that would not keep the numbers completes nothing afterwards.
      "alter table listing_mark rename to listing_stretch",
      ...["lowest", "highest"].map(
        (name) => `alter table listing_stretch add column ${name} ${integer} not null default 0`,
      ),
      `update listing_stretch set lowest = made.lowest, highest = made.highest from (
          select l.n as listing, a.created_at / ${STRETCH_MS} as stretch, min(a.n) as lowest, max(a.n) as highest
          from listing_count as l
          join artifact as a on a.dock_id = l.dock_id and a.face = l.face and a.status = 'upload_completed'
          group by 1, 2
        ) as made
        where listing_stretch.listing = made.listing and listing_stretch.stretch = made.stretch`,
    ],
  },
  {
    name: "what is due, by status",
    // An older process finds its rows as before, sorting them.
    statements: () => [
      "drop index artifact_due",
      "create index artifact_due on artifact (status, due_at, id) where due_at is not null",
    ],
  },
];

/** The newest schema that this program knows. */
export const SCHEMA_VERSION: number = MIGRATIONS.length;

/** The database was written by a later version of docyard: nothing in it may be touched. */
export class NewerSchemaError extends Error {
  override readonly name = "NewerSchemaError";
  constructor(found: number) {
    super(`database schema ${found} is newer than this docyard (knows ${SCHEMA_VERSION}): upgrade docyard`);
  }
}

/** The number of the last step applied; the table of steps must exist. */
export function* schemaVersion({ db }: Dialect): Sql<number> {
  const query: Query<{ number: number }> = db
    .selectFrom("migration")
    .select("number")
    .orderBy("number", "desc")
    .limit(1)
    .compile();
  const last = yield* first(query);
  return last?.number ?? 0;
}

/**
 * Applies what is missing, in order. Must run alone in one transaction; repeating it is harmless.
 * @param now milliseconds since 1970 UTC, for the record
 * @throws NewerSchemaError
 */
export function* migrate(dialect: Dialect, now: number): Sql<Migrated> {
  const { db, words } = dialect;
  const run = (text: string): Query => ({ sql: text, parameters: [] });
  yield* all(
    run(`create table if not exists migration (
      number ${words.integer} primary key,
      name ${words.text} not null,
      applied_at ${words.integer} not null
    )${words.table}`),
  );
  const from = yield* schemaVersion(dialect);
  if (from > SCHEMA_VERSION) throw new NewerSchemaError(from);
  for (const [index, migration] of MIGRATIONS.entries()) {
    const number = index + 1;
    if (number <= from) continue;
    for (const text of migration.statements(dialect)) yield* all(run(text));
    const { name } = migration;
    yield* all(db.insertInto("migration").values({ number, name, applied_at: now }).compile());
  }
  return { from, to: SCHEMA_VERSION };
}
