/** Group commit: what shares a transaction, what a failure undoes, and when callers hear of it. */

import { createGroupWriter } from "../../packages/adapters/src/store/sqlite-group.ts";
import SqliteDatabase from "better-sqlite3";
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

test("deferred work runs once, in order, before the commit, and only for writes that succeed", async () => {
  const { write } = writer();
  const ran: string[] = [];
  const job = (name: string, fails = false) =>
    write((defer) => {
      defer(() => ran.push(`${name} ${db.inTransaction}`));
      if (fails) throw new Error(name);
    });
  await Promise.allSettled([job("a"), job("b", true), job("c")]);
  expect(ran).toEqual(["a true", "c true"]);
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
