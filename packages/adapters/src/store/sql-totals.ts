/**
 * Remembers exact totals that took counting, for as long as they hold: until a row joins or leaves the listing.
 * Sound across processes, because the listing's change number is read together with the page.
 */

import type { Sql } from "./sql.ts";

/** Totals remembered; with the longest key about a megabyte. */
const TOTALS_MAX = 1_000;
/** Longest key, in UTF-16 units: a longer query is counted every time. */
const KEY_MAX = 1_000;

export interface Totals {
  /** The total of a question about a listing: remembered, or counted now. */
  of(
    listing: { readonly n: number; readonly changes: number },
    question: readonly unknown[],
    count: () => Sql<number>,
  ): Sql<number>;
}

export function createTotals(): Totals {
  const totals = new Map<string, { readonly changes: number; readonly total: number }>();
  return {
    *of(listing, question, count) {
      const key = `${listing.n} ${JSON.stringify(question)}`;
      const known = totals.get(key);
      if (known?.changes === listing.changes) return known.total;
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
