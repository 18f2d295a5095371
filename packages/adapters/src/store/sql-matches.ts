/**
 * The rows that a plan's part matches, one after the other in the list's order: those it has read already, or those of
 * its walk, each looked at where SQL can't decide. Counting them is `sql-counting.ts`, cutting pages `sql-find.ts`.
 */

import type { Position } from "@docyard/core";
import { compareNewestFirst, match, parseJson } from "@docyard/core";
import type { Candidate, Pages } from "./sql-page.ts";
import { positionOf } from "./sql-page.ts";
import type { Part } from "./sql-plan.ts";
import type { Sql } from "./sql.ts";

/** Candidates read at once where rows are checked one by one: bounds memory, not results. */
export const CHECK_BATCH = 500;

/** Each call returns the next match, then null. */
export type Matches = () => Sql<Candidate | null>;

/** Makes what walks the matches of a part, all of them or those after a position. */
export function matchesSql(pages: Pages): (part: Part, after: Position | undefined) => Matches {
  return ({ matches, shape, values, check }, after) => {
    if (matches !== null) return given(matches, after);
    let last = after;
    let batch: readonly Candidate[] = [];
    let next = 0;
    let isEnd = false;
    return function* () {
      for (;;) {
        if (next >= batch.length) {
          if (isEnd) return null;
          batch = yield* pages.candidates(shape, values, { after: last, limit: CHECK_BATCH });
          next = 0;
          isEnd = batch.length < CHECK_BATCH;
          const end = batch.at(-1);
          if (end !== undefined) last = positionOf(end);
          continue;
        }
        const candidate = batch[next++]!;
        if (check === null) return candidate;
        if (match(parseJson(candidate.metadata), check)) return candidate;
      }
    };
  };
}

/** The same over matches that are there already. */
function given(matches: readonly Candidate[], after: Position | undefined): Matches {
  const rest = inOrder(matches, after).values();
  // oxlint-disable-next-line require-yield -- asks nothing
  return function* () {
    return rest.next().value ?? null;
  };
}

/** Those after a position, newest first. */
export function inOrder<C extends Candidate>(matches: readonly C[], after: Position | undefined): C[] {
  return matches
    .filter((row) => after === undefined || compareNewestFirst(positionOf(row), after) > 0)
    .sort((a, b) => compareNewestFirst(positionOf(a), positionOf(b)));
}
