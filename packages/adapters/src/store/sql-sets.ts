/**
 * Which documents have a term, as sets of numbers in memory: several fields are counted by laying such sets over each
 * other. Kept up to date with the rows that join and leave, where all of them are known; where sets are not worth
 * making, `sql-find.ts` counts in the index.
 */

import type { JsonObject, Term } from "@docyard/core";
import { parseJson } from "@docyard/core";
import { sql } from "kysely";
import { setBounded } from "../bounded-map.ts";
import type { NumberSet } from "./number-set.ts";
import { changed, countCommon, EMPTY_SET } from "./number-set.ts";
import { storedTerms } from "./sql-filter.ts";
import type { AskedRow, Changed, Recent, Step } from "./sql-recent.ts";
import type { Allowance } from "./sql-slices.ts";
import { Unfinished } from "./sql-slices.ts";
import type { Dialect, Sql } from "./sql.ts";
import { first, integer, statement } from "./sql.ts";

/** All sets together, in bytes: those of 8 kinds and 100 wards, of ten million rows, take 34 million. */
const BYTES_MAX = 40 * 1024 ** 2;
/** What a document of a set takes at most, in bytes. */
const DOCUMENT_BYTES = 2;
/** Documents of a term whose set might not fit. */
const DOCUMENTS_MAX = BYTES_MAX / DOCUMENT_BYTES;
/** Documents of the rarest term up to which looking each up in the index is as fast. */
const FEW_DOCUMENTS = 500;
/**
 * Documents that are worth reading for each one that would else be looked up in the index: that takes as long as reading
 * eight, and helps with no other question.
 */
const WORTH_A_LOOKUP = 32;
/** What is read at once where nobody waits for it is the smaller by this: some 2 ms for whoever comes meanwhile. */
const AHEAD_PART = 5;
/** Terms of which it is remembered that they were asked about. */
const ASKED_MAX = 1_000;

/** A term and how many documents have it. */
export interface CountedTerm extends Term {
  readonly id: number;
  readonly documents: number;
}

/** Makes the operation that looks a term of a listing up; undefined where no document has it. */
export function countedTermSql({
  db,
}: Dialect): (listing: number, term: Term) => Sql<CountedTerm | undefined> {
  const termOf = statement((p: { listing: number; path: string; value: string }) =>
    db
      .selectFrom("term")
      .select(["id", "documents"])
      .where("listing", "=", p.listing)
      .where("path", "=", p.path)
      .where("value", "=", p.value),
  );
  return function* (listing, { path, value }) {
    const found = yield* first(termOf({ listing, path, value }));
    return found === undefined ? undefined : { path, value, ...found };
  };
}

export interface TermSets {
  /**
   * How many documents have all of these terms, rarest first; null where the index had better be asked.
   * @throws Unfinished where they are read in slices
   */
  count(listing: Changed, terms: readonly CountedTerm[], allowance: Allowance): Sql<number | null>;
  /**
   * Reads a set before it is asked for, or a little more of it; nothing where it is there, or would crowd out others.
   * @throws Unfinished where there is more to read
   */
  readAhead(listing: Changed, term: CountedTerm): Sql<void>;
}

interface TermSet {
  /** Of the listing, when it was like this. */
  readonly changes: number;
  readonly numbers: NumberSet;
  /** Where the term's documents are that have not been read yet; null when all have been. */
  readonly rest: Place | null;
}

/** Some documents of a term, oldest first: those of the last moment may be more than these, and are read once more. */
interface Place {
  readonly from: number;
  /** So many, or more where that many have one moment. */
  readonly limit: number;
}

interface Some {
  readonly numbers: string | null;
  readonly count: number;
  /** The last one's moment. */
  readonly last: number;
}

