/**
 * How the SQL stores speak to a database: operations as generators that yield queries and are handed their rows, so
 * that one text serves a synchronous driver inside a shared transaction and an asynchronous one.
 * Running them, transactions and errors are the driver's; what differs between databases is the `Dialect`.
 */

import type { Face } from "@docyard/core";
import type { CompiledQuery, Kysely, RawBuilder } from "kysely";
import { sql } from "kysely";
import { setBounded } from "../bounded-map.ts";
import type { Schema } from "./schema.ts";

/** SQL text and its parameters; `R` is the shape of the rows it returns. */
export interface Query<R = unknown> {
  readonly sql: string;
  readonly parameters: readonly unknown[];
  /** The operation goes on without the answer; see `unread`. */
  readonly unread?: boolean;
  /**
   * Others may have their turn now, and what is read afterwards may be of a later moment of the database. Only in reads
   * that begin anew behind it.
   */
  readonly pause?: boolean;
  /** Only for the compiler. */
  readonly row?: R;
}

/** An operation: yields queries, is resumed with the rows of each, returns its result. */
export type Sql<T> = Generator<Query, T, readonly unknown[]>;

/** All rows of a query. */
export function* all<R>(query: Query<R>): Sql<readonly R[]> {
  return (yield query) as readonly R[];
}

/** The first row of a query, if there is one. */
export function* first<R>(query: Query<R>): Sql<R | undefined> {
  return ((yield query) as readonly R[])[0];
}

/**
 * A query for an operation that needs no answer: the driver may hand over the next one before it has come, as over a
 * network it does. They run in order all the same, and where one fails, so does the operation.
 */
export function unread({ sql, parameters }: Query): Query {
  return { sql, parameters, unread: true };
}

/** Stands in a query for a value that is only known when it runs. */
class Placeholder {
  readonly name: PropertyKey;
  constructor(name: PropertyKey) {
    this.name = name;
  }
}

/** What makes SQL text; a query builder of Kysely's is one. */
export interface Compilable<R> {
  compile(): CompiledQuery<R>;
}

/**
 * Compiles a query once, when it is first asked, and binds it many times: building SQL text costs more than running it.
 * @param build makes the query; reading `p.name` leaves a place for the value that is later given under that name
 */
export function statement<P extends object, R>(build: (p: P) => Compilable<R>): (values: P) => Query<R> {
  const places = new Proxy({} as P, { get: (_, name) => new Placeholder(name) });
  // A store has some fifty of these, and a start asks five: all of them at once were 8 of its 180 ms.
  let compiled: CompiledQuery<R> | undefined;
  /** By parameter: the name of its value, or null where it is the same each time. */
  let names: readonly (PropertyKey | null)[] = [];
  return (values) => {
    if (compiled === undefined) {
      compiled = build(places).compile();
      names = compiled.parameters.map((given) => (given instanceof Placeholder ? given.name : null));
    }
    const { sql, parameters } = compiled;
    const named = values as Record<PropertyKey, unknown>;
    return { sql, parameters: names.map((name, i) => (name === null ? parameters[i] : named[name])) };
  };
}

/**
 * A write that fills in a value, and that value: returned by the write, or asked for afterwards where that is cheaper
 * (SQLite makes a temporary table for every `returning`; over a network a second question costs more).
 */
export function fillingIn<P extends object, R>(
  { rereads = false }: Dialect,
  queries: {
    readonly returning: (p: P) => Compilable<R>;
    readonly plain: (p: P) => Compilable<unknown>;
    readonly reread: (p: P) => Compilable<R>;
  },
): (values: P) => Sql<R> {
  if (!rereads) {
    const write = statement(queries.returning);
    return function* (values) {
      return (yield* first(write(values)))!;
    };
  }
  const write = statement(queries.plain);
  const read = statement(queries.reread);
  return function* (values) {
    yield write(values);
    return (yield* first(read(values)))!;
  };
}

/**
 * A parameter as an expression of its type. SQLite looks at plain parameters while it compiles (in `limit`, and in
 * equalities beside `order by`), and then compiles the statement anew each time one is bound: ten times its price.
 */
export function text(value: unknown): RawBuilder<string> {
  return sql<string>`cast(${value} as text)`;
}

/** The same for whole numbers. */
export function integer(value: unknown): RawBuilder<number> {
  return sql<number>`cast(${value} as bigint)`;
}

/** Most shapes of one family of queries that are kept compiled; each is a few kilobytes. */
const SHAPES_MAX = 500;

