/**
 * Databases as earlier versions left them, for tests of the upgrade: their tables from frozen statements, their rows from
 * SQL of its own, so that nothing here depends on what today's code writes.
 */

import { readFile } from "node:fs/promises";
import type { ArtifactStatus, Usage } from "@docyard/core";

/** Rows of an upgrade: enough for more than one page of anything, or as many as a busy year makes. */
export const UPGRADE_ROWS: number = process.env["DOCYARD_TEST_FULL"] === "1" ? 100_000 : 2_000;

/** A day of its own in the dock's log for each row, and one more that no row is left of. */
export const UPGRADE_DOCKS: readonly string[] = ["dock_0", "dock_1", "dock_2", "dock_3", "dock_gone"];

/** What differs between the databases. */
export interface Words {
  readonly name: "sqlite" | "postgres";
  /** Rows with the numbers 1 to `rows` as `i`. */
  readonly series: (rows: number) => string;
  /** The number `i` as digits. */
  readonly padded: (length: number) => string;
}

export const SQLITE: Words = {
  name: "sqlite",
  series: (rows) =>
    `(with recursive s(i) as (select 1 union all select i + 1 from s where i < ${rows}) select i from s)`,
  padded: (length) => `printf('%0${length}d', i)`,
};

export const POSTGRES: Words = {
  name: "postgres",
  series: (rows) => `generate_series(1, ${rows}) as i`,
  padded: (length) => `lpad(i::text, ${length}, '0')`,
};

/** Between two rows: some of them share a stretch of time, and there are many stretches. */
const SPACING_MS = 400_000;
/** What a listing's marks count by, for ever. */
const STRETCH_MS = 1_048_576;

/** One row in ten has each of these, the others are completed. */
const OTHERS: readonly ArtifactStatus[] = ["created", "upload_started", "upload_failed", "deleted"];

/** The frozen statements of schema 1. */
export function schemaOne({ name }: Words): Promise<string> {
  return readFile(new URL(`./fixtures/schema-1.${name}.sql`, import.meta.url), "utf8");
}

/** Fills a database of schema 1: rows, events, and the indexes of completed rows. */
export function fillOne({ name, series, padded }: Words, rows: number): string[] {
  const status = `case i % 10 ${OTHERS.map((other, n) => `when ${n} then '${other}'`).join(" ")}
    else 'upload_completed' end`;
  return [
    `insert into artifact (id, dock_id, face, version, status, filename, folded, content_type, size, digest,
        metadata, source, upload_id, storage_key, blob_key, shares_blob, attempts, created_by, created_at, updated_at)
      select 'art_' || ${padded(8)}, 'dock_' || (i % 4), 'machine', 1, ${status}, 'scan ' || i || '.pdf',
        'scan ' || i || '.pdf', 'application/pdf', case when i % 7 = 0 then null else i * 1000 end, ${padded(64)},
        '{"a":' || (i % 3) || '}', '{"kind":"upload"}', 'upload_' || i, 'docks/' || i,
        case when i % 10 > 3 then 'docks/' || i else null end, 0, 0, 'mc_1',
        cast(i as bigint) * ${SPACING_MS}, cast(i as bigint) * ${SPACING_MS}
      from ${series(rows)}`,
    `insert into event (dock_id, seq, artifact_id, type, at, "by", data)
      select dock_id, row_number() over (partition by dock_id order by n), id, 'artifact.created', created_at, 'mc_1', '{}'
      from artifact`,
    "insert into dock_log (dock_id, seq) select dock_id, max(seq) from event group by dock_id",
    "insert into dock_log (dock_id, seq) values ('dock_gone', 7)",
    `insert into listing (dock_id, face, completed, changes)
      select dock_id, face, count(*), count(*) from artifact where status = 'upload_completed'
      group by dock_id, face order by dock_id`,
    `insert into term (listing, path, value, documents)
      select l.n, '"a"', ${name === "sqlite" ? "a.metadata ->> 'a'" : "a.metadata::json ->> 'a'"}, count(*)
      from artifact as a join listing as l on l.dock_id = a.dock_id and l.face = a.face
      where a.status = 'upload_completed' group by 1, 2, 3 order by 1, 3`,
    `insert into posting (term, created_at, id, n)
      select t.id, a.created_at, a.id, a.n from artifact as a
      join listing as l on l.dock_id = a.dock_id and l.face = a.face
      join term as t on t.listing = l.n and t.value = ${name === "sqlite" ? "a.metadata ->> 'a'" : "a.metadata::json ->> 'a'"}
      where a.status = 'upload_completed'`,
    ...(name === "sqlite"
      ? [
          `insert into artifact_name (rowid, folded) select (l.n << 40) + a.n, a.folded from artifact as a
            join listing as l on l.dock_id = a.dock_id and l.face = a.face where a.status = 'upload_completed'`,
        ]
      : []),
    `insert into account (kind, id, handle, organization_id, created_at, body)
      values ('organization', 'org_1', 'org_1', 'org_1', 1,
        '{"kind":"organization","id":"org_1","name":"Clinic","createdAt":1}')`,
  ];
}

/** What each dock must be said to hold, from the numbers alone. */
export function usagesOf(rows: number): Map<string, Usage> {
  const usages = new Map(UPGRADE_DOCKS.map((dockId) => [dockId, { artifacts: 0, open: 0, bytes: 0 }]));
  for (let i = 1; i <= rows; i++) {
    if (i % 10 === 2 || i % 10 === 3) continue;
    const usage = usages.get(`dock_${i % 4}`)!;
    usage.artifacts += 1;
    if (i % 10 < 2) usage.open += 1;
    if (i % 7 !== 0) usage.bytes += i * 1000;
  }
  return usages;
}

