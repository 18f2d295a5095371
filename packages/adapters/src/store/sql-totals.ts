/**
 * Remembers exact totals that took counting. They hold until a row joins or leaves the listing, and are then counted on
 * with the rows that did, where all of them are known. Sound across processes, because the listing's change number is
 * read together with the page.
 */

import type { AskedRow, Changed, Recent } from "./sql-recent.ts";
import type { Sql } from "./sql.ts";

/** Totals remembered; with the longest key about a megabyte. */
const TOTALS_MAX = 1_000;
/** Longest key, in UTF-16 units: a longer query is counted every time. */
const KEY_MAX = 1_000;

/** What is counted: how a question is told from others, and whether a row of the listing is an answer to it. */
export interface Question {
  readonly key: readonly unknown[];
  readonly isAnswer: (row: AskedRow) => boolean;
}

export interface Totals {
  /** The total, if it is remembered. */
  known(listing: Changed, question: Question): number | undefined;
  /** The total of a question about a listing: remembered, or counted now. */
  of(listing: Changed, question: Question, count: () => Sql<number>): Sql<number>;
}

export function createTotals(recent: Recent): Totals {
  const totals = new Map<string, { readonly changes: number; readonly total: number }>();
  const keyOf = ({ n }: Changed, { key }: Question): string => `${n} ${JSON.stringify(key)}`;

  const remember = (key: string, changes: number, total: number): number => {
    if (key.length > KEY_MAX) return total;
    // Written last, forgotten last.
    totals.delete(key);
    if (totals.size >= TOTALS_MAX) totals.delete(totals.keys().next().value!);
    totals.set(key, { changes, total });
    return total;
  };

  const recall = (key: string, listing: Changed, { isAnswer }: Question): number | undefined => {
    const found = totals.get(key);
    if (found === undefined || found.changes === listing.changes) return found?.total;
    const steps = recent.since(listing, found.changes);
    if (steps === null) return undefined;
    let { total } = found;
    for (const { by, row } of steps) if (isAnswer(row)) total += by;
    return remember(key, listing.changes, total);
  };

  return {
    known: (listing, question) => recall(keyOf(listing, question), listing, question),
    *of(listing, question, count) {
      const key = keyOf(listing, question);
      return recall(key, listing, question) ?? remember(key, listing.changes, yield* count());
    },
  };
}
