/**
 * The statements behind a list: one shape of query in, its count, its page or its candidates out.
 * Which shape answers a query best is chosen in `sql-plan.ts`.
 */

import type { ArtifactStatus, Face, Position } from "@docyard/core";
import { SINGLE_SOURCE_BYTES_MAX } from "@docyard/core";
import type { RawBuilder } from "kysely";
import { sql } from "kysely";
import type { ArtifactRow, SummaryRow } from "./schema.ts";
import { SUMMARY_COLUMNS } from "./schema.ts";
import type { Counted } from "./sql-totals.ts";
import { NONE } from "./sql-totals.ts";
import type { Dialect, Sql, Values } from "./sql.ts";
import { all, first, integer, statement, statements, text } from "./sql.ts";

/** Everything about a walk that is SQL text; the rest is values. */
export interface Shape {
  /** `list`: rows of a dock, face and status. `term`: postings of `term0`. `name`: what the name index finds. */
  readonly driver: "list" | "term" | "name";
  /**
   * Face and statuses that a `list` walks; no status for the other drivers. Written out in the text, not bound: SQLite
   * compiles a statement anew each time it is run when a parameter decides whether a partial index can serve it.
   */
  readonly face: Face;
  readonly statuses: readonly ArtifactStatus[];
  /** How many terms a row must have: `term0`, `term1` … */
  readonly terms: number;
  /** Whether the folded name must contain `part`. */
  readonly contains: boolean;
  /** Whether the media type must be `mediaType` (where no term says it). */
  readonly media: boolean;
  readonly createdAfter: boolean;
  readonly createdBefore: boolean;
}

/** Which rows of a walk, in the list's order. */
export interface Range {
  /** Strictly after this position. */
  readonly after?: Position | undefined;
  /** Up to this position, which belongs to it. */
  readonly until?: Position | undefined;
  readonly offset?: number;
  readonly limit: number;
  /** From the end of the list: offset and limit count from there. */
  readonly backwards?: boolean;
}

/** As little of a row as shows whether it matches and where it stands. */
export interface Candidate {
  readonly n: number;
  readonly created_at: number;
  readonly id: string;
  readonly metadata: string;
}

export interface Pages {
  count(shape: Shape, values: Values): Sql<number>;
  countNames(values: Values): Sql<Counted>;
  /** Rows in any order. */
  rows(shape: Shape, values: Values, range: Range): Sql<readonly SummaryRow[]>;
  /** In the list's order. */
  candidates(shape: Shape, values: Values, range: Range): Sql<readonly Candidate[]>;
  /** The position so many rows down the walk, or undefined past its end. */
  position(shape: Shape, values: Values, range: Range): Sql<Position | undefined>;
  /** Rows by their numbers, in any order. */
  byNumbers(numbers: readonly number[]): Sql<readonly NumberedRow[]>;
}

/** With the name as a search compares it. */
export type NumberedRow = SummaryRow & Pick<ArtifactRow, "folded">;

/** The columns of a `SummaryRow`, of the table aliased `a`. */
const SUMMARY: Fragment = sql.join([
  ...["n", ...SUMMARY_COLUMNS].map((column) => sql.ref(`a.${column}`)),
  sql`case when octet_length(a.source) <= ${sql.lit(SINGLE_SOURCE_BYTES_MAX)} then a.source end as source`,
]);

/** Numbers in one `in` list: shorter lists are filled up, so that there are few statements. */
const NUMBERS = [20, 200] as const;