export function termSets({ db, sliceMax = Number.POSITIVE_INFINITY }: Dialect, recent: Recent): TermSets {
  // As one text: making a row of each number would take longer than all the rest.
  const numbers = sql<string | null>`string_agg(cast(n as text), ',')`;
  const allOf = statement((p: { term: number }) =>
    db.selectFrom("posting").select(numbers.as("numbers")).where("term", "=", integer(p.term)),
  );
  const someOf = statement((p: { term: number } & Place) => ({
    compile: () =>
      sql<Some>`select ${numbers} as numbers, count(*) as count, max(created_at) as last from (
        select n, created_at from posting where term = ${integer(p.term)} and created_at >= ${p.from}
        order by created_at, id limit ${integer(p.limit)}) as some`.compile(db),
  }));
  /** Least lately used first. */
  const sets = new Map<string, TermSet>();
  let bytes = 0;
  /** At which change of its listing a term was last asked about. */
  const asked = new Map<string, number>();

  const forget = (key: string): void => {
    bytes -= sets.get(key)?.numbers.bytes ?? 0;
    sets.delete(key);
  };

  const remember = (key: string, set: TermSet): TermSet => {
    forget(key);
    for (const oldest of sets.keys()) {
      if (bytes + set.numbers.bytes <= BYTES_MAX) break;
      forget(oldest);
    }
    if (set.numbers.bytes > BYTES_MAX) return set;
    bytes += set.numbers.bytes;
    sets.set(key, set);
    return set;
  };

  /** What is known of a term's documents, as of now. */
  const recall = (key: string, listing: Changed, term: Term): TermSet | undefined => {
    const set = sets.get(key);
    const steps = set === undefined ? null : recent.since(listing, set.changes);
    if (set === undefined || steps === null) return undefined;
    // What is read later is not spoilt by them: a set has a number once, whoever says so.
    const now = withSteps(
      set.numbers,
      steps.filter(({ row }) => hasTerm(row, term)),
    );
    return remember(key, { changes: listing.changes, numbers: now, rest: set.rest });
  };

  /** Whether a term was asked about since too much has changed to keep its set: then making one pays. */
  const isAskedAgain = (key: string, listing: Changed): boolean => {
    const before = asked.get(key);
    setBounded(asked, key, listing.changes, ASKED_MAX);
    return before !== undefined && recent.since(listing, before) !== null;
  };

  /** All of a term's documents, or the next slice of them. */
  function* read(
    { id: term, documents }: CountedTerm,
    { changes }: Changed,
    begun: TermSet | undefined,
    slice: number,
  ): Sql<TermSet> {
    if (begun === undefined && documents <= slice) {
      const all = yield* first(allOf({ term }));
      return { changes, numbers: changed(EMPTY_SET, numbersIn(all!.numbers), true), rest: null };
    }
    const { from, limit } = begun?.rest ?? { from: Number.MIN_SAFE_INTEGER, limit: slice };
    const some = (yield* first(someOf({ term, from, limit })))!;
    const isLast = some.count < limit;
    const next = some.last > from ? { from: some.last, limit: slice } : { from, limit: limit * 2 };
    return {
      changes,
      numbers: changed(begun?.numbers ?? EMPTY_SET, numbersIn(some.numbers), true),
      rest: isLast ? null : next,
    };
  }

  return {
    *count(listing, terms, allowance) {
      const [rarest] = terms;
      if (rarest === undefined || rarest.documents <= FEW_DOCUMENTS) return null;
      const found = terms.map((term) => {
        const key = keyOf(listing, term);
        return { term, key, set: recall(key, listing, term) };
      });
      const isWorth = found.map(
        ({ term, key, set }) =>
          set !== undefined ||
          (term.documents <= DOCUMENTS_MAX &&
            (isAskedAgain(key, listing) || term.documents <= rarest.documents * WORTH_A_LOOKUP)),
      );
      if (isWorth.includes(false)) return null;
      const all: NumberSet[] = [];
      for (const { term, key, set } of found) {
        let known = set;
        if (known === undefined || known.rest !== null) {
          const isLong = known !== undefined || term.documents > sliceMax;
          if (isLong && allowance === "all") return null;
          if (isLong && allowance === "nothing") throw new Unfinished(false);
          known = remember(key, yield* read(term, listing, known, sliceMax));
          if (known.rest !== null) throw new Unfinished(set === undefined);
        }
        all.push(known.numbers);
      }
      return countCommon(all);
    },

    *readAhead(listing, term) {
      const key = keyOf(listing, term);
      const set = recall(key, listing, term);
      if (set?.rest === null) return;
      const others = bytes - (set?.numbers.bytes ?? 0);
      if (others + term.documents * DOCUMENT_BYTES > BYTES_MAX) return;
      const { rest } = remember(key, yield* read(term, listing, set, Math.ceil(sliceMax / AHEAD_PART)));
      if (rest !== null) throw new Unfinished(set === undefined);
    },
  };
}

/** Not by its number: a term that is forgotten leaves that to others. */
function keyOf({ n }: Changed, { path, value }: Term): string {
  return `${n} ${path}\n${value}`;
}

function hasTerm({ metadata, media_type: mediaType }: AskedRow, { path, value }: Term): boolean {
  const all = storedTerms(parseJson(metadata) as JsonObject, mediaType);
  return all.some((term) => term.path === path && term.value === value);
}

/** The set after rows with the term have joined or left. */
function withSteps(before: NumberSet, steps: readonly Step[]): NumberSet {
  const moves = steps.filter(({ by }) => by !== 0);
  const last = [...new Map(moves.map(({ row, by }) => [row.n, by]))];
  const those = (by: Step["by"]): Float64Array =>
    Float64Array.from(last.filter((step) => step[1] === by).map(([n]) => n));
  return changed(changed(before, those(-1), false), those(1), true);
}

/** Numbers separated by commas: the engine's own parser is the fastest. */
function numbersIn(text: string | null): Float64Array {
  return Float64Array.from(JSON.parse(`[${text ?? ""}]`) as number[]);
}
