/**
 * How both databases answer each shape of list in a dock of many rows: by an index, and without sorting. A hundred
 * thousand rows, or with DOCYARD_TEST_FULL=1 a million, made in bulk so that most of the time goes to the questions.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate as migratePostgres } from "@docyard/adapters/store/postgres";
import { postgresDialect } from "../../packages/adapters/src/store/postgres-dialect.ts";
import { sqliteDialect } from "../../packages/adapters/src/store/sqlite-dialect.ts";
import { migrate as migrateSqlite } from "@docyard/adapters/store/sqlite";
import { artifactSql } from "../../packages/adapters/src/store/sql-artifacts.ts";
import type { DumpPage, DumpStep } from "../../packages/adapters/src/store/sql-dump.ts";
import { dumpSql } from "../../packages/adapters/src/store/sql-dump.ts";
import type { Dialect, Query } from "../../packages/adapters/src/store/sql.ts";
import type { FindQuery, Found } from "@docyard/core";
import SqliteDatabase from "better-sqlite3";
import { Client, types } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FreshDatabase } from "./index.ts";
import { freshDatabase } from "./index.ts";

const ROWS = process.env["DOCYARD_TEST_FULL"] === "1" ? 1_000_000 : 100_000;
/** Making a million rows with their index entries takes most of a minute for each database. */
const FILL_TIMEOUT_MS = 600_000;
/** PostgreSQL decides after five whether one plan for all values is as good. */
const EXECUTIONS = 6;
/** One row of so many has this: each patient, and each year, of a dock. */
const PATIENTS = ROWS / 50;
/** A name that few have, and one that all have. */
const RARE_EVERY = 10_000;

const first = (limit = 20): Pick<FindQuery, "start" | "limit"> => ({ start: { offset: 0 }, limit });
const middle = { createdAt: Math.floor(ROWS / 2), id: "art_x" };

/** Every shape of question that a list can be. */
const SHAPES: readonly (readonly [name: string, query: Omit<FindQuery, "dockId" | "face" | "statuses">])[] = [
  ["the first page", first()],
  ["the longest page", first(1_000)],
  ["a page far down, by offset", { start: { offset: ROWS / 2 }, limit: 20 }],
  ["the last page, by offset", { start: { offset: ROWS - ROWS / 100 - 20 }, limit: 20 }],
  ["a page far down, by cursor", { start: { after: middle }, limit: 20 }],
  ["created after", { ...first(), createdAfter: ROWS - 500 }],
  ["created before", { ...first(), createdBefore: 500 }],
  [
    "created between, by cursor",
    { start: { after: middle }, limit: 20, createdAfter: ROWS / 2 - 500, createdBefore: ROWS / 2 },
  ],
  ["a rare term", { ...first(), filter: { patientId: "17" } }],
  ["a frequent term", { ...first(), filter: { type: "letter" } }],
  ["a frequent term, by cursor", { start: { after: middle }, limit: 20, filter: { type: "letter" } }],
  ["two terms", { ...first(), filter: { type: "letter", patientId: "17" } }],
  ["two frequent terms", { ...first(), filter: { type: "letter", desk: "3" } }],
  ["a term that nothing has", { ...first(), filter: { type: "none" } }],
  ["a term and time", { ...first(), filter: { patientId: "17" }, createdAfter: ROWS / 2 }],
  ["a name that all have", { ...first(), search: "scan" }],
  ["a name that all have, the last page", { start: { offset: ROWS * 0.99 - 20 }, limit: 20, search: "scan" }],
  ["a name that all have, by cursor", { start: { after: middle }, limit: 20, search: "scan" }],
  ["a name and a rare term", { ...first(), search: "scan", filter: { patientId: "17" } }],
  [
    "a name too short for the index, and a rare term",
    { ...first(), search: "1", filter: { patientId: "17" } },
  ],
];

/** A few matches of the name index come in no order: those, and only those, are sorted. */
const SORTED: typeof SHAPES = [
  ["a name that few have", { ...first(), search: "rare" }],
  ["a name that few have, by cursor", { start: { after: middle }, limit: 20, search: "rare" }],
];

interface Subject {
  readonly dialect: Dialect;
  run(query: Query): Promise<readonly unknown[]>;
  /** The plan's lines. */
  explain(query: Query): Promise<string[]>;
  /** A line that sorts. */
  readonly sorts: RegExp;
  /** A line that reads all artifacts, or all postings of a term, from end to end. */
  readonly scans: RegExp;
}

/** Asks a question as a store does, and explains each statement on the way. */
async function ask(
  { dialect, run, explain }: Subject,
  query: FindQuery,
): Promise<{ found: Found; plans: string[][] }> {
  const operation = artifactSql(dialect).find(query);
  const plans: string[][] = [];
  let step = operation.next();
  while (step.done !== true) {
    // What has to be counted is counted once for each change of the dock, and by whatever reads least.
    if (!/^\s*select count/.test(step.value.sql)) plans.push(await explain(step.value));
    step = operation.next(await run(step.value));
  }
  return { found: step.value, plans };
}