export function pageSql(dialect: Dialect): Pages {
  const { db } = dialect;
  const counts = statements<Values, { total: number }>();
  const pages = statements<Values, SummaryRow>();
  const candidates = statements<Values, Candidate>();
  const positions = statements<Values, { created_at: number; id: string }>();
  const names = statement((p: Values) => ({ compile: () => dialect.names.count(p).compile(db) }));
  const numbered = statements<Values, NumberedRow>();
  const compiled = <R>(query: RawBuilder<R>) => ({ compile: () => query.compile(db) });

  return {
    *count(shape, values) {
      const query = counts(keyOf(shape), (p) => compiled(countQuery(dialect, shape, p)));
      return (yield* first(query(values)))!.total;
    },
    *countNames(values) {
      const { total, lowest, highest } = (yield* first(names(values)))!;
      return lowest === null || highest === null ? NONE : { total, lowest, highest };
    },
    *rows(shape, values, range) {
      const query = pages(keyOf(shape, range), (p) => compiled(rowsQuery(dialect, shape, range, p)));
      return yield* all(query({ ...values, ...rangeValues(range) }));
    },
    *candidates(shape, values, range) {
      const query = candidates(keyOf(shape, range), (p) =>
        compiled(candidatesQuery(dialect, shape, range, p)),
      );
      return yield* all(query({ ...values, ...rangeValues(range) }));
    },
    *position(shape, values, range) {
      const query = positions(keyOf(shape, range), (p) => compiled(walkQuery(dialect, shape, range, p)));
      const row = yield* first(query({ ...values, ...rangeValues(range) }));
      return row === undefined ? undefined : positionOf(row);
    },
    *byNumbers(wanted) {
      const rows: NumberedRow[] = [];
      const [few, many] = NUMBERS;
      for (let from = 0; from < wanted.length;) {
        const size = wanted.length - from > few ? many : few;
        const chunk = wanted.slice(from, from + size);
        const query = numbered(String(size), (p) => {
          const places = Array.from({ length: size }, (_, i) => p[`n${i}`] as number);
          return compiled<NumberedRow>(
            sql`select ${SUMMARY}, a.folded from artifact as a where a.n in (${sql.join(places)})`,
          );
        });
        const values = Array.from({ length: size }, (_, i) => [`n${i}`, chunk[i] ?? chunk[0]]);
        rows.push(...(yield* all(query(Object.fromEntries(values) as Values))));
        from += size;
      }
      return rows;
    },
  };
}

export function positionOf(row: { readonly created_at: number; readonly id: string }): Position {
  return { createdAt: row.created_at, id: row.id };
}

/** Equal keys mean equal SQL. */
function keyOf(shape: Shape, range?: Range): string {
  const flags = [shape.contains, shape.media, shape.createdAfter, shape.createdBefore];
  if (range !== undefined) {
    flags.push(range.after !== undefined, range.until !== undefined, range.backwards === true);
  }
  const { driver, face, statuses, terms } = shape;
  return `${driver} ${face} ${statuses.join("+")} ${terms} ${flags.map(Number).join("")}`;
}

function rangeValues({ after, until, offset = 0, limit }: Range): Values {
  return {
    afterAt: after?.createdAt,
    afterId: after?.id,
    untilAt: until?.createdAt,
    untilId: until?.id,
    offset,
    limit,
  };
}

type Fragment = RawBuilder<unknown>;

/** The table that the walk goes through: it has `created_at`, `id` and `n`. */
const walked = (shape: Shape): Fragment => sql.raw(shape.driver === "term" ? "p" : "a");

/**
 * Where a walk's rows come from. `cross join` fixes the order of the loops in SQLite: the walk outside, rows inside.
 * @param withRow whether columns of the row itself are needed
 */
function source(shape: Shape, withRow: boolean): Fragment {
  if (shape.driver !== "term") return sql`artifact as a`;
  return withRow ? sql`posting as p cross join artifact as a` : sql`posting as p`;
}

const needsRow = (shape: Shape): boolean => shape.contains || shape.media;

/** Whether a walk reads entries of one index and nothing else. */
export function isIndexOnly(shape: Shape): boolean {
  return !needsRow(shape) && shape.driver !== "name" && shape.terms < 2;
}

interface RowConditions {
  readonly statuses: readonly ArtifactStatus[];
  readonly withRow: boolean;
  /** Whether only the first rows are wanted that have all terms: each is looked up then, as the walk comes by. */
  readonly isWalk: boolean;
}