/** The frozen statements by which schema 1 became 2. */
function stepTwo({ name }: Words): string[] {
  const integer = name === "sqlite" ? "integer" : "bigint";
  return [
    "alter table dock_log rename to dock_count",
    `alter table dock_count add column artifacts ${integer} not null default 0`,
    `alter table dock_count add column open ${integer} not null default 0`,
    `alter table dock_count add column bytes ${integer} not null default 0`,
    `insert into dock_count (dock_id, seq, artifacts, open, bytes)
      select dock_id, 0, count(*), sum(case when status = 'upload_completed' then 0 else 1 end),
        coalesce(sum(size), 0)
      from artifact where status in ('created', 'upload_started', 'upload_completed') group by dock_id
      on conflict (dock_id) do update
        set artifacts = excluded.artifacts, open = excluded.open, bytes = excluded.bytes`,
    "insert into migration (number, name, applied_at) values (2, 'usage of each dock', 1790000000001)",
  ];
}

/** The frozen statements by which schema 2 became 3. */
function stepThree({ name }: Words): string[] {
  const integer = name === "sqlite" ? "integer" : "bigint";
  return [
    "alter table listing rename to listing_count",
    // As it was written: SQLite keeps the very text.
    `create table listing_mark (
        listing ${integer} not null,
        stretch ${integer} not null,
        documents ${integer} not null,
        primary key (listing, stretch)
      )${name === "sqlite" ? " strict, without rowid" : ""}`,
    `insert into listing_mark (listing, stretch, documents)
      select l.n, a.created_at / ${STRETCH_MS}, count(*) from listing_count as l
      join artifact as a on a.dock_id = l.dock_id and a.face = l.face and a.status = 'upload_completed'
      group by 1, 2`,
    "insert into migration (number, name, applied_at) values (3, 'marks in each listing', 1790000000002)",
  ];
}

/** The frozen statements by which schema 3 became 4. */
function stepFour({ name }: Words): string[] {
  const integer = name === "sqlite" ? "integer" : "bigint";
  return [
    "alter table listing_mark rename to listing_stretch",
    `alter table listing_stretch add column lowest ${integer} not null default 0`,
    `alter table listing_stretch add column highest ${integer} not null default 0`,
    `update listing_stretch set lowest = made.lowest, highest = made.highest from (
        select l.n as listing, a.created_at / ${STRETCH_MS} as stretch, min(a.n) as lowest, max(a.n) as highest
        from listing_count as l
        join artifact as a on a.dock_id = l.dock_id and a.face = l.face and a.status = 'upload_completed'
        group by 1, 2
      ) as made
      where listing_stretch.listing = made.listing and listing_stretch.stretch = made.stretch`,
    "insert into migration (number, name, applied_at) values (4, 'row numbers of each stretch', 1790000000003)",
  ];
}

/** All statements by which schema 1 became that one. */
export function stepsTo(schema: OldSchema, words: Words): string[] {
  return [stepTwo, stepThree, stepFour].slice(0, schema - 1).flatMap((step) => step(words));
}

export type Mark = [dock: string, stretch: number, documents: number, lowest: number, highest: number];

/** The marks of each dock's listing, in order, from the numbers alone. */
export function marksOf(rows: number): Mark[] {
  const marks = new Map<string, Mark>();
  for (let i = 1; i <= rows; i++) {
    if (i % 10 < OTHERS.length) continue;
    const [dock, stretch] = [`dock_${i % 4}`, Math.floor((i * SPACING_MS) / STRETCH_MS)];
    const mark = marks.get(`${dock} ${stretch}`) ?? [dock, stretch, 0, i, i];
    mark[2]++;
    mark[4] = i;
    marks.set(`${dock} ${stretch}`, mark);
  }
  return [...marks.values()].sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x - y));
}

/** Asks for what `marksOf` gives. */
export const MARKS = `select l.dock_id, m.stretch, m.documents, m.lowest, m.highest
  from listing_stretch as m join listing_count as l on l.n = m.listing order by 1, 2`;

export type OldSchema = 1 | 2 | 3 | 4;
/** Today's. */
export const NEWEST = 5;
export type SchemaNumber = OldSchema | typeof NEWEST;

/** All rows that an upgrade must leave as they are, table by table, each in an order; as a schema calls the tables. */
export function kept(schema: SchemaNumber): string[] {
  return [
    "select * from artifact order by id",
    "select * from event order by dock_id, seq",
    `select * from ${schema < 3 ? "listing" : "listing_count"} order by n`,
    "select * from term order by id",
    "select * from posting order by term, created_at, id",
    "select * from account order by kind, id",
    `select dock_id, seq from ${schema < 2 ? "dock_log" : "dock_count"} order by dock_id`,
  ];
}

/** The statement by which docyard 0.1 counts an event: after the upgrade it must fail, for it counts nothing else. */
export const COUNT_OF_OLD =
  "insert into dock_log (dock_id, seq) values ('dock_0', 1) on conflict (dock_id) do update set seq = dock_log.seq + 1";

/** The statement by which schema 2 counts a completed row: after the upgrade it must fail, for it sets no marks. */
export const JOIN_OF_TWO = "update listing set completed = completed + 1, changes = changes + 1";

/** The statement by which schema 3 marks a completed row: after the upgrade it must fail, for it keeps no numbers. */
export const MARK_OF_THREE = "update listing_mark set documents = documents + 1";
