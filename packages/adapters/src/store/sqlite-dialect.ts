/**
 * SQLite's side of the `Dialect`: its words, and the name index as an FTS5 table of trigrams.
 * Opening files and running statements is `sqlite.ts`.
 */

import { DummyDriver, Kysely, sql, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from "kysely";
import type { Schema } from "./schema.ts";
import type { Dialect, NameEntry, NameIndex } from "./sql.ts";
import { integer, statement } from "./sql.ts";

/** Bits of an FTS row id that hold the artifact's number; the ones above hold the listing's. */
const NUMBER_BITS = 40n;
/** A trigram index answers for three code points and more. */
const TRIGRAM = 3;
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
      // As a string of the query language: everything in it is literal.
      name: `"${part.replaceAll('"', '""')}"`,
      nameFrom: BigInt(listing) << NUMBER_BITS,
      nameTo: (BigInt(listing + 1) << NUMBER_BITS) - 1n,
    }),
    matches: (p) => sql<boolean>`a.n in (
      select rowid - ${p["nameFrom"]} from artifact_name
      where artifact_name match ${p["name"]} and rowid between ${p["nameFrom"]} and ${p["nameTo"]}
    )`,
    count: (p) => sql<{ total: number }>`select count(*) as total from artifact_name
      where artifact_name match ${p["name"]} and rowid between ${p["nameFrom"]} and ${p["nameTo"]}`,
    numbers: (p) => sql<{ n: number }>`select rowid - ${p["nameFrom"]} as n from artifact_name
      where artifact_name match ${p["name"]} and rowid between ${p["nameFrom"]} and ${p["nameTo"]}
      limit ${integer(p["limit"])}`,
  };
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
  // Writers hold the database's one write lock from their first statement on.
  lock: sql``,
  contains: (text, part) => sql<boolean>`instr(${text}, ${part}) > 0`,
  names: trigramIndex(),
};
