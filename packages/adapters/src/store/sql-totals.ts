/**
 * Remembers exact totals that took counting, for as long as they hold: until a row joins or leaves the listing.
 * Sound across processes, because the listing's change number is read together with the page.
 */

import type { Sql } from "./sql.ts";

/** Totals remembered; with the longest key about a megabyte. */
const TOTALS_MAX = 1_000;
/** Longest key, in UTF-16 units: a longer query is counted every time. */
const KEY_MAX = 1_000;

interface Counted {
  readonly n: number;
  readonly changes: number;
}

export interface Totals {
  /** The total, if it is remembered. */
  known(listing: Counted, question: readonly unknown[]): number | undefined;
  /** The total of a question about a listing: remembered, or counted now. */
  of(listing: Counted, question: readonly unknown[], count: () => Sql<number>): Sql<number>;
}

export function createTotals(): Totals {
  const totals = new Map<string, { readonly changes: number; readonly total: number }>();
  const keyOf = ({ n }: Counted, question: readonly unknown[]): string => `${n} ${JSON.stringify(question)}`;
  const recall = (key: string, { changes }: Counted): number | undefined => {
    const found = totals.get(key);
    return found?.changes === changes ? found.total : undefined;
  };
  return {
    known: (listing, question) => recall(keyOf(listing, question), listing),
    *of(listing, question, count) {
      const key = keyOf(listing, question);
      const known = recall(key, listing);
      if (known !== undefined) return known;
      const total = yield* count();
      if (key.length <= KEY_MAX) {
        // Written last, forgotten last.
        totals.delete(key);
        if (totals.size >= TOTALS_MAX) totals.delete(totals.keys().next().value!);
        totals.set(key, { changes: listing.changes, total });
      }
      return total;
    },
  };
}