function conditions(
  dialect: Dialect,
  shape: Shape,
  p: Values,
  { statuses, withRow, isWalk }: RowConditions,
): Fragment[] {
  const at = walked(shape);
  const oneByOne = (isWalk ? dialect.oneByOne : undefined) ?? sql``;
  const where: Fragment[] = [];
  if (shape.driver === "list") {
    where.push(sql`a.dock_id = ${text(p["dockId"])}`, sql`a.face = ${sql.lit(shape.face)}`);
    where.push(sql`a.status in (${sql.join(statuses.map((status) => sql.lit(status)))})`);
  } else if (shape.driver === "term") {
    where.push(sql`p.term = ${integer(p["term0"])}`);
    if (withRow) where.push(sql`a.n = p.n`);
  } else {
    where.push(dialect.names.matches(p));
  }
  if (shape.createdAfter) where.push(sql`${at}.created_at >= ${p["createdAfter"]}`);
  if (shape.createdBefore) where.push(sql`${at}.created_at < ${p["createdBefore"]}`);
  for (let i = shape.driver === "term" ? 1 : 0; i < shape.terms; i++) {
    where.push(sql`exists (select 1 from posting as q
      where q.term = ${integer(p[`term${i}`])} and q.created_at = ${at}.created_at and q.id = ${at}.id ${oneByOne})`);
  }
  if (shape.contains) where.push(dialect.contains(sql`a.folded`, p["part"] as string));
  if (shape.media) where.push(sql`a.media_type = ${text(p["mediaType"])}`);
  return where;
}

const both = (parts: readonly Fragment[]): Fragment => sql.join([...parts], sql` and `);

function countQuery(dialect: Dialect, shape: Shape, p: Values): RawBuilder<{ total: number }> {
  const withRow = needsRow(shape);
  return sql`select count(*) as total from ${source(shape, withRow)}
    where ${both(conditions(dialect, shape, p, { statuses: shape.statuses, withRow, isWalk: false }))}`;
}

/** One walk in order, cut to its range. Several statuses are walked side by side and merged. */
function walkQuery<R>(
  dialect: Dialect,
  shape: Shape,
  range: Range,
  p: Values,
  columns: Fragment | null = null,
): RawBuilder<R> {
  const at = walked(shape);
  const withRow = needsRow(shape) || columns !== null;
  const selected = columns ?? sql`${at}.n, ${at}.created_at, ${at}.id`;
  const limits: Fragment[] = [];
  if (range.after !== undefined) {
    limits.push(sql`(${at}.created_at, ${at}.id) < (${p["afterAt"]}, ${p["afterId"]})`);
  }
  if (range.until !== undefined) {
    limits.push(sql`(${at}.created_at, ${at}.id) >= (${p["untilAt"]}, ${p["untilId"]})`);
  }
  const one = (...statuses: ArtifactStatus[]): Fragment => {
    const where = [...conditions(dialect, shape, p, { statuses, withRow, isWalk: true }), ...limits];
    return sql`select ${selected} from ${source(shape, withRow)} where ${both(where)}`;
  };
  const direction = sql.raw(range.backwards === true ? "asc" : "desc");
  const cut = sql`limit ${integer(p["limit"])} offset ${integer(p["offset"])}`;
  if (shape.statuses.length < 2) {
    return sql`${one(...shape.statuses)} order by ${at}.created_at ${direction}, ${at}.id ${direction} ${cut}`;
  }
  const order = sql`order by ${at}.created_at ${direction}, ${at}.id ${direction}`;
  const length = sql`${integer(p["limit"])} + ${integer(p["offset"])}`;
  const arms = shape.statuses.map((status) => dialect.beginning?.(one(status), order, length) ?? one(status));
  return sql`${sql.join(arms, sql` union all `)} order by created_at ${direction}, id ${direction} ${cut}`;
}

function candidatesQuery(dialect: Dialect, shape: Shape, range: Range, p: Values): RawBuilder<Candidate> {
  return walkQuery(dialect, shape, range, p, sql`a.n, a.created_at, a.id, a.metadata`);
}

/** Rows are fetched after the cut where that spares reading the ones that an offset skips. */
function rowsQuery(dialect: Dialect, shape: Shape, range: Range, p: Values): RawBuilder<SummaryRow> {
  const isOfPostings = shape.driver === "term" && !needsRow(shape);
  // What is sorted is sorted without the rest of each row.
  const isSorted = shape.driver === "name" || shape.statuses.length > 1;
  if (!isOfPostings && !isSorted) return walkQuery(dialect, shape, range, p, SUMMARY);
  return sql`select ${SUMMARY} from (${walkQuery(dialect, shape, range, p)}) as w cross join artifact as a
    where a.n = w.n`;
}
