/**
 * Turns a query into walks: the list itself, the postings of the rarest metadata term, or the name index, whichever
 * has least to read. Executing them is `sql-find.ts`; their SQL is in `sql-page.ts`.
 */

import type { ArtifactStatus, Face, Filter, FindQuery } from "@docyard/core";
import { foldName, match, parseJson } from "@docyard/core";
import { sql } from "kysely";
import type { SummaryRow } from "./schema.ts";
import { storedTerms, termsDecide } from "./sql-filter.ts";
import type { NumberedRow, Pages, Shape } from "./sql-page.ts";
import type { AskedRow, Changed } from "./sql-recent.ts";
import type { CountedTerm } from "./sql-sets.ts";
import { countedTermSql } from "./sql-sets.ts";
import type { Allowance } from "./sql-slices.ts";
import type { Named } from "./sql-ranks.ts";
import type { Counted, Counting, Question, Totals } from "./sql-totals.ts";
import type { Dialect, Sql, Values } from "./sql.ts";
import { first, statement } from "./sql.ts";

/** A term with at most this many documents is walked without asking how many names match. */
const FEW_DOCUMENTS = 1_000;

/**
 * At most so many rows that a name search finds are read at once, which takes a millisecond or two. Of more it is
 * remembered how many they are, and the page is cut out of a walk.
 */
const FEW_NAMED = 100;

/** Most slices' rows that are counted at once of a name that few have: each count begins with a search. */
const SLICES_AT_ONCE = 16;

/** The completed rows of one face of a dock, in numbers. */
export interface Listing extends Changed {
  readonly completed: number;
}

/** A query, and what may be counted for it now. */
export interface Asked extends FindQuery {
  readonly allowance: Allowance;
}

export interface Walk {
  readonly shape: Shape;
  readonly values: Values;
}

/** A walk past more rows than match. */
export interface ListWalk extends Walk {
  readonly rows: number;
  /** Between which numbers those are that match. */
  readonly numbers: Pick<Counted, "lowest" | "highest">;
}

/** Rows of a query that come from one walk. */
export interface Part extends Walk {
  /** A filter that SQL leaves to be checked row by row, or null. */
  readonly check: Filter | null;
  /** How many rows match, where an index knows it at once. */
  readonly known: number | null;
  /** Set when all rows are completed ones: their total can be remembered. */
  readonly listing: Listing | null;
  /** Its total as a question; null where there is no listing. */
  readonly question: Question | null;
  /** How many rows its walk comes past. */
  readonly rows: number;
  /** Terms, rarest first, that say all by themselves which rows match; empty where more has to be asked. */
  readonly decisive: readonly CountedTerm[];
  /** Another walk, in the list's order, where the part itself has to sort. */
  readonly listWalk: ListWalk | null;
  /** Set when the name says all by itself which rows match. */
  readonly named: Named | null;
  /** All matches, where they are so few that they have been read; then there is nothing to walk. */
  readonly matches: readonly SummaryRow[] | null;
}

interface Base {
  readonly shape: Pick<Shape, "face" | "contains" | "media" | "createdAfter" | "createdBefore">;
  readonly values: Values;
  /** The folded search, or null where there is none. */
  readonly part: string | null;
  readonly filter: Filter;
  readonly isBounded: boolean;
}

export interface Plans {
  /** The listing that a query is about, as it is now; undefined where it asks for no completed row, or there never was one. */
  listing(query: FindQuery): Sql<Listing | undefined>;
  /**
   * Parts without a row in common, together all rows that may match.
   * @throws Unfinished where names have to be counted first
   */
  parts(query: Asked, listing: Listing | undefined): Sql<Part[]>;
}

