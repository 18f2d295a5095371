/**
 * Reads ahead, while nobody waits for it, what lists of several fields will be counted by: the sets of the terms that so
 * many documents have that whoever asks about one first would wait. What a set is, and that it stays exact, is
 * `sql-sets.ts`; when this runs, and how long it rests between two slices, is the driver's.
 */

import { sql } from "kysely";
import type { TermSets } from "./sql-sets.ts";
import { countedTermSql } from "./sql-sets.ts";
import { PAUSE, untilFinished } from "./sql-slices.ts";
import type { Changed } from "./sql-recent.ts";
import type { Dialect, Sql } from "./sql.ts";
import { all, first, integer, statement } from "./sql.ts";

/** How often a set is begun before it is left to whoever asks for it: others change too much. */
const BEGUN_MAX = 4;

interface FrequentTerm {
  readonly listing: number;
  readonly path: string;
  readonly value: string;
  readonly documents: number;
}

/** Makes the operation, with a pause after everything that takes long; it ends when nothing more is worth reading. */
export function readAheadSql(dialect: Dialect, sets: TermSets): () => Sql<void> {
  const { db, sliceMax } = dialect;
  const countedTerm = countedTermSql(dialect);
  const largest = statement(() =>
    db.selectFrom("listing_count").select("n").where("completed", ">", sql.lit(sliceMax)).limit(sql.lit(1)),
  );
  const lastTerm = statement(() => db.selectFrom("term").select(sql<number | null>`max(id)`.as("id")));
  const frequentOf = statement((p: { after: number; to: number }) =>
    db
      .selectFrom("term")
      .select(["listing", "path", "value", "documents"])
      .where("id", ">", integer(p.after))
      .where("id", "<=", integer(p.to))
      .where("documents", ">", sql.lit(sliceMax)),
  );
  const listingOf = statement((p: { n: number }) =>
    db.selectFrom("listing_count").select(["n", "changes"]).where("n", "=", p.n),
  );

  /** The terms that more documents have than are read in one go; those that most have first. */
  function* frequent(slice: number): Sql<FrequentTerm[]> {
    const found: FrequentTerm[] = [];
    const last = (yield* first(lastTerm({})))?.id ?? 0;
    for (let after = 0; after < last; after += slice) {
      found.push(...(yield* all(frequentOf({ after, to: after + slice }))));
      yield PAUSE;
    }
    return found.sort((a, b) => b.documents - a.documents);
  }

  /** One set, slice by slice, as far as there is room for it. */
  function readSet({ listing: n, path, value }: FrequentTerm): Sql<void> {
    return untilFinished(function* (allowance) {
      if (allowance === "all") return;
      // As of this moment: a term that nothing has any more leaves its number to others.
      const listing: Changed | undefined = yield* first(listingOf({ n }));
      const term = yield* countedTerm(n, { path, value });
      if (listing !== undefined && term !== undefined) yield* sets.readAhead(listing, term);
    }, BEGUN_MAX);
  }

  return function* () {
    if (sliceMax === undefined || (yield* first(largest({}))) === undefined) return;
    for (const term of yield* frequent(sliceMax)) {
      yield* readSet(term);
      yield PAUSE;
    }
  };
}