function cases(name: string, subject: () => Subject): void {
  describe(`${name}, ${ROWS} rows`, () => {
    const all = (query: (typeof SHAPES)[number][1]): FindQuery => ({
      dockId: "dock_a",
      face: "machine",
      statuses: ["upload_completed"],
      ...query,
    });
    const widened = (query: (typeof SHAPES)[number][1]): FindQuery => ({
      ...all(query),
      statuses: ["created", "upload_completed", "upload_failed"],
    });

    test.each(SHAPES)("%s: by an index, nothing sorted", async (_, query) => {
      const { plans } = await ask(subject(), all(query));
      const lines = plans.flat();
      expect(lines.filter((line) => subject().sorts.test(line))).toEqual([]);
      expect(lines.filter((line) => subject().scans.test(line))).toEqual([]);
    });

    test.each(SHAPES.filter(([, { search, filter }]) => search === undefined && filter === undefined))(
      "%s, of several statuses: by an index, merged and not sorted",
      async (_, query) => {
        const { plans } = await ask(subject(), widened(query));
        const lines = plans.flat();
        expect(lines.filter((line) => subject().sorts.test(line))).toEqual([]);
        expect(lines.filter((line) => subject().scans.test(line))).toEqual([]);
      },
    );

    test("a walk, the pages of a dump, and usage: by an index, nothing sorted", async () => {
      const { dialect, explain } = subject();
      const artifacts = artifactSql(dialect);
      const half = `art_${String(ROWS / 2).padStart(8, "0")}`;
      // With no answers a dump asks for the first page of everything; whose pages are by time or by id is one statement.
      const pages: Query[] = [];
      for (let step: DumpStep | null = dumpSql(dialect); step !== null;) {
        const asked = step();
        pages.push(asked.next().value as Query);
        ({ next: step } = asked.next([]).value as DumpPage);
      }
      const queries = [
        artifacts.walk(half, 1_000).next().value as Query,
        artifacts.usage("dock_a").next().value as Query,
        ...pages.filter(({ sql }) => /from "(artifact|event)"/.test(sql)),
      ];
      expect(queries).toHaveLength(4);
      for (const query of queries) {
        const lines = await explain(query);
        expect(lines.filter((line) => subject().sorts.test(line))).toEqual([]);
        expect(lines.filter((line) => subject().scans.test(line))).toEqual([]);
      }
    });

    test.each(SORTED)("%s: by the name index, and only what it finds is sorted", async (_, query) => {
      const { found, plans } = await ask(subject(), all(query));
      expect(found.total).toBeLessThanOrEqual(ROWS / RARE_EVERY);
      expect(plans.flat().filter((line) => subject().scans.test(line))).toEqual([]);
    });
  });
}

describe("PostgreSQL", () => {
  let database: FreshDatabase;
  let client: Client;
  beforeAll(async () => {
    database = await freshDatabase();
    await migratePostgres({ url: database.url });
    client = new Client({ connectionString: database.url });
    // Counts are numbers, as in the store.
    client.setTypeParser(types.builtins.INT8, Number);
    await client.connect();
    // As the store's own sessions are.
    await client.query("set max_parallel_workers_per_gather = 0; set jit = off");
    await fillPostgres(client);
  }, FILL_TIMEOUT_MS);
  afterAll(async () => {
    await client.end();
    await database.remove();
  });
  let made = 0;
  const bind = ({ sql, parameters }: Query) => ({ text: sql, values: [...parameters] });
  cases("PostgreSQL", () => ({
    dialect: postgresDialect,
    run: async (query) => (await client.query(bind(query))).rows as unknown[],
    async explain(query) {
      // As often as it takes until the server has settled for a plan: for these values, or for any.
      const name = `p${made++}`;
      await client.query(`prepare ${name} as ${query.sql}`);
      const values = query.parameters.map((value) => client.escapeLiteral(String(value))).join(", ");
      const call = values === "" ? name : `${name}(${values})`;
      for (let i = 0; i < EXECUTIONS; i++) await client.query(`execute ${call}`);
      const { rows } = await client.query<{ "QUERY PLAN": string }>(`explain execute ${call}`);
      await client.query(`deallocate ${name}`);
      return rows.map((row) => row["QUERY PLAN"]);
    },
    sorts: /\bSort\b(?! Key)/,
    scans: /Seq Scan on (artifact|posting|event)|(Hash|Merge) Join/,
  }));
});