export function planSql(dialect: Dialect, pages: Pages, totals: Totals): Plans {
  const { db, names, sliceMax = Number.POSITIVE_INFINITY } = dialect;
  const listingOf = statement((p: { dockId: string; face: Face }) =>
    db
      .selectFrom("listing_count")
      .select(["n", "completed", "changes"])
      .where("dock_id", "=", p.dockId)
      .where("face", "=", p.face),
  );
  const countedTerm = countedTermSql(dialect);
  const largestNumber = statement(() => db.selectFrom("artifact").select(sql<number>`max(n)`.as("n")));
  function* largest(): Sql<number> {
    return (yield* first(largestNumber({})))!.n;
  }

  /** All terms of a query, rarest first; null when no document has one of them. */
  function* termsOf(query: FindQuery, listing: Listing): Sql<CountedTerm[] | null> {
    const found: CountedTerm[] = [];
    for (const { path, value } of storedTerms(query.filter ?? {}, query.mediaType)) {
      const counted = yield* countedTerm(listing.n, { path, value });
      if (counted === undefined) return null;
      found.push(counted);
    }
    return found.sort((a, b) => a.documents - b.documents);
  }

  /** All rows whose name has the part, if they are few. */
  function* fewNamed(search: Values, part: string): Sql<readonly NumberedRow[] | null> {
    const numbers = yield* names.candidates(search, FEW_NAMED + 1);
    if (numbers === null) return null;
    return (yield* pages.byNumbers(numbers)).filter(({ folded }) => folded.includes(part));
  }

  /** Ways to count the names that have the part. */
  function namedCounting(search: Values, { completed }: Listing): Counting {
    const whole = (): Sql<Counted> => pages.countNames(search);
    const { among } = names;
    if (among === undefined || completed <= sliceMax) return { whole };
    return {
      whole,
      *slice(place, found) {
        const from = Math.max(0, place);
        const last = yield* largest();
        // Other listings' rows are numbered in between.
        const numbersARow = Math.max(1, last / completed);
        const rowsPerFound = from / numbersARow / Math.max(1, found);
        const slices = Math.min(SLICES_AT_ONCE, Math.max(1, rowsPerFound));
        const next = from + Math.ceil(sliceMax * slices * numbersARow);
        const counted = yield* pages.countNames(among(search, from, next));
        return { ...counted, next: next > last ? null : next };
      },
    };
  }

  function* completedPart(query: Asked, listing: Listing, base: Base): Sql<Part | null> {
    const terms = yield* termsOf(query, listing);
    if (terms === null) return null;
    const rarest = terms[0]?.documents ?? listing.completed;
    const check = termsDecide(base.filter) ? null : base.filter;
    const isDecided = !base.isBounded && check === null;
    const shape: Shape = {
      ...base.shape,
      media: false,
      driver: terms.length > 0 ? "term" : "list",
      statuses: terms.length > 0 ? [] : ["upload_completed"],
      terms: terms.length,
    };
    const values: Values = {
      ...base.values,
      ...numbered(
        "term",
        terms.map(({ id }) => id),
      ),
    };
    const decisive = isDecided && base.part === null ? terms : [];
    const known = isDecided && base.part === null && terms.length < 2 ? rarest : null;
    const whole = questionOf(query);
    const part: Part = {
      shape,
      values,
      check,
      known,
      listing,
      question: whole,
      rows: rarest,
      decisive,
      listWalk: null,
      named: null,
      matches: null,
    };
    if (base.part === null || !names.serves(base.part)) return part;
    if (terms.length > 0 && rarest <= FEW_DOCUMENTS) return part;

    const { part: searched } = base;
    const search = names.values({
      listing: listing.n,
      dockId: query.dockId,
      face: query.face,
      part: searched,
      documents: listing.completed,
    });
    const question: Question = {
      key: ["name", searched],
      isAnswer: ({ folded }) => folded.includes(searched),
      placeOf: ({ n }) => n,
    };
    const few = (totals.known(listing, question) ?? 0) > FEW_NAMED ? null : yield* fewNamed(search, searched);
    if (few !== null) {
      const matches = few.filter((row) => isWanted(row, query));
      return { ...part, matches, known: matches.length };
    }
    const counting = namedCounting(search, listing);
    const counted = yield* totals.of(listing, question, counting, query.allowance);
    // Rows that have to be checked come in batches, and each would be sorted out of all that are found.
    if (check !== null || (terms.length > 0 && rarest < counted.total)) return part;
    const isByNameAlone = isDecided && terms.length === 0;
    const at = { ...listing, dockId: query.dockId, face: query.face };
    const walk = { shape, values };
    return {
      ...part,
      shape: { ...shape, driver: "name", statuses: [], contains: false },
      values: { ...values, ...search },
      known: isByNameAlone ? counted.total : null,
      question: byNumber(whole),
      rows: counted.total,
      listWalk: { ...walk, rows: rarest, numbers: counted },
      named: isByNameAlone
        ? { ...walk, listing: at, search, question, counted, largest: yield* largest() }
        : null,
    };
  }

  function listPart(statuses: readonly ArtifactStatus[], base: Base): Part {
    return {
      shape: { ...base.shape, driver: "list", statuses, terms: 0 },
      values: base.values,
      check: Object.keys(base.filter).length > 0 ? base.filter : null,
      known: null,
      listing: null,
      question: null,
      rows: Number.POSITIVE_INFINITY,
      decisive: [],
      listWalk: null,
      named: null,
      matches: null,
    };
  }

  return {
    *listing({ dockId, face, statuses }) {
      if (!statuses.includes("upload_completed")) return undefined;
      return yield* first(listingOf({ dockId, face }));
    },
    *parts(query, listing) {
      const base = baseOf(query);
      if (base === null) return [];
      const statuses = [...new Set(query.statuses)].sort();
      const others = statuses.filter((status) => status !== "upload_completed");
      const rest = others.length > 0 ? listPart(others, base) : null;
      if (listing === undefined) return rest === null ? [] : [rest];
      if (rest === null) {
        const part = yield* completedPart(query, listing, base);
        return part === null ? [] : [part];
      }
      const isPlain = base.part === null && query.mediaType === undefined && rest.check === null;
      if (isPlain) {
        // Nothing to look up: one walk merges all statuses, and only the unfinished ones need counting.
        const whole = listPart(statuses, base);
        if (base.isBounded) return [whole];
        return [{ ...whole, known: listing.completed + (yield* pages.count(rest.shape, rest.values)) }];
      }
      const part = yield* completedPart(query, listing, base);
      return part === null ? [rest] : [part, rest];
    },
  };
}

