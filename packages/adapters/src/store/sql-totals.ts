/**
 * Remembers exact totals that took counting, and how far those have come that take long. They hold until a row joins or
 * leaves the listing, and are then counted on with the rows that did, where all of them are known. Sound across
 * processes, because the listing's change number is read together with the page.
 */

import { setBounded } from "../bounded-map.ts";
import type { AskedRow, Changed, Recent } from "./sql-recent.ts";
import type { Allowance } from "./sql-slices.ts";
import { Unfinished } from "./sql-slices.ts";
import type { Sql } from "./sql.ts";

/** Totals remembered; with the longest key two megabytes, and ten more where all have as many rungs as can be. */
const TOTALS_MAX = 1_000;
/** Longest key, in UTF-16 units: a longer query is counted every time. */
const KEY_MAX = 1_000;
/**
 * Rungs remembered of one total, and one for so many answers in between: of more than that the one goes that the others
 * say most about.
 */
const RUNGS = { least: 32, most: 256, answersToEach: 1_024 };

/** What is counted: how a question is told from others, and whether a row of the listing is an answer to it. */
export interface Question {
  readonly key: readonly unknown[];
  readonly isAnswer: (row: AskedRow) => boolean;
  /** Where a row has its place, as a number, for those who count from place to place. */
  readonly placeOf: (row: AskedRow) => number;
}

/** How many answers there are. */
export interface Counted {
  readonly total: number;
  /** None of them has a lower number, or a higher one. */
  readonly lowest: number;
  readonly highest: number;
}

/** Where nobody knows which numbers they have. */
export const UNKNOWN: Omit<Counted, "total"> = {
  lowest: Number.NEGATIVE_INFINITY,
  highest: Number.POSITIVE_INFINITY,
};
export const NONE: Counted = {
  total: 0,
  lowest: Number.POSITIVE_INFINITY,
  highest: Number.NEGATIVE_INFINITY,
};

/** How many answers have lower places than this. */
export interface Rung {
  readonly below: number;
  readonly total: number;
}

/** How many answers are among the rows with the next places. */
export interface Slice extends Counted {
  /** The place behind them; null where no row has it or a larger one. */
  readonly next: number | null;
}

/** Ways to count the answers to a question. */
export interface Counting {
  whole(): Sql<Counted>;
  /**
   * From a place on, as far as others can be made to wait; absent where they can for all of it.
   * @param from minus infinity at first
   * @param found how many had smaller places
   */
  readonly slice?: (from: number, found: number) => Sql<Slice>;
}

export interface Totals {
  /** The total, if it is remembered; infinity while it is counted in slices, which few answers are not. */
  known(listing: Changed, question: Question): number | undefined;
  /**
   * The total of a question about a listing: remembered, or counted now.
   * @throws Unfinished where it is counted in slices
   */
  of(listing: Changed, question: Question, counting: Counting, allowance: Allowance): Sql<Counted>;
  /** What else is known of a total that is remembered, lowest first. */
  rungs(listing: Changed, question: Question): readonly Rung[];
  /** Remembers one more, where the total is remembered. */
  addRung(listing: Changed, question: Question, rung: Rung): void;
}

/** No row has this place. */
const ALL = Number.POSITIVE_INFINITY;

interface Total extends Counted {
  /** Of the listing, when it was like this. */
  readonly changes: number;
  /** Of the rows with smaller places than this. */
  readonly below: number;
  /** Lowest first. */
  readonly rungs: readonly Rung[];
}

export function createTotals(recent: Recent): Totals {
  const totals = new Map<string, Total>();
  const keyOf = ({ n }: Changed, { key }: Question): string => `${n} ${JSON.stringify(key)}`;

  const remember = (key: string, total: Total): Total => {
    if (key.length <= KEY_MAX) setBounded(totals, key, total, TOTALS_MAX);
    return total;
  };

  const recall = (key: string, listing: Changed, question: Question): Total | undefined => {
    const found = totals.get(key);
    if (found === undefined || found.changes === listing.changes) return found;
    const steps = recent.since(listing, found.changes);
    if (steps === null) return undefined;
    const { below } = found;
    let { total, lowest, highest } = found;
    const moved: Moved[] = [];
    for (const { by, row } of steps) {
      const place = question.placeOf(row);
      // Rows that have not been counted yet will be counted as they are then.
      if (place >= below || by === 0 || !question.isAnswer(row)) continue;
      total += by;
      lowest = Math.min(lowest, row.n);
      highest = Math.max(highest, row.n);
      moved.push({ place, by });
    }
    const rungs = countedOn(found.rungs, moved);
    return remember(key, { changes: listing.changes, total, lowest, highest, below, rungs });
  };

  return {
    known(listing, question) {
      const found = recall(keyOf(listing, question), listing, question);
      return found === undefined || found.below === ALL ? found?.total : Number.POSITIVE_INFINITY;
    },
    *of(listing, question, counting, allowance) {
      const { changes } = listing;
      const key = keyOf(listing, question);
      const found = recall(key, listing, question);
      if (found?.below === ALL) return found;
      if (counting.slice === undefined || key.length > KEY_MAX || allowance === "all") {
        return remember(key, { changes, ...(yield* counting.whole()), below: ALL, rungs: [] });
      }
      const begun = found ?? { ...NONE, changes, below: Number.NEGATIVE_INFINITY, rungs: [] };
      if (allowance === "nothing") {
        remember(key, begun);
        throw new Unfinished(found === undefined);
      }
      const { next, ...more } = yield* counting.slice(begun.below, begun.total);
      const total = begun.total + more.total;
      const lowest = Math.min(begun.lowest, more.lowest);
      const highest = Math.max(begun.highest, more.highest);
      const rungs = next === null ? begun.rungs : withRung(begun.rungs, { below: next, total }, total);
      const counted = remember(key, { changes, total, lowest, highest, below: next ?? ALL, rungs });
      if (next !== null) throw new Unfinished(found === undefined);
      return counted;
    },
    rungs: (listing, question) => recall(keyOf(listing, question), listing, question)?.rungs ?? [],
    addRung(listing, question, rung) {
      const key = keyOf(listing, question);
      const found = recall(key, listing, question);
      if (found !== undefined) remember(key, { ...found, rungs: withRung(found.rungs, rung, found.total) });
    },
  };
}

/** An answer that has joined the listing or left it. */
interface Moved {
  readonly place: number;
  readonly by: number;
}

function countedOn(rungs: readonly Rung[], moved: Moved[]): readonly Rung[] {
  if (rungs.length === 0 || moved.length === 0) return rungs;
  moved.sort((a, b) => a.place - b.place);
  let at = 0;
  let by = 0;
  return rungs.map(({ below, total }) => {
    for (; at < moved.length && moved[at]!.place < below; at++) by += moved[at]!.by;
    return { below, total: total + by };
  });
}

/** Those that stand close together say the same: so they come to stand evenly, and closest where somebody asks. */
function withRung(rungs: readonly Rung[], rung: Rung, answers: number): readonly Rung[] {
  const place = rungs.findLastIndex(({ below }) => below <= rung.below);
  const all = rungs.toSpliced(place + 1, 0, rung);
  if (rungs[place]?.below === rung.below) all.splice(place, 1);
  const { least, most, answersToEach } = RUNGS;
  if (all.length <= Math.min(most, Math.max(least, answers / answersToEach))) return all;
  let closest = 1;
  const gapAt = (i: number): number => all[i + 1]!.total - all[i - 1]!.total;
  for (let i = 2; i < all.length - 1; i++) if (gapAt(i) < gapAt(closest)) closest = i;
  return all.toSpliced(closest, 1);
}
