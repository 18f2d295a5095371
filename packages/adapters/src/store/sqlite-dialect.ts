/**
 * SQLite's side of the `Dialect`: its words, and the name index as an FTS5 table of trigrams.
 * Opening files and running statements is `sqlite.ts`.
 */

import { DummyDriver, Kysely, sql, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from "kysely";
import type { Schema } from "./schema.ts";
import type { Dialect, NameEntry, NameIndex, Sql, Values } from "./sql.ts";
import { all, first, integer, statement } from "./sql.ts";

/** Bits of an FTS row id that hold the artifact's number; the ones above hold the listing's. */
const NUMBER_BITS = 40n;
/** A trigram index answers for three code points and more. */
const TRIGRAM = 3;
/** A longer part is looked for by so many of its trigrams: together they are rare enough, and each more costs a walk. */
const ASKED = 4;
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
  const add = statement(
    (p: NameEntry) => ({
      compile: () =>
        sql`insert into artifact_name (rowid, folded) values (${rowid(p)}, ${p.folded})`.compile(db),
    }),
    { deferred: true },
  );
  const remove = statement(
    (p: NameEntry) => ({
      compile: () =>
        sql`insert into artifact_name (artifact_name, rowid, folded)
          values ('delete', ${rowid(p)}, ${p.folded})`.compile(db),
    }),
    { deferred: true },
  );
  const range = (p: Values) => sql`artifact_name match ${p["name"]}
    and rowid between ${p["nameFrom"]} and ${p["nameTo"]}`;
  const numbered = statement((p: Values) => ({
    compile: () =>
      sql<{ n: number }>`select rowid - ${p["nameFrom"]} as n from artifact_name where ${range(p)}
        limit ${integer(p["limit"])} offset ${integer(p["offset"])}`.compile(db),
  }));

  /** Only a hint: whatever is asked for, what comes is checked. */
  const samples = new Map<string, number>();

  /**
   * What to look for: the rarest trigrams. As a string FTS5 would look at all of them in each name, those that nearly
   * every name has as well.
   */
  function* rarest(p: Values): Sql<string> {
    const chars = Array.from(p["part"] as string);
    const trigrams = new Set(chars.slice(2).map((_, i) => chars.slice(i, i + TRIGRAM).join("")));
    if (trigrams.size <= ASKED) return p["name"] as string;
    const sampled: { readonly name: string; readonly at: number }[] = [];
    for (const name of [...trigrams].map(quoted)) sampled.push({ name, at: yield* sample(p, name) });
    sampled.sort((a, b) => (a.at === b.at ? 0 : b.at - a.at));
    const asked = sampled.slice(0, ASKED);
    return asked.map(({ name }) => name).join(" AND ");
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
    // Deferred: FTS5 writes a segment at every savepoint, so a group of writes shares one.
    write: { add, remove },
    serves: (part) => Array.from(part).length >= TRIGRAM && !AMBIGUOUS.test(part),
    values: ({ listing, part }) => ({
      part,
      name: quoted(part),
      nameFrom: BigInt(listing) << NUMBER_BITS,
      nameTo: (BigInt(listing + 1) << NUMBER_BITS) - 1n,
    }),
    matches: (p) =>
      sql<boolean>`a.n in (select rowid - ${p["nameFrom"]} from artifact_name where ${range(p)})`,
    count: (p) => sql<{ total: number }>`select count(*) as total from artifact_name where ${range(p)}`,
    among: (p, from, to) => {
      const base = p["nameFrom"] as bigint;
      return { ...p, nameFrom: base + BigInt(from), nameTo: base + BigInt(to - 1) };
    },
    *candidates(p, limit) {
      const name = yield* rarest(p);
      let rows = yield* all(numbered({ ...p, name, limit, offset: 0 }));
      // Many have the rarest trigrams: fewer may have the whole part.
      if (rows.length === limit && name !== p["name"]) {
        rows = yield* all(numbered({ ...p, limit, offset: 0 }));
      }
      return rows.length < limit ? rows.map(({ n }) => n) : null;
    },
  };
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