/** Everything that the name index does not know about a row of its listing. */
function isWanted(
  { media_type: type, created_at: createdAt, metadata }: AskedRow,
  { filter = {}, mediaType, createdAfter = -Infinity, createdBefore = Infinity }: FindQuery,
): boolean {
  return (
    (mediaType === undefined || type === mediaType) &&
    createdAt >= createdAfter &&
    createdAt < createdBefore &&
    (Object.keys(filter).length === 0 || match(parseJson(metadata), filter))
  );
}

/** The total of a query's completed rows as a question. */
function questionOf(query: FindQuery): Question {
  const { filter, search, mediaType, createdAfter, createdBefore } = query;
  const part = foldName(search ?? "");
  return {
    key: ["all", filter, search, mediaType, createdAfter, createdBefore],
    isAnswer: (row) => row.folded.includes(part) && isWanted(row, query),
    placeOf: (row) => row.created_at,
  };
}

/** The same, for those who count in the order of numbers: what they have counted so far is of no use to others. */
function byNumber(question: Question): Question {
  return { ...question, key: ["by number", ...question.key], placeOf: ({ n }) => n };
}

/** What all parts of a query have in common, or null where nothing can match. */
function baseOf(query: FindQuery): Base | null {
  const part = foldName(query.search ?? "") || null;
  // No filename has these (ruling 9), and databases would alter or refuse the parameter.
  if (part !== null && (part.includes("\0") || !part.isWellFormed())) return null;
  const { createdAfter, createdBefore } = query;
  return {
    shape: {
      face: query.face,
      contains: part !== null,
      media: query.mediaType !== undefined,
      createdAfter: createdAfter !== undefined,
      createdBefore: createdBefore !== undefined,
    },
    values: {
      dockId: query.dockId,
      part,
      mediaType: query.mediaType,
      createdAfter,
      createdBefore,
    },
    part,
    filter: query.filter ?? {},
    isBounded: createdAfter !== undefined || createdBefore !== undefined,
  };
}

function numbered(name: string, values: readonly unknown[]): Values {
  return Object.fromEntries(values.map((value, i) => [`${name}${i}`, value]));
}
