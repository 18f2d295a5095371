/** Reads that take long on SQLite: others have their turn in each pause, and what is read between two is of one moment. */

import { setImmediate as nextTurn } from "node:timers/promises";
import SqliteDatabase from "better-sqlite3";
import type { Database } from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Query, Sql } from "../../packages/adapters/src/store/sql.ts";
import { all } from "../../packages/adapters/src/store/sql.ts";
import { executor } from "../../packages/adapters/src/store/sqlite-open.ts";
import type { Reader } from "../../packages/adapters/src/store/sqlite-reads.ts";
import { createReader } from "../../packages/adapters/src/store/sqlite-reads.ts";
import { temporaryFolder } from "./store-files.ts";

const PAUSE: Query = { sql: "select 1", parameters: [], pause: true };
const SUM: Query<{ sum: number }> = { sql: "select sum(x) as sum from t", parameters: [] };
/** More than reads may take of one turn, in milliseconds. */
const LONG_MS = 12;

let db: Database;
let other: Database;
let remove: () => Promise<void>;
let isOpen: boolean;
let read: Reader["read"];
let readAside: Reader["readAside"];
beforeEach(async () => {
  const folder = await temporaryFolder();
  remove = folder.remove;
  db = new SqliteDatabase(folder.file);
  db.pragma("journal_mode = wal");
  db.exec("create table t (x integer); insert into t values (1)");
  other = new SqliteDatabase(folder.file);
  isOpen = true;
  ({ read, readAside } = createReader(db, executor(db), () => {
    if (!isOpen) throw new Error("closed");
  }));
});
afterEach(async () => {
  db.close();
  other.close();
  await remove();
});

/** Works for so long that the next pause is one. */
function work(): void {
  for (const end = performance.now() + LONG_MS; performance.now() < end;);
}

const sum = function* (): Sql<number> {
  return (yield* all(SUM))[0]!.sum;
};

/** So many times a pause, and two looks at the same. */
function* looks(times: number, between: () => void = work): Sql<[number, number][]> {
  const seen: [number, number][] = [];
  for (let i = 0; i < times; i++) {
    yield PAUSE;
    const before = yield* sum();
    between();
    seen.push([before, yield* sum()]);
  }
  return seen;
}

describe("a read that pauses", () => {
  test("sees one moment between two pauses, and a later one behind each", async () => {
    const change = (): void => {
      work();
      other.exec("insert into t values (1)");
    };
    const seen = await read(() => looks(3, change));
    expect(seen).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
    ]);
  });

  test("lets shorter ones be answered, and others that pause go on in turn", async () => {
    const order: string[] = [];
    const long = (name: string, times: number): Promise<unknown> =>
      read(() => looks(times, () => (order.push(name), work())));
    const both = Promise.all([long("a", 4), long("b", 3)]);
    order.push("short");
    expect(await read(sum)).toBe(1);
    await both;
    expect(order).toEqual(["a", "short", "a", "b", "a", "b", "a", "b"]);
  });

  test("ends with an error where the store is closed meanwhile, and leaves no transaction behind", async () => {
    const reading = read(() => looks(3));
    isOpen = false;
    await expect(reading).rejects.toThrow("closed");
    expect(db.inTransaction).toBe(false);
  });

  test("that fails leaves no transaction behind", async () => {
    const failing = function* (): Sql<never> {
      yield SUM;
      throw new Error("no");
    };
    await expect(read(failing)).rejects.toThrow("no");
    expect(db.inTransaction).toBe(false);
    expect(await read(sum)).toBe(1);
  });
});

describe("a read aside", () => {
  test("has others go on at each pause, and sees a later moment behind it", async () => {
    const order: string[] = [];
    const seen: number[] = [];
    const aside = readAside(function* () {
      for (let i = 0; i < 3; i++) {
        order.push("aside");
        seen.push(yield* sum());
        yield PAUSE;
      }
    });
    for (let i = 0; i < 3; i++) {
      while (seen.length <= i) {
        await read(sum);
        await nextTurn();
      }
      order.push("others");
      other.exec("insert into t values (1)");
    }
    await aside;
    expect(order).toEqual(["aside", "others", "aside", "others", "aside", "others"]);
    expect(seen).toEqual([1, 2, 3]);
  });

  test("ends where the store is closed, at its next pause at the latest", async () => {
    let slices = 0;
    const aside = readAside(function* () {
      for (;;) {
        if (++slices === 3) isOpen = false;
        yield PAUSE;
      }
    });
    await expect(aside).rejects.toThrow("closed");
    expect([slices, db.inTransaction]).toEqual([3, false]);
  });
});