/** Statements made on demand, one for each shape that a key names; the oldest are forgotten. */
export function statements<P extends object, R>(): (
  key: string,
  build: (p: P) => Compilable<R>,
) => (values: P) => Query<R> {
  const made = new Map<string, (values: P) => Query<R>>();
  return (key, build) => {
    let found = made.get(key);
    if (found === undefined) {
      found = statement(build);
      setBounded(made, key, found, SHAPES_MAX);
    }
    return found;
  };
}

/** What a name index is asked about: a listing and a folded part of a name. */
export interface NameSearch {
  readonly listing: number;
  readonly dockId: string;
  readonly face: Face;
  readonly part: string;
  /** How many rows the listing has. */
  readonly documents: number;
}

/** Values, or places for values, by name. */
export type Values = Readonly<Record<string, unknown>>;

/** All that differs between databases. */
export interface Dialect {
  /** Builds queries in this database's words; runs none. */
  readonly db: Kysely<Schema>;
  /** Column types and table options, for the migrations. */
  readonly words: {
    /** 64 bit integer. */
    readonly integer: string;
    /** Integer primary key that numbers itself. */
    readonly serial: string;
    /** Double precision. */
    readonly real: string;
    /** Any text, compared by code point. */
    readonly text: string;
    /** Follows the column list of a table. */
    readonly table: string;
    /** The same, for a table whose rows live in its primary key. */
    readonly clustered: string;
  };
  /** Whether a value that a write has filled in costs less to ask for afterwards than by `returning`. Default: no. */
  readonly rereads?: boolean;
  /**
   * Index entries that are read in one go where more are to be counted than a page needs: everybody waits meanwhile.
   * Absent where nobody does.
   */
  readonly sliceMax?: number;
  /** Follows a select of rows that the transaction is about to change; empty where writers are alone anyway. */
  readonly lock: RawBuilder<unknown>;
  /**
   * Waits until no other process loads records. Two that add the same rows at once would else get in each other's way in
   * all unique indexes, not only in the one that says what is there already. Absent where writers are alone anyway.
   */
  readonly loadAlone?: Query;
  /** True where `text` contains `part`, taken literally. */
  contains(text: RawBuilder<string>, part: string): RawBuilder<boolean>;
  /**
   * Ends a subselect that is to be looked up for one row after the other, for databases that would join all rows with
   * all that it may find instead; absent where the planner sees it by itself.
   */
  readonly oneByOne?: RawBuilder<unknown>;
  /**
   * The beginning of one of several selects that are to be merged in an order which an index of each has, for databases
   * that would sort them all instead; absent where the planner sees it by itself.
   */
  beginning?(
    select: RawBuilder<unknown>,
    order: RawBuilder<unknown>,
    length: RawBuilder<unknown>,
  ): RawBuilder<unknown>;
  readonly names: NameIndex;
}

/** A row's entry in the name index. */
export interface NameEntry {
  readonly listing: number;
  readonly n: number;
  readonly folded: string;
}

/** The substring index over the folded names of completed rows. */
export interface NameIndex {
  /** Statements of the first migration. */
  readonly create: readonly string[];
  /** Keep the index when a row joins or leaves a listing; null where the database does it by itself. */
  readonly write: { add(entry: NameEntry): Query; remove(entry: NameEntry): Query } | null;
  /** Whether the index can find this part, and exactly the names that contain it. */
  serves(part: string): boolean;
  /** What `matches` and `count` need to know of a search, each under a name of its own. */
  values(search: NameSearch): Values;
  /** True for those rows of the table aliased `a` that the index finds: listing and part in one condition. */
  matches(p: Values): RawBuilder<boolean>;
  /** How many rows the index finds, as `total`, and between which numbers; without reading the rows where possible. */
  count(p: Values): RawBuilder<{ total: number; lowest: number | null; highest: number | null }>;
  /** The same search among the rows with these numbers only (`to` not), where that is less work. */
  readonly among?: (p: Values, from: number, to: number) => Values;
  /** The numbers of all rows that the index finds, in any order; where `among` is. */
  readonly numbers?: (p: Values) => Sql<readonly number[]>;
  /**
   * Numbers of all rows that have the part, and perhaps of some that do not, if it finds fewer than `limit`; else null,
   * or at once where that is to be expected.
   */
  readonly candidates: (p: Values, limit: number) => Sql<readonly number[] | null>;
}
