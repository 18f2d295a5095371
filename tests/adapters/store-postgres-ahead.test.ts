/**
 * What PostgreSQL is asked before earlier answers have come, and what becomes of it when one of them is a refusal. On a
 * real server, with real refusals, is `tests/services/store-postgres.test.ts`.
 */

import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { Pool } from "../../packages/adapters/src/store/postgres-connection.ts";
import { drive, patiently, transaction } from "../../packages/adapters/src/store/postgres-connection.ts";
import { postgresDialect } from "../../packages/adapters/src/store/postgres-dialect.ts";
import { artifactSql } from "../../packages/adapters/src/store/sql-artifacts.ts";
import { toRow } from "../../packages/adapters/src/store/schema.ts";
import type { Query, Sql } from "../../packages/adapters/src/store/sql.ts";
import { all, unread } from "../../packages/adapters/src/store/sql.ts";
import { plainArtifact } from "../arbitraries.ts";

const query = <R>(sql: string): Query<R> => ({ sql, parameters: [] });

/** A server that answers when it is told to, in order. */
function server() {
  const asked: string[] = [];
  const waiting: { resolve(rows: readonly unknown[]): void; reject(error: Error): void }[] = [];
  const ask = (sql: string): Promise<readonly unknown[]> => {
    asked.push(sql);
    return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  };
  const release = (broken?: Error): void => void asked.push(broken === undefined ? "release" : "throw away");
  const client = { query: ask, release };
  const pool = {
    connect: () => Promise.resolve(client),
    execute: (_: unknown, { sql }: Query) => ask(sql),
  } as unknown as Pool;
  return {
    asked,
    pool,
    execute: ({ sql }: Query) => ask(sql),
    async answer(...rows: readonly unknown[]) {
      waiting.shift()!.resolve(rows);
      await turn();
    },
    async refuse(error: Error) {
      waiting.shift()!.reject(error);
      await turn();
    },
  };
}

/** What a call is rejected with. */
const failure = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => null,
    (error: unknown) => error,
  );

/** As far as a commit that nobody has answered yet, nor the query before it. */
async function committing() {
  const { asked, pool, answer, refuse } = server();
  const failed = failure(transaction(pool, "write", change));
  await turn();
  for (let i = 0; i < 3; i++) await answer();
  await answer({ n: "7" });
  return { asked, failed, answer, refuse };
}

function* change(): Sql<string> {
  yield unread(query("insert"));
  yield unread(query("count"));
  const [row] = yield* all(query<{ n: string }>("returning"));
  yield unread(query("log"));
  return row!.n;
}

describe("an operation", () => {
  test("waits for the answers that it reads, in its order", async () => {
    const { asked, execute, answer } = server();
    const pending: Promise<unknown>[] = [];
    const done = drive(change(), execute, pending);
    expect(asked).toEqual(["insert", "count", "returning"]);
    await answer();
    await answer();
    expect(asked).toHaveLength(3);
    await answer({ n: "7" });
    expect(asked.at(-1)).toBe("log");
    await expect(done).resolves.toBe("7");
    expect(pending).toHaveLength(3);
  });

  test("fails with the first refusal, not with what follows from it", async () => {
    const { execute, refuse } = server();
    const failed = failure(drive(change(), execute));
    await refuse(new Error("first"));
    await refuse(new Error("current transaction is aborted"));
    await refuse(new Error("current transaction is aborted"));
    expect(await failed).toEqual(new Error("first"));
  });
});

describe("a write", () => {
  test("asks nothing before its transaction has begun, and has succeeded when its commit has", async () => {
    const { asked, pool, answer } = server();
    let isDone = false;
    const done = transaction(pool, "write", change).then(() => (isDone = true));
    await turn();
    expect(asked).toEqual(["begin"]);
    await answer();
    for (let i = 0; i < 2; i++) await answer();
    await answer({ n: "7" });
    expect(asked.slice(-2)).toEqual(["log", "commit"]);
    await answer();
    expect(isDone).toBe(false);
    await answer();
    await done;
    expect(asked.at(-1)).toBe("release");
  });

  test("whose last query is refused has failed, though its commit was asked for: that was a rollback", async () => {
    const { asked, failed, answer, refuse } = await committing();
    await refuse(new Error("refused"));
    await answer();
    expect(asked.at(-1)).toBe("rollback");
    await answer();
    expect(await failed).toEqual(new Error("refused"));
  });

  test("that loses its server after the commit was asked for is not done again", async () => {
    const { asked, failed, refuse } = await committing();
    await refuse(Object.assign(new Error("gone"), { code: "ECONNRESET" }));
    await refuse(Object.assign(new Error("gone"), { code: "ECONNRESET" }));
    expect(await failed).toMatchObject({ message: "no answer to a commit" });
    expect(asked.filter((text) => text === "begin")).toHaveLength(1);
  });
});

test.each([
  ["a session that was idle for too long", "57P05"],
  ["a transaction whose process hung between two statements", "25P03"],
  ["a transaction that took too long", "25P04"],
  ["a server that has become a standby", "25006"],
])("%s was left by the server (%s): another connection does the same again", async (_, code) => {
  const { asked, pool, answer, refuse } = server();
  const done = patiently(10_000, () => transaction(pool, "write", change));
  await turn();
  await answer();
  for (let i = 0; i < 3; i++) await refuse(Object.assign(new Error("terminated"), { code }));
  expect(asked.at(-1)).toBe("throw away");
  await expect.poll(() => asked.filter((text) => text === "begin")).toHaveLength(2);
  await answer();
  for (let i = 0; i < 2; i++) await answer();
  await answer({ n: "7" });
  for (let i = 0; i < 2; i++) await answer();
  expect(await done).toBe("7");
  expect(asked.at(-1)).toBe("release");
  expect(asked).not.toContain("rollback");
});

test("a read asks with its beginning, and waits for no commit", async () => {
  const { asked, pool, answer } = server();
  const done = transaction(pool, "read", function* () {
    return yield* all(query("select"));
  });
  await turn();
  expect(asked).toEqual(["begin isolation level repeatable read, read only", "select"]);
  await answer();
  await answer({ n: 1 });
  await expect(done).resolves.toEqual([{ n: 1 }]);
  expect(asked.slice(-2)).toEqual(["commit", "release"]);
});

test("a new artifact waits for no answer, a completed one for two, however many terms it has", () => {
  const artifacts = artifactSql(postgresDialect);
  const event = { type: "artifact.created", at: 0, by: null } as const;
  const artifact = plainArtifact(1, { status: "created", metadata: { a: 1, b: 2, c: 3 } });
  const waits = (operation: Sql<unknown>, answers: readonly (readonly unknown[])[]): number => {
    let count = 0;
    let step = operation.next();
    while (step.done !== true) step = operation.next(step.value.unread === true ? [] : answers[count++]!);
    return count;
  };
  expect(waits(artifacts.insert(artifact, event), [])).toBe(0);
  const before = { ...toRow(artifact), n: 1 };
  const completed = { status: "upload_completed" } as const;
  const answers = [[before], [{ n: 1, changes: 1 }]];
  expect(waits(artifacts.update(artifact.id, 1, completed, event), answers)).toBe(2);
});