describe("SQLite", () => {
  let folder: string;
  let db: SqliteDatabase.Database;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "docyard-explain-"));
    const file = join(folder, "docyard.db");
    await migrateSqlite({ file });
    db = new SqliteDatabase(file);
    fillSqlite(db);
  }, FILL_TIMEOUT_MS);
  afterAll(async () => {
    db.close();
    await rm(folder, { recursive: true });
  });
  cases("SQLite", () => ({
    dialect: sqliteDialect,
    run: async ({ sql, parameters }) => db.prepare(sql).all(...parameters),
    async explain({ sql, parameters }) {
      const rows = db.prepare(`explain query plan ${sql}`).all(...parameters) as { detail: string }[];
      return rows.map(({ detail }) => detail);
    },
    sorts: /TEMP B-TREE/,
    scans: /^SCAN (?!.*VIRTUAL TABLE|.*(w|SUBQUERY|CONSTANT))/,
  }));
});

/** Row by row the same in both: `i` counts from 1, one in a hundred is unfinished. */
const status = (i: string): string => `case when ${i} % 100 = 0 then 'created' else 'upload_completed' end`;
const filename = (i: string): string =>
  `'scan ' || ${i} || case when ${i} % ${RARE_EVERY} = 1 then ' rare' else '' end`;
const metadata = (i: string): string =>
  `'{"patientId":"' || (${i} % ${PATIENTS}) || '","type":"' || case when ${i} % 2 = 0 then 'letter' else 'x-ray' end ||
    '","desk":"' || (${i} % 7) || '"}'`;

function insertRows(series: string, hash: string, id: string): string {
  return `insert into artifact (id, dock_id, face, version, status, filename, folded, content_type, size, digest,
      metadata, source, upload_id, storage_key, shares_blob, attempts, created_by, created_at, updated_at)
    select ${id}, 'dock_a', 'machine', 1, ${status("i")}, ${filename("i")}, ${filename("i")}, 'application/pdf', 1,
      ${hash}, ${metadata("i")}, '{"kind":"upload"}', 'upload_' || i, 'docks/' || i, 0, 0, 'mc_1', i, i
    from ${series}`;
}

/** An event for each row, and what the indexes of completed rows hold: a count, terms, and where they are. */
function insertIndexes(valueOf: (field: string) => string): string[] {
  return [
    `insert into event (dock_id, seq, artifact_id, type, at, "by", data)
      select dock_id, n, id, 'artifact.created', created_at, null, '{}' from artifact`,
    `insert into listing_count (dock_id, face, completed, changes)
      select dock_id, face, count(*), count(*) from artifact where status = 'upload_completed' group by dock_id, face`,
    `insert into listing_stretch (listing, stretch, documents, lowest, highest)
      select (select n from listing_count), created_at / 1048576, count(*), min(n), max(n) from artifact
      where status = 'upload_completed' group by 2`,
    // Another listing's, so that the table is worth an index.
    "insert into listing_stretch (listing, stretch, documents, lowest, highest) select 1000, n, 1, n, n from artifact",
    ...["patientId", "type", "desk"].flatMap((field) => [
      `insert into term (listing, path, value, documents)
        select (select n from listing_count), '"${field}"', ${valueOf(field)}, count(*) from artifact as a
        where a.status = 'upload_completed' group by 1, 2, 3`,
      `insert into posting (term, created_at, id, n)
        select t.id, a.created_at, a.id, a.n from artifact as a
        join term as t on t.path = '"${field}"' and t.value = ${valueOf(field)}
        where a.status = 'upload_completed'`,
    ]),
  ];
}

async function fillPostgres(client: Client): Promise<void> {
  const hash = "lpad(to_hex(i), 64, '0')";
  const id = "'art_' || lpad(i::text, 8, '0')";
  await client.query("begin");
  await client.query(insertRows(`generate_series(1, ${ROWS}) as i`, hash, id));
  for (const text of insertIndexes((field) => `((a.metadata::jsonb -> '${field}')::text)`))
    await client.query(text);
  await client.query("commit");
  await client.query("vacuum analyze");
}

function fillSqlite(db: SqliteDatabase.Database): void {
  const hash = "printf('%064x', i)";
  const id = "printf('art_%08d', i)";
  db.pragma("synchronous = off");
  db.transaction(() => {
    const series = `(with recursive s(i) as (select 1 union all select i + 1 from s where i < ${ROWS}) select i from s)`;
    db.exec(insertRows(series, hash, id));
    for (const text of insertIndexes((field) => `(a.metadata -> '${field}')`)) db.exec(text);
    const names = sqliteDialect.names.write!.add({ listing: 1, n: 0, folded: "" });
    // The statement of a single row, for all of them: its three values are the listing, the number and the name.
    const add = db.prepare(names.sql);
    const rows = db.prepare("select n, folded from artifact where status = 'upload_completed'");
    const all = rows.all() as { n: number; folded: string }[];
    for (const { n, folded } of all)
      add.run(...sqliteDialect.names.write!.add({ listing: 1, n, folded }).parameters);
  })();
}
