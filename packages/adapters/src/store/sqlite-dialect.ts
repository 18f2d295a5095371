/**
 * SQLite's side of the `Dialect`: its words, and the name index as an FTS5 table of trigrams.
 * Opening files is `sqlite-open.ts`, running statements `sqlite.ts`.
 */

import { DummyDriver, Kysely, sql, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from "kysely";
import type { Schema } from "./schema.ts";
import type { Dialect, NameEntry, NameIndex, Sql, Values } from "./sql.ts";
import { all, first, integer, statement } from "./sql.ts";

/** Bits of an FTS row id that hold the artifact's number; the ones above hold the listing's. */
const NUMBER_BITS = 40n;
/** Leaves the artifact's number of such an id. */
const NUMBER = sql.lit(Number((1n << NUMBER_BITS) - 1n));
/** A trigram index answers for three code points and more. */
const TRIGRAM = 3;
/** A part of no more trigrams is looked for as it is; a longer one by three of them at first: each more costs a walk. */
const ASKED_WHOLE = 4;
/** The three are chosen among so many, the rarest. */
const RAREST = 8;
/** Where many have the three: so many of the rarest, as strings. */
const NARROW = 4;
/** Rows that cost no more to be read and compared, from a file that does not fit into memory, than another search. */
const FEW = 20;
/** A trigram is the rarer, the later so many names have had it. */
const SAMPLE = 32;
/** Trigrams of which that is remembered; about a megabyte. */
const SAMPLES_MAX = 10_000;
/** Index entries that one thread reads in some 10 ms. */
const SLICE_MAX = 50_000;
/** FTS5 reads these as one and the same code point: it can find them, but not tell them apart. */
const AMBIGUOUS = /[\ufffd-\uffff]/;

const db = new Kysely<Schema>({
  dialect: {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  },
});

/**
 * Rows are numbered by listing and artifact, so that one listing is one range: a search never meets another dock's
 * names. The table keeps no copy of the names: to take one out again its text is given once more.
 */
function trigramIndex(): NameIndex {
  const rowid = (p: NameEntry) =>
    sql`(cast(${p.listing} as integer) << ${sql.lit(Number(NUMBER_BITS))}) + ${p.n}`;
  const add = statement((p: NameEntry) => ({
    compile: () =>
      sql`insert into artifact_name (rowid, folded) values (${rowid(p)}, ${p.folded})`.compile(db),
  }));
  const remove = statement((p: NameEntry) => ({
    compile: () =>
      sql`insert into artifact_name (artifact_name, rowid, folded)
        values ('delete', ${rowid(p)}, ${p.folded})`.compile(db),
  }));
  const range = (p: Values) => sql`artifact_name match ${p["name"]}
    and rowid between ${p["nameFrom"]} and ${p["nameTo"]}`;
  const numbered = statement((p: Values) => ({
    compile: () =>
      sql<{ n: number }>`select rowid - ${p["nameFrom"]} as n from artifact_name where ${range(p)}
        limit ${integer(p["limit"])} offset ${integer(p["offset"])}`.compile(db),
  }));

  const found = statement((p: Values) => ({
    compile: () =>
      sql<{ n: number }>`select rowid & ${NUMBER} as n from artifact_name where ${range(p)}`.compile(db),
  }));

  /** Only a hint: whatever is asked for, what comes is checked. */
  const samples = new Map<string, number>();

  /**
   * What a part is looked for by, one after the other, until no more are found than are worth reading. As a string FTS5
   * would look at all trigrams in each name, those that nearly every name has as well: the last resort.
   */
  function* searchesFor(p: Values, limit: number): Sql<Search[]> {
    const whole: Search = { name: p["name"] as string, most: limit };
    const chars = Array.from(p["part"] as string);
    /** Each with where it first stands. */
    const places = new Map<string, number>();
    for (let i = 0; i + TRIGRAM <= chars.length; i++) {
      const trigram = chars.slice(i, i + TRIGRAM).join("");
      if (!places.has(trigram)) places.set(trigram, i);
    }
    if (places.size <= ASKED_WHOLE) return [whole];
    const sampled: Trigram[] = [];
    for (const [trigram, place] of places) {
      sampled.push({ place, density: SAMPLE / (yield* sample(p, quoted(trigram))) });
    }
    sampled.sort((a, b) => a.density - b.density);
    const narrow: Search = { name: searchOf(chars, sampled.slice(0, NARROW)), most: limit - 1 };
    const apart = rarestApart(sampled.slice(0, RAREST));
    if (apart === null) return [narrow, whole];
    return [{ name: searchOf(chars, apart), most: FEW }, narrow, whole];
  }

  /** The number of the name with which so many have had a trigram: as names are added it hardly ever changes. */
  function* sample(p: Values, name: string): Sql<number> {
    const key = `${String(p["nameFrom"])} ${name}`;
    const known = samples.get(key);
    if (known !== undefined) return known;
    const last = yield* first(numbered({ ...p, name, limit: 1, offset: SAMPLE - 1 }));
    if (last === undefined) return Number.POSITIVE_INFINITY;
    if (samples.size >= SAMPLES_MAX) samples.clear();
    samples.set(key, last.n);
    return last.n;
  }

  return {
    create: [
      `create virtual table artifact_name using fts5 (
        folded, content = '', columnsize = 0, tokenize = 'trigram case_sensitive 1'
      )`,
    ],
    write: { add, remove },
    serves: (part) => Array.from(part).length >= TRIGRAM && !AMBIGUOUS.test(part),
    values: ({ listing, part }) => ({
      part,
      name: quoted(part),
      nameFrom: BigInt(listing) << NUMBER_BITS,
      nameTo: (BigInt(listing + 1) << NUMBER_BITS) - 1n,
    }),
    matches: (p) => sql<boolean>`a.n in (select rowid & ${NUMBER} from artifact_name where ${range(p)})`,
    count: (p) =>
      sql<{ total: number; lowest: number | null; highest: number | null }>`select count(*) as total,
        min(rowid) & ${NUMBER} as lowest, max(rowid) & ${NUMBER} as highest
        from artifact_name where ${range(p)}`,
    among: (p, from, to) => {
      const base = p["nameFrom"] as bigint;
      return { ...p, nameFrom: base + BigInt(from), nameTo: base + BigInt(to - 1) };
    },
    *numbers(p) {
      return (yield* all(found(p))).map(({ n }) => n);
    },
    *candidates(p, limit) {
      let rows: readonly { n: number }[] = [];
      for (const { name, most } of yield* searchesFor(p, limit)) {
        rows = yield* all(numbered({ ...p, name, limit, offset: 0 }));
        if (rows.length <= most) break;
      }
      return rows.length < limit ? rows.map(({ n }) => n) : null;
    },
  };
}

/** A search, as FTS5 takes it, and how many it may find before the next one is tried. */
interface Search {
  readonly name: string;
  readonly most: number;
}

/** A trigram of a part: where it stands, in code points, and about what share of the names have it. */
interface Trigram {
  readonly place: number;
  readonly density: number;
}

/**
 * The three that least is read for, of which no two share two characters: one that nearly follows from another costs a
 * walk and says little. Null where there are none.
 */
function rarestApart(rare: readonly Trigram[]): readonly Trigram[] | null {
  const areApart = (a: Trigram, b: Trigram): boolean => Math.abs(a.place - b.place) > 1;
  let rarest: readonly Trigram[] | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const [i, a] of rare.entries()) {
    for (const [j, b] of rare.entries()) {
      if (j <= i || !areApart(a, b)) continue;
      for (const c of rare.slice(j + 1)) {
        const density = a.density + b.density + c.density;
        if (density >= least || !areApart(a, c) || !areApart(b, c)) continue;
        rarest = [a, b, c];
        least = density;
      }
    }
  }
  return rarest;
}

/** What trigrams say together: a string for all that follow each other, which fewer names have than each of them. */
function searchOf(chars: readonly string[], trigrams: readonly Trigram[]): string {
  const strings: string[] = [];
  let last = Number.NEGATIVE_INFINITY;
  for (const { place } of trigrams.toSorted((a, b) => a.place - b.place)) {
    if (place === last + 1) strings.push(`${strings.pop()!}${chars[place + TRIGRAM - 1]!}`);
    else strings.push(chars.slice(place, place + TRIGRAM).join(""));
    last = place;
  }
  return strings.map(quoted).join(" AND ");
}

/** As a string of FTS5's query language: everything in it is literal. */
function quoted(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}

export const sqliteDialect: Dialect = {
  db,
  words: {
    integer: "integer",
    serial: "integer primary key",
    real: "real",
    text: "text",
    table: " strict",
    clustered: " strict, without rowid",
  },
  rereads: true,
  sliceMax: SLICE_MAX,
  // Writers hold the database's one write lock from their first statement on.
  lock: sql``,
  contains: (text, part) => sql<boolean>`instr(${text}, ${part}) > 0`,
  names: trigramIndex(),
};
