/**
 * PostgreSQL's side of the `Dialect`: its words, and the name index as trigrams in a GIN index that leads with the dock.
 * Connections and transactions are `postgres-connection.ts`.
 */

import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  sql,
} from "kysely";
import { postgresCandidates } from "./postgres-candidates.ts";
import type { Schema } from "./schema.ts";
import type { Dialect, NameIndex } from "./sql.ts";

/** A trigram index answers for three code points and more. */
const TRIGRAM = 3;
/** The number of the lock that loads take: next to the one of migrations. */
const LOAD_LOCK = "28269970699940453";

const db = new Kysely<Schema>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
});

/** The database keeps the index by itself; the planner recognises it by the status, which is written out for that. */
const trigramIndex: NameIndex = {
  create: [
    // Both are trusted extensions: the owner of a database may create them.
    "create extension if not exists pg_trgm",
    "create extension if not exists btree_gin",
    `create index artifact_name on artifact using gin (dock_id, face, folded gin_trgm_ops)
      where status = 'upload_completed'`,
  ],
  write: null,
  serves: (part) => Array.from(part).length >= TRIGRAM,
  values: ({ dockId, face, part, documents }) => ({
    part,
    documents,
    nameDock: dockId,
    nameFace: face,
    // As a pattern in which everything is literal.
    namePattern: `%${part.replaceAll(/[\\%_]/g, "\\$&")}%`,
  }),
  matches: (p) => sql<boolean>`a.dock_id = ${p["nameDock"]} and a.face = ${p["nameFace"]}
    and a.status = 'upload_completed' and a.folded like ${p["namePattern"]}`,
  count: (p) => sql<{ total: number; lowest: number | null; highest: number | null }>`select
      count(*) as total, min(a.n) as lowest, max(a.n) as highest from artifact as a
    where a.dock_id = ${p["nameDock"]} and a.face = ${p["nameFace"]}
      and a.status = 'upload_completed' and a.folded like ${p["namePattern"]}`,
  candidates: postgresCandidates(db),
};

export const postgresDialect: Dialect = {
  db,
  words: {
    integer: "bigint",
    serial: "bigint generated always as identity primary key",
    real: "double precision",
    // By code point, whatever the database's own order is.
    text: 'text collate "C"',
    table: "",
    clustered: "",
  },
  lock: sql`for update`,
  loadAlone: { sql: `select pg_advisory_xact_lock(${LOAD_LOCK})`, parameters: [] },
  contains: (text, part) => sql<boolean>`strpos(${text}, ${part}) > 0`,
  // It changes nothing, but a subselect that has it is never made a join.
  oneByOne: sql`offset 0`,
  beginning: (select, order, length) => sql`(${select} ${order} limit ${length})`,
  names: trigramIndex,
};
