/**
 * ArtifactStore.find in SQL: counts what a plan's walks match and cuts the page out of them.
 * Choosing the walks is `sql-plan.ts`, their statements are in `sql-page.ts`.
 */

import type { FindQuery, Found } from "@docyard/core";
import { compareNewestFirst } from "@docyard/core";
import { fromSummaryRow } from "./schema.ts";
import type { SummaryRow } from "./schema.ts";
import { countingSql } from "./sql-counting.ts";
import { createKnownPages } from "./sql-known.ts";
import { marksSql } from "./sql-marks.ts";
import { CHECK_BATCH, inOrder, matchesSql } from "./sql-matches.ts";
import type { Candidate, Range, Shape } from "./sql-page.ts";
import { pageSql, positionOf } from "./sql-page.ts";
import type { Asked, Listing, ListWalk, Part, Walk } from "./sql-plan.ts";
import { planSql } from "./sql-plan.ts";
import { ranksSql } from "./sql-ranks.ts";
import type { Recent } from "./sql-recent.ts";
import type { TermSets } from "./sql-sets.ts";
import { untilFinished } from "./sql-slices.ts";
import type { Rung } from "./sql-totals.ts";
import { createTotals } from "./sql-totals.ts";
import type { Dialect, Sql } from "./sql.ts";

/** Rows from which on a page is looked for by marks: fewer are skipped as fast. */
const SEEK_MIN = 1_000;
/** How much further than expected the list is walked for the matches of a search before they are sorted instead. */
const WALK_SLACK = 4;
/** Rows that are walked past while one match is found, read and sorted; a quarter of them, so that trying costs little. */
const WORTH_A_MATCH = 2;

/** Makes the operation; all its queries must see one moment of the database, or all between two pauses. */
export function findSql(dialect: Dialect, recent: Recent, sets: TermSets): (query: FindQuery) => Sql<Found> {
  const pages = pageSql(dialect);
  const totals = createTotals(recent);
  const marks = marksSql(dialect);
  const matchesOf = matchesSql(pages);
  const count = countingSql(dialect, { pages, sets, totals, matchesOf });
  const ranks = ranksSql(dialect, { pages, totals, marks });
  const plans = planSql(dialect, pages, totals);
  const known = createKnownPages();

  /** Rows of a part that SQL decides alone. */
  function* rowsOf(part: Part, range: Range, matches: number): Sql<readonly SummaryRow[]> {
    const { listWalk, named } = part;
    if (listWalk !== null) {
      const isDeep = range.after === undefined && past(listWalk, range, matches) >= SEEK_MIN;
      if (ranks !== null && named !== null && isDeep) {
        const { offset = 0, limit } = forwards(range, matches);
        const ranked = yield* ranks(named, offset, limit);
        if (ranked !== null) return ranked;
      }
      const walked = yield* walkList(part, listWalk, range, matches);
      if (walked !== null) return walked;
    }
    const near = yield* nearer(part, range, matches);
    return yield* pages.rows(near.part.shape, near.part.values, near.range);
  }

  /**
   * Rows that would have to be sorted, out of a list that is in order already: where matches are dense, few others are
   * walked past, from the first match on. Null where they are not, with little lost.
   */
  function* walkList(
    { listing }: Part,
    walk: ListWalk,
    range: Range,
    matches: number,
  ): Sql<readonly SummaryRow[] | null> {
    const { limit, after, backwards = false } = range;
    const far = Math.ceil(past(walk, range, matches) * WALK_SLACK);
    if (far >= matches * WORTH_A_MATCH) return null;
    const begun = after === undefined && listing !== null ? yield* fromFirst(listing, walk, backwards) : walk;
    const { values } = begun;
    const plain = { ...begun.shape, contains: false };
    const end = yield* pages.position(plain, values, { after, offset: far, limit: 1, backwards });
    // A walk from the oldest on ends before a position that others come after.
    const cut = backwards ? { after: end } : { until: end };
    const found = yield* pages.rows(begun.shape, values, { ...range, ...cut });
    return found.length === limit || end === undefined ? found : null;
  }

  /** A walk begun where the first row that can match was created, as its number tells. */
  function* fromFirst(listing: Listing, { shape, values, numbers }: ListWalk, backwards: boolean): Sql<Walk> {
    const { lowest, highest } = numbers;
    const asIs = { shape, values };
    if (shape.createdAfter || shape.createdBefore || !Number.isFinite(backwards ? lowest : highest))
      return asIs;
    const at = { n: listing.n, dockId: values["dockId"] as string, face: shape.face };
    const time = yield* backwards ? marks.firstTime(at, lowest) : marks.lastTime(at, highest);
    return begunAt(asIs, backwards ? time : time + 1, backwards);
  }

  /** The walk to a deep page begun where it is known how many matches come before: by marks, or where a count has rested. */
  function* nearer(part: Part, range: Range, matches: number): Sql<{ part: Part; range: Range }> {
    const { listing, question, shape } = part;
    const { offset = 0, backwards = false } = range;
    const asIs = { part, range };
    if (listing === null || question === null || offset < SEEK_MIN || shape.driver === "name") return asIs;
    let begin: Begin | undefined;
    if (isPlain(shape)) {
      const stretch = yield* marks.seek(listing.n, offset, backwards);
      if (stretch !== undefined) begin = { ...stretch, at: backwards ? stretch.from : stretch.to };
    } else begin = lastRest(totals.rungs(listing, question), { offset, backwards }, matches);
    if (begin === undefined) return asIs;
    const begun = begunAt(part, begin.at, backwards);
    return { part: { ...part, ...begun }, range: { ...range, offset: offset - begin.before } };
  }

  /** Matches of several parts, or of rows that have to be checked, merged in order. */
  function* merged(parts: readonly CountedPart[], range: Range): Sql<readonly SummaryRow[]> {
    const walks = parts.map((part) => matchesOf({ ...part, ...cheaper(part, range) }, range.after));
    const heads: (Candidate | null)[] = [];
    for (const next of walks) heads.push(yield* next());
    const numbers: number[] = [];
    for (let skip = range.offset ?? 0; numbers.length < range.limit; skip--) {
      let newest = -1;
      heads.forEach((head, i) => {
        const best = heads[newest];
        if (head !== null && (best === undefined || best === null || isBefore(head, best))) newest = i;
      });
      const head = heads[newest];
      if (head === undefined || head === null) break;
      if (skip <= 0) numbers.push(head.n);
      heads[newest] = yield* walks[newest]!();
    }
    return yield* pages.byNumbers(numbers);
  }

  /** The rows of a plan's parts: cut out of those that have been read, out of one walk by SQL alone, or merged. */
  function* cut(parts: readonly CountedPart[], range: Range, total: number): Sql<readonly SummaryRow[]> {
    const part = parts.length === 1 ? parts[0]! : undefined;
    if (part !== undefined && part.matches !== null) {
      const { after, offset = 0, limit } = forwards(range, total);
      return inOrder(part.matches, after).slice(offset, offset + limit);
    }
    if (part === undefined) return yield* merged(parts, forwards(range, total));
    if (part.check === null) return yield* rowsOf(part, range, total);
    const near = yield* nearer(part, forwards(range, total), total);
    return yield* merged([{ ...near.part, total }], near.range);
  }

  function* find(query: Asked): Sql<Found> {
    const listing = yield* plans.listing(query);
    const again = listing && known.page(listing, query);
    if (again !== undefined) return again;
    const parts: CountedPart[] = [];
    for (const part of yield* plans.parts(query, listing))
      parts.push({ ...part, total: yield* count(part, query) });
    const matches = parts.reduce((sum, { total }) => sum + total, 0);
    const range = rangeOf(query, matches);
    if (range.limit === 0) return { rows: [], total: matches, more: false };
    const rows = yield* cut(parts, range, matches);
    const sorted = rows.map((row) => fromSummaryRow(row, query)).sort(compareNewestFirst);
    const page = sorted.slice(0, query.limit);
    const { offset } = query.start;
    const more = offset === undefined ? sorted.length > query.limit : offset + page.length < matches;
    const found = { rows: page, total: matches, more };
    if (listing !== undefined) known.remember(listing, query, found, rows);
    return found;
  }

  return (query) => untilFinished((allowance) => find({ ...query, allowance }));
}

