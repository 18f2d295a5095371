/**
 * Which documents have a term, as bits in memory: several fields are counted by laying such sets over each other. Kept up
 * to date with the rows that join and leave, where all of them are known; where sets are not worth making, `sql-find.ts`
 * counts in the index.
 */

import type { JsonObject, Term } from "@docyard/core";
import { parseJson } from "@docyard/core";
import { sql } from "kysely";
import { storedTerms } from "./sql-filter.ts";
import type { AskedRow, Changed, Recent, Step } from "./sql-recent.ts";
import type { Dialect, Sql } from "./sql.ts";
import { first, integer, statement } from "./sql.ts";

/** All sets together, in bytes. */
const BYTES_MAX = 16 * 1024 ** 2;
/** One set, in bytes: room for the numbers up to 33 million. */
const SET_BYTES_MAX = 4 * 1024 ** 2;
/** Documents of the rarest term up to which looking each up in the index is as fast. */
const FEW_DOCUMENTS = 500;
/** Documents of a term above which a set takes too long to make: everybody waits for it. */
const DOCUMENTS_MAX = 2_000_000;
/** Terms of which it is remembered that they were asked about. */
const ASKED_MAX = 1_000;

/** A term and how many documents have it. */
export interface CountedTerm extends Term {
  readonly id: number;
  readonly documents: number;
}

export interface TermSets {
  /** How many documents have all of these terms, rarest first; null where the index had better be asked. */
  count(listing: Changed, terms: readonly CountedTerm[]): Sql<number | null>;
}

interface TermSet {
  /** Of the listing, when it was like this. */
  readonly changes: number;
  readonly bits: Uint32Array;
}

export function termSets({ db }: Dialect, recent: Recent): TermSets {
  const numbersOf = statement((p: { term: number }) => ({
    // As one text: making a row of each number would take longer than all the rest.
    compile: () =>
      sql<{ numbers: string }>`select string_agg(cast(n as text), ',') as numbers from posting
        where term = ${integer(p.term)}`.compile(db),
  }));
  /** Least lately used first. */
  const sets = new Map<string, TermSet>();
  let bytes = 0;
  /** At which change of its listing a term was last asked about. */
  const asked = new Map<string, number>();

  const forget = (key: string): void => {
    bytes -= sets.get(key)?.bits.byteLength ?? 0;
    sets.delete(key);
  };

  const remember = (key: string, set: TermSet): TermSet => {
    forget(key);
    for (const oldest of sets.keys()) {
      if (bytes + set.bits.byteLength <= BYTES_MAX) break;
      forget(oldest);
    }
    bytes += set.bits.byteLength;
    sets.set(key, set);
    return set;
  };

  const recall = (key: string, listing: Changed, term: Term): TermSet | undefined => {
    const set = sets.get(key);
    const steps = set === undefined ? null : recent.since(listing, set.changes);
    if (set === undefined || steps === null) return undefined;
    const bits = withSteps(
      set.bits,
      steps.filter(({ row }) => hasTerm(row, term)),
    );
    return bits.byteLength > SET_BYTES_MAX ? undefined : remember(key, { changes: listing.changes, bits });
  };

  /** Whether a term was asked about since too much has changed to keep its set: then making one pays. */
  const isAskedAgain = (key: string, listing: Changed): boolean => {
    const before = asked.get(key);
    asked.delete(key);
    if (asked.size >= ASKED_MAX) asked.delete(asked.keys().next().value!);
    asked.set(key, listing.changes);
    return before !== undefined && recent.since(listing, before) !== null;
  };

  function* read(key: string, { changes }: Changed, { id, documents }: CountedTerm): Sql<TermSet | null> {
    const { numbers } = (yield* first(numbersOf({ term: id })))!;
    const bits = bitsOf(numbers, documents);
    return bits === null ? null : remember(key, { changes, bits });
  }

  return {
    *count(listing, terms) {
      const [rarest] = terms;
      if (rarest === undefined || rarest.documents <= FEW_DOCUMENTS) return null;
      const found = terms.map((term) => {
        // Not by its number: a term that is forgotten leaves that to others.
        const key = `${listing.n} ${term.path}\n${term.value}`;
        return { term, key, set: recall(key, listing, term) };
      });
      // The rarest is read in less time than its documents are looked up in; the others have to be worth it.
      const isWorth = found.map(
        ({ term, key, set }) =>
          set !== undefined ||
          term === rarest ||
          (term.documents <= DOCUMENTS_MAX && isAskedAgain(key, listing)),
      );
      if (isWorth.includes(false)) return null;
      const all: Uint32Array[] = [];
      for (const { term, key, set } of found) {
        const bits = (set ?? (yield* read(key, listing, term)))?.bits;
        if (bits === undefined) return null;
        all.push(bits);
      }
      return countCommon(all);
    },
  };
}

function hasTerm({ metadata, media_type: mediaType }: AskedRow, { path, value }: Term): boolean {
  const all = storedTerms(parseJson(metadata) as JsonObject, mediaType);
  return all.some((term) => term.path === path && term.value === value);
}

/** The set after rows with the term have joined or left. A new one: another question may be reading this. */
function withSteps(before: Uint32Array, steps: readonly Step[]): Uint32Array {
  if (steps.length === 0) return before;
  const words = steps.map(({ row }) => Math.floor(row.n / 32) + 1);
  const bits = new Uint32Array(Math.max(before.length, ...words));
  bits.set(before);
  for (const { by, row } of steps) {
    const [word, bit] = [Math.floor(row.n / 32), 1 << (row.n & 31)];
    bits[word] = by > 0 ? bits[word]! | bit : bits[word]! & ~bit;
  }
  return bits;
}

/** Numbers separated by commas as bits, or null if one is too large. */
function bitsOf(numbers: string, documents: number): Uint32Array | null {
  const list = new Float64Array(documents);
  let [count, number, largest] = [0, 0, 0];
  for (let i = 0; i <= numbers.length; i++) {
    const code = numbers.charCodeAt(i);
    if (code >= 48) {
      number = number * 10 + code - 48;
      continue;
    }
    list[count++] = number;
    if (number > largest) largest = number;
    number = 0;
  }
  const words = Math.floor(largest / 32) + 1;
  if (words * 4 > SET_BYTES_MAX) return null;
  const bits = new Uint32Array(words);
  for (const each of list) bits[Math.floor(each / 32)]! |= 1 << (each & 31);
  return bits;
}

/** How many bits all of them have. */
function countCommon(all: readonly Uint32Array[]): number {
  const words = Math.min(...all.map(({ length }) => length));
  let count = 0;
  for (let i = 0; i < words; i++) {
    let word = -1;
    for (const bits of all) word &= bits[i]!;
    // The bits of a word, added up in pairs, fours, eights and all at once.
    word -= (word >>> 1) & 0x55555555;
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
    count += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return count;
}
