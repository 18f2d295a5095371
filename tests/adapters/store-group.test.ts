/** Group commit: what shares a transaction, what a failure undoes, and when callers hear of it. */

import { createGroupWriter } from "../../packages/adapters/src/store/sqlite-group.ts";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import SqliteDatabase from "better-sqlite3";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";

let db: SqliteDatabase.Database;
let statements: string[];
beforeEach(() => {
  statements = [];
  db = new SqliteDatabase(":memory:", { verbose: (text) => void statements.push(String(text)) });
  db.exec(
    "create table job (n integer primary key); create table child (n references job deferrable initially deferred)",
  );
});
afterEach(() => db.close());

const writer = () => createGroupWriter(db, { busyTimeoutMs: 1_000, describe: (error) => error });
const commits = (): number => statements.filter((text) => text === "commit").length;
const stored = (): unknown[] => db.prepare("select n from job order by n").pluck().all();
const insert = (n: number) => (): number => {
  db.prepare("insert into job values (?)").run(n);
  return n;
};
const numbers = (length: number): number[] => Array.from({ length }, (_, i) => i);

test("writes of one turn share a transaction, at most 256 of them", async () => {
  const { write } = writer();
  expect(await Promise.all(numbers(300).map((n) => write(insert(n))))).toEqual(numbers(300));
  expect(commits()).toBe(2);
  expect(stored()).toEqual(numbers(300));
});

test("a caller hears of its write after the commit that holds it", async () => {
  const { write } = writer();
  const seen = await Promise.all(
    numbers(5).map((n) => write(insert(n)).then(() => [commits(), db.inTransaction])),
  );
  expect(seen).toEqual(numbers(5).map(() => [1, false]));
});

test("a write that fails undoes its own changes only, and its error is its caller's", async () => {
  const { write } = writer();
  const failing = write(() => {
    insert(100)();
    throw new Error("no");
  });
  const outcomes = await Promise.allSettled([write(insert(1)), failing, write(insert(1)), write(insert(2))]);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected", "fulfilled"]);
  await expect(failing).rejects.toThrow("no");
  expect(stored()).toEqual([1, 2]);
  expect(commits()).toBe(1);
});

test("a commit that fails is every caller's failure, nothing is kept, and the next group goes on", async () => {
  const { write } = writer();
  const orphan = write(() => db.prepare("insert into child values (9)").run());
  const outcomes = await Promise.allSettled([write(insert(1)), orphan]);
  expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(stored()).toEqual([]);
  await write(insert(2));
  expect(stored()).toEqual([2]);
});

test("idle waits for everything that was queued before", async () => {
  const { write, idle } = writer();
  let settled = 0;
  for (const n of numbers(300)) void write(insert(n)).then(() => settled++);
  await idle();
  expect(settled).toBe(300);
  await idle();
});

test("a group that is done again waits for a process that has come in between", async () => {
  const folder = await mkdtemp(join(tmpdir(), "docyard-group-"));
  const file = join(folder, "group.db");
  const open = () => new SqliteDatabase(file, { timeout: 0 });
  const [mine, other] = [open(), open()];
  try {
    mine.exec("pragma journal_mode = wal; create table job (n integer primary key)");
    const prepare = mine.prepare.bind(mine);
    mine.prepare = ((text: string) => {
      const prepared = prepare(text);
      if (text !== "rollback") return prepared;
      const run = (): void => {
        prepared.run();
        other.exec("begin immediate; insert into job values (10)");
        setTimeout(() => other.exec("commit"), 50);
      };
      return { run };
    }) as typeof mine.prepare;
    const { write, idle } = createGroupWriter(mine, { busyTimeoutMs: 10_000, describe: (error) => error });
    const insertMine = (n: number) => () => void prepare("insert into job values (?)").run(n);
    const group = [write(insertMine(1)), write(insertMine(1)), write(insertMine(2))];
    // Comes while the group waits, and is none of it.
    const late = new Promise((resolve) => void setTimeout(resolve, 10)).then(() => write(insertMine(3)));
    const outcomes = await Promise.allSettled([...group, late]);
    const statuses = outcomes.map(({ status }) => status);
    expect(statuses).toEqual(["fulfilled", "rejected", "fulfilled", "fulfilled"]);
    expect(prepare("select n from job order by n").pluck().all()).toEqual([1, 2, 3, 10]);
    await idle();
  } finally {
    other.close();
    mine.close();
    await rm(folder, { recursive: true });
  }
});

test("what a failing group leaves behind is nothing, for any writes and failures", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat({ max: 30 }), { maxLength: 40 }), async (wanted) => {
      db.exec("delete from job");
      const { write } = writer();
      const outcomes = await Promise.allSettled(wanted.map((n) => write(insert(n))));
      // As if one after the other: the first to take a number has it.
      expect(outcomes.map(({ status }) => status === "fulfilled")).toEqual(
        wanted.map((n, i) => wanted.indexOf(n) === i),
      );
      expect(stored()).toEqual([...new Set(wanted)].sort((a, b) => a - b));
    }),
  );
});
