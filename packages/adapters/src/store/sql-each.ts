/**
 * Many rows of one table in few statements: each has places for a fixed number of rows, so that all are prepared once.
 * What the rows are is their callers' affair.
 */

import type { Compilable, Query, Sql, Values } from "./sql.ts";
import { all, statement, unread } from "./sql.ts";

/** Rows in one statement, largest first: any number is made of a few of these. */
const ROWS = [100, 10, 1] as const;

/**
 * A query over all rows, and what it returns for all of them.
 * @param build makes the query for as many rows as it is given
 * @param options `unread`: the query returns nothing, and nobody waits for it
 */
export function forEach<T extends object, R>(
  columns: readonly (keyof T & string)[],
  build: (rows: T[]) => Compilable<R>,
  options: { readonly unread?: boolean } = {},
): (rows: readonly T[]) => Sql<R[]> {
  const made = new Map<number, (values: Values) => Query<R>>();
  const forRows = (size: number): ((values: Values) => Query<R>) => {
    let found = made.get(size);
    if (found === undefined) {
      found = statement((p: Values) => {
        const places = (i: number): [string, unknown][] =>
          columns.map((column) => [column, p[placeOf(column, i)]]);
        return build(Array.from({ length: size }, (_, i) => Object.fromEntries(places(i)) as T));
      });
      made.set(size, found);
    }
    return found;
  };
  return function* (rows) {
    const results: R[] = [];
    for (let from = 0; from < rows.length;) {
      const size = ROWS.find((some) => some <= rows.length - from)!;
      const values: Record<string, unknown> = {};
      for (let i = 0; i < size; i++) {
        const row = rows[from + i]!;
        for (const column of columns) values[placeOf(column, i)] = row[column];
      }
      const query = forRows(size)(values);
      if (options.unread === true) yield unread(query);
      else results.push(...(yield* all(query)));
      from += size;
    }
    return results;
  };
}

const placeOf = (column: string, i: number): string => `${column} ${i}`;