/** The rows of a walk that were created before a moment; oldest first, those from it on. */
function begunAt({ shape, values }: Walk, at: number, backwards: boolean): Walk {
  return backwards
    ? { shape: { ...shape, createdAfter: true }, values: { ...values, createdAfter: at } }
    : { shape: { ...shape, createdBefore: true }, values: { ...values, createdBefore: at } };
}

interface CountedPart extends Part {
  readonly total: number;
}

/** A moment at which a walk may begin, and how many matches are on its other side. */
interface Begin {
  readonly at: number;
  readonly before: number;
}

/** The last place before an offset that a count has come past. */
function lastRest(
  rungs: readonly Rung[],
  { offset, backwards }: { readonly offset: number; readonly backwards: boolean },
  matches: number,
): Begin | undefined {
  const rung = backwards
    ? rungs.findLast(({ total }) => total <= offset)
    : rungs.find(({ total }) => matches - total <= offset);
  return rung && { at: rung.below, before: backwards ? rung.total : matches - rung.total };
}

/** The walk of the list, for matches in order that would be sorted once for each batch of them, where that is less work. */
function cheaper({ listWalk, total }: CountedPart, range: Range): Partial<Walk> {
  if (listWalk === null || total === 0) return {};
  const batches = Math.ceil(((range.offset ?? 0) + range.limit) / CHECK_BATCH);
  const isLess = past(listWalk, range, total) <= batches * total * WORTH_A_MATCH;
  return isLess ? { shape: listWalk.shape, values: listWalk.values } : {};
}

/** How many rows a walk comes past until it has a page, if those that match are spread evenly. */
function past({ rows, numbers }: ListWalk, { offset = 0, limit }: Range, matches: number): number {
  const among = Math.min(rows, numbers.highest - numbers.lowest + 1);
  return ((offset + limit) * among) / matches;
}

/** All rows of a listing, and nothing asked of any. */
function isPlain({ driver, terms, contains, media, createdAfter, createdBefore }: Shape): boolean {
  return driver === "list" && terms === 0 && !(contains || media || createdAfter || createdBefore);
}

/** The rows to fetch: a page, and after a position one row more, which says whether there is a next page. */
function rangeOf({ start, limit }: FindQuery, matches: number): Range {
  if (start.after !== undefined) return { after: start.after, limit: matches === 0 ? 0 : limit + 1 };
  const offset = start.offset;
  const length = Math.max(0, Math.min(limit, matches - offset));
  // Past the middle the way from the other end is shorter.
  const fromEnd = matches - offset - length;
  return fromEnd < offset ? { offset: fromEnd, limit: length, backwards: true } : { offset, limit: length };
}

/** The same rows, counted from the top. */
function forwards(range: Range, matches: number): Range {
  if (range.backwards !== true) return range;
  return { offset: matches - (range.offset ?? 0) - range.limit, limit: range.limit };
}

function isBefore(a: Candidate, b: Candidate): boolean {
  return compareNewestFirst(positionOf(a), positionOf(b)) < 0;
}
