/**
 * Which documents have a term, as bits in memory: several fields are counted by laying such sets over each other. Kept
 * for as long as they hold, until a row joins or leaves the listing; where they are not worth making, `sql-find.ts`
 * counts in the index.
 */

import { sql } from "kysely";
import type { Listing } from "./sql-plan.ts";
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
export interface CountedTerm {
  readonly id: number;
  readonly documents: number;
}

export interface TermSets {
  /** How many documents have all of these terms, rarest first; null where the index had better be asked. */
  count(listing: Listing, terms: readonly CountedTerm[]): Sql<number | null>;
}

interface TermSet {
  readonly changes: number;
  readonly bits: Uint32Array;
}

export function termSets({ db }: Dialect): TermSets {
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

  const recall = (key: string, changes: number): TermSet | undefined => {
    const set = sets.get(key);
    if (set?.changes !== changes) return undefined;
    sets.delete(key);
    sets.set(key, set);
    return set;
  };

  /** Whether a term was asked about since its listing last changed: then making its set pays. */
  const isAskedAgain = (key: string, changes: number): boolean => {
    const before = asked.get(key);
    asked.delete(key);
    if (asked.size >= ASKED_MAX) asked.delete(asked.keys().next().value!);
    asked.set(key, changes);
    return before === changes;
  };

  function* read(key: string, changes: number, { id, documents }: CountedTerm): Sql<TermSet | null> {
    const { numbers } = (yield* first(numbersOf({ term: id })))!;
    const bits = bitsOf(numbers, documents);
    if (bits === null) return null;
    forget(key);
    for (const oldest of sets.keys()) {
      if (bytes + bits.byteLength <= BYTES_MAX) break;
      forget(oldest);
    }
    bytes += bits.byteLength;
    const set = { changes, bits };
    sets.set(key, set);
    return set;
  }

  return {
    *count({ n, changes }, terms) {
      const [rarest] = terms;
      if (rarest === undefined || rarest.documents <= FEW_DOCUMENTS) return null;
      const found = terms.map((term) => {
        const key = `${n} ${term.id}`;
        return { term, key, set: recall(key, changes) };
      });
      // The rarest is read in less time than its documents are looked up in; the others have to be worth it.
      const missing = found.filter(({ set }) => set === undefined);
      const isWorth = missing.map(
        ({ term, key }) => term === rarest || (term.documents <= DOCUMENTS_MAX && isAskedAgain(key, changes)),
      );
      if (isWorth.includes(false)) return null;
      const all: Uint32Array[] = [];
      for (const { term, key, set } of found) {
        const bits = (set ?? (yield* read(key, changes, term)))?.bits;
        if (bits === undefined) return null;
        all.push(bits);
      }
      return countCommon(all);
    },
  };
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
  for (const each of list) bits[each >>> 5]! |= 1 << (each & 31);
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
