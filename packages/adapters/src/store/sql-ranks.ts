/**
 * Pages out of the middle of the many rows whose name has a part: the name index knows their numbers, and rows are
 * numbered nearly in the list's order, so that counting up to the right number replaces sorting them all. Where the
 * order of numbers is not the list's, the marks tell; how many there are in all is `sql-totals.ts`.
 */

import { compareNewestFirst } from "@docyard/core";
import type { SummaryRow } from "./schema.ts";
import type { MarkedListing, Marks } from "./sql-marks.ts";
import type { Pages, Shape } from "./sql-page.ts";
import { positionOf } from "./sql-page.ts";
import type { Changed } from "./sql-recent.ts";
import type { Counted, Question, Rung, Totals } from "./sql-totals.ts";
import type { Dialect, Sql, Values } from "./sql.ts";

/** Rows that are read beyond a page at either end, so that its ends need not be found to the row. */
const SLACK = 16;
/** Names without the part that the index is read past while one with it is counted. */
const ROWS_A_MATCH = 8;
/** Most rows, with the part or without, about which numbers and times may disagree where a page is cut. */
const ASTRAY_MAX = 1_000;

/** A search by name alone, and what has been counted of it. */
export interface Named {
  readonly listing: MarkedListing & Changed;
  /** The search as the name index takes it. */
  readonly search: Values;
  /** The walk of the list that compares each name. */
  readonly shape: Shape;
  readonly values: Values;
  readonly question: Question;
  readonly counted: Counted;
  /** No row has a higher number. */
  readonly largest: number;
}

/** Where rows with lower numbers end. */
interface Edge {
  /** No row below was created later. */
  readonly last: number;
  /** Those that match, were not created later either, and yet are above. */
  readonly late: readonly SummaryRow[];
}

/**
 * Makes the operation that reads a page so far from the newest match, in any order; null where it can't be told without
 * sorting. The page must not reach beyond the last match. Null for a name index that tells no numbers.
 */
export function ranksSql(
  { names: { among, numbers } }: Dialect,
  { pages, totals, marks }: { readonly pages: Pages; readonly totals: Totals; readonly marks: Marks },
): ((named: Named, offset: number, limit: number) => Sql<readonly SummaryRow[] | null>) | null {
  if (among === undefined || numbers === undefined) return null;
  /** Narrowed for good. */
  const within = among;

  /**
   * A number with so many matches below it: not fewer than `least`, nor more than `most`. Null where counts contradict
   * each other, as in an index that is damaged.
   */
  function* rungBetween(
    { listing, search, question, counted, largest }: Named,
    least: number,
    most: number,
  ): Sql<Rung | null> {
    const { lowest, highest } = counted;
    const rungs = [
      { below: lowest, total: 0 },
      ...totals.rungs(listing, question).filter(({ below }) => below > lowest && below <= highest),
      { below: highest + 1, total: counted.total },
    ];
    const known = rungs.find(({ total }) => total >= least && total <= most);
    if (known !== undefined) return known;
    let low = rungs.findLast(({ total }) => total < least)!;
    let high = rungs.find(({ total }) => total > most)!;
    // Where matches are dense in one place and rare in another, halving is quicker than guessing.
    for (let isGuess = true; ; isGuess = !isGuess) {
      const matches = high.total - low.total;
      const share = ((least + most) / 2 - low.total) / matches;
      const width = high.below - low.below;
      if (width < 2) return null;
      const step = Math.floor(width * (isGuess ? share : 1 / 2));
      const below = low.below + Math.min(Math.max(step, 1), width - 1);
      // A search goes on behind its range until it meets a match: behind the last one until the end of the index.
      const behind = high.total < counted.total ? 0 : largest - highest;
      const isFromLow = share * matches <= (1 - share) * matches + behind / ROWS_A_MATCH;
      const range = isFromLow ? within(search, low.below, below) : within(search, below, high.below);
      const { total: between } = yield* pages.countNames(range);
      const rung = { below, total: isFromLow ? low.total + between : high.total - between };
      totals.addRung(listing, question, rung);
      if (rung.total < least) low = rung;
      else if (rung.total > most) high = rung;
      else return rung;
    }
  }

  /** Null where numbers and times disagree about too many rows. */
  function* edgeAt({ listing, shape, values }: Named, n: number): Sql<Edge | null> {
    const last = yield* marks.lastTime(listing, n - 1);
    const first = yield* marks.firstTime(listing, n);
    if (first > last) return { last, late: [] };
    const between = { ...shape, createdAfter: true, createdBefore: true };
    const range = { ...values, createdAfter: first, createdBefore: last + 1 };
    const any = { ...between, contains: false };
    if ((yield* pages.position(any, range, { offset: ASTRAY_MAX, limit: 1 })) !== undefined) return null;
    const astray = yield* pages.rows(between, range, { limit: ASTRAY_MAX });
    return { last, late: astray.filter((row) => row.n >= n) };
  }

  return function* (named, offset, limit) {
    const { total } = named.counted;
    const [begin, end] = [total - offset, total - offset - limit];
    const upper = yield* rungBetween(named, begin, Math.min(total, begin + SLACK));
    const lower = yield* rungBetween(named, Math.max(0, end - SLACK), end);
    if (upper === null || lower === null) return null;
    const above = upper.total === total ? NOTHING_BEYOND : yield* edgeAt(named, upper.below);
    const under = lower.total === 0 ? NOTHING_BEYOND : yield* edgeAt(named, lower.below);
    if (above === null || under === null) return null;
    const between = yield* pages.byNumbers(yield* numbers(within(named.search, lower.below, upper.below)));
    // All matches that were created up to a moment and after another one, and how many come before them.
    const sure = [...between, ...above.late].filter((row) => row.created_at > under.last);
    const before = total - upper.total - above.late.length;
    sure.sort((a, b) => compareNewestFirst(positionOf(a), positionOf(b)));
    const page = sure.slice(offset - before, offset - before + limit);
    return page.length === limit ? page : null;
  };
}

const NOTHING_BEYOND: Edge = { last: Number.NEGATIVE_INFINITY, late: [] };
