/**
 * How many rows a plan's part matches: what an index knows at once, what sets of terms have in common, or what a walk
 * comes past, in slices of time where everybody would wait for it. What is remembered of it is `sql-totals.ts`.
 */

import type { Matches } from "./sql-matches.ts";
import type { Pages } from "./sql-page.ts";
import { isIndexOnly } from "./sql-page.ts";
import type { Asked, Part } from "./sql-plan.ts";
import type { TermSets } from "./sql-sets.ts";
import type { Allowance } from "./sql-slices.ts";
import type { Counted, Counting, Totals } from "./sql-totals.ts";
import { UNKNOWN } from "./sql-totals.ts";
import type { Dialect, NameIndex, Sql } from "./sql.ts";

/** Rows that are looked at in some 10 ms, of those that an index entry is read for five times as fast. */
const LOOKED_AT_PART = 5;

/** Makes the operation. @throws Unfinished where more is to be counted than may be now */
export function countingSql(
  { sliceMax = Number.POSITIVE_INFINITY, names: { among } }: Dialect,
  using: {
    readonly pages: Pages;
    readonly sets: TermSets;
    readonly totals: Totals;
    readonly matchesOf: (part: Part, after: undefined) => Matches;
  },
): (part: Part, query: Asked) => Sql<number> {
  const { pages, sets, totals, matchesOf } = using;

  function* count(part: Part, allowance: Allowance): Sql<number> {
    const { listing, decisive } = part;
    const counted = listing === null ? null : yield* sets.count(listing, decisive, allowance);
    return counted ?? (yield* walked(part));
  }

  function* walked(part: Part): Sql<number> {
    if (part.check === null) return yield* pages.count(part.shape, part.values);
    const next = matchesOf(part, undefined);
    let total = 0;
    while ((yield* next()) !== null) total++;
    return total;
  }

  /** What is counted at once; absent where all of it takes no longer, or sets are quicker than any walk. */
  function slicesOf(part: Part): Slices | undefined {
    const { shape, check, decisive, rows, listWalk } = part;
    const length = isIndexOnly(shape) && check === null ? sliceMax : sliceMax / LOOKED_AT_PART;
    if (decisive.length > 0 || rows <= length) return undefined;
    if (shape.driver !== "name") return slicesOfTime(part, length);
    return listWalk === null || among === undefined
      ? undefined
      : slicesOfNumbers(part, listWalk.numbers, { length, among });
  }

  /** Oldest first. */
  function slicesOfTime(part: Part, length: number): Slices {
    const { shape, values } = part;
    const { createdAfter: since, createdBefore: until } = values as Bounds;
    // The walk itself, whatever is asked of the rows it comes past.
    const all = {
      ...shape,
      terms: Math.min(shape.terms, 1),
      contains: false,
      media: false,
      createdAfter: true,
    };
    return function* (below) {
      const begun = { ...values, createdAfter: Math.max(below, since ?? Number.MIN_SAFE_INTEGER) };
      const end = yield* pages.position(all, begun, { offset: length, limit: 1, backwards: true });
      const next = end === undefined ? null : end.createdAt + 1;
      const isLast = next === null || (until !== undefined && next >= until);
      const total = yield* walked({
        ...part,
        shape: { ...shape, createdAfter: true, createdBefore: shape.createdBefore || !isLast },
        values: isLast ? begun : { ...begun, createdBefore: next },
      });
      return { ...UNKNOWN, total, next: isLast ? null : next };
    };
  }

  /** Lowest first, so many as have that many matches where these are spread evenly. */
  function slicesOfNumbers(
    part: Part,
    { lowest, highest }: Extent,
    { length, among }: { readonly length: number; readonly among: NonNullable<NameIndex["among"]> },
  ): Slices {
    const width = Math.ceil(((highest - lowest + 1) * length) / part.rows);
    return function* (below) {
      const from = Math.max(below, lowest);
      const next = from + width;
      const total = yield* walked({ ...part, values: among(part.values, from, next) });
      return { ...UNKNOWN, total, next: next > highest ? null : next };
    };
  }

  return function* (part, { allowance }) {
    const { known, listing, question } = part;
    if (known !== null) return known;
    if (listing === null || question === null) return yield* count(part, allowance);
    const slice = slicesOf(part);
    const counting: Counting = {
      *whole() {
        return { ...UNKNOWN, total: yield* count(part, allowance) };
      },
      ...(slice === undefined ? {} : { slice }),
    };
    return (yield* totals.of(listing, question, counting, allowance)).total;
  };
}

type Slices = NonNullable<Counting["slice"]>;
type Extent = Pick<Counted, "lowest" | "highest">;

interface Bounds {
  readonly createdAfter?: number | undefined;
  readonly createdBefore?: number | undefined;
}
