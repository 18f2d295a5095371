/** The thread that writes while many do: when it comes and goes, what it may not change, and what becomes of its death. */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Worker, type WorkerOptions } from "node:worker_threads";
import type { WriterThreadOptions } from "@docyard/adapters/store/sqlite";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Artifact, Store } from "@docyard/core";
import SqliteDatabase from "better-sqlite3";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { plainArtifact } from "../arbitraries.ts";
import { NODE_ARGS } from "../sources.ts";
import type { Folder } from "./store-files.ts";
import { temporaryFolder } from "./store-files.ts";

const PROGRAM = new URL("../../packages/adapters/src/store/sqlite-worker.ts", import.meta.url);
const created = { type: "artifact.created", at: 1, by: null } as const;
const finished = { type: "artifact.completed", at: 2, by: null } as const;

let folder: Folder;
const stores: Store[] = [];
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  await folder.remove();
});

/** A store on the file, and the threads that it has started. */
async function threaded(options: WriterThreadOptions = {}): Promise<{ store: Store; threads: Worker[] }> {
  const threads: Worker[] = [];
  const start = (how: WorkerOptions): Worker => {
    const thread = new Worker(PROGRAM, { ...how, execArgv: ["--conditions=docyard-src"] });
    threads.push(thread);
    return thread;
  };
  const store = await sqliteStore({ file: folder.file, writerThread: { start, ...options } });
  stores.push(store);
  return { store, threads };
}

const isAlive = ({ threadId }: Worker): boolean => threadId !== -1;
const numbers = (length: number, from = 0): number[] => Array.from({ length }, (_, i) => from + i);
const insertAll = (store: Store, ns: readonly number[]): Promise<PromiseSettledResult<void>[]> =>
  Promise.allSettled(ns.map((n) => store.artifacts.insert(plainArtifact(n, { status: "created" }), created)));
const kept = async (store: Store): Promise<string[]> =>
  (await store.artifacts.walk("", 10_000)).map(({ id }) => id);
const idsOf = (ns: readonly number[]): string[] => ns.map((n) => plainArtifact(n).id).sort();

describe("comes and goes", () => {
  test("many writes at once call it, lone ones do not keep it, and it comes again", async () => {
    const { store, threads } = await threaded({ crowd: 50, aloneMs: 200 });
    for (const n of numbers(60)) await insertAll(store, [n]);
    expect(threads).toHaveLength(0);
    let next = 60;
    const crowd = async (): Promise<void> => {
      const before = threads.length;
      while (threads.length === before) await insertAll(store, numbers(16, (next += 16)));
      await once(threads.at(-1)!, "message");
      // Whatever was begun before it was ready has been written here.
      await insertAll(store, numbers(16, (next += 16)));
      await insertAll(store, numbers(16, (next += 16)));
    };
    await crowd();
    const gone = once(threads[0]!, "exit");
    while (isAlive(threads[0]!)) await insertAll(store, [(next += 16)]);
    expect(await gone).toEqual([0]);
    await crowd();
    expect(threads).toHaveLength(2);
    expect((await store.artifacts.events("dock_a", 0, 100_000)).length).toBe((await kept(store)).length);
  });

  test("one that has nothing to do for a while ends, and nothing is missing", async () => {
    const { store, threads } = await threaded({ crowd: 1, aloneMs: 100 });
    while (threads.length === 0) await insertAll(store, numbers(16));
    await once(threads[0]!, "exit");
    await insertAll(store, numbers(16));
    expect(await kept(store)).toEqual(idsOf(numbers(16)));
  });

  test("there is none in memory, where it is not wanted, or where the addon was handed over", async () => {
    const start = vi.fn<NonNullable<WriterThreadOptions["start"]>>();
    const nativeBinding = { exports: {} };
    process.dlopen(nativeBinding, addonFile());
    for (const options of [
      { file: ":memory:", writerThread: { crowd: 0, start } },
      { file: folder.file, writerThread: null },
      { file: folder.file, writerThread: { crowd: 0, start }, nativeBinding: nativeBinding.exports },
    ]) {
      const store = await sqliteStore(options);
      await insertAll(store, numbers(64));
      await store.close();
    }
    expect(start).not.toHaveBeenCalled();
  });

  test("a process ends with it when nothing is under way, and not before", async () => {
    const script = `
      import { sqliteStore } from "@docyard/adapters/store/sqlite";
      import { plainArtifact } from "./tests/arbitraries.ts";
      const store = await sqliteStore({ file: process.argv[1], writerThread: { crowd: 0 } });
      const event = { type: "artifact.created", at: 1, by: null };
      void Promise.all([1, 2, 3].map((n) => store.artifacts.insert(plainArtifact(n), event))).then(() => console.log("kept"));
    `;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [...NODE_ARGS, "--input-type=module-typescript", "--eval", script, folder.file],
      { cwd: new URL("../..", import.meta.url), timeout: 60_000 },
    );
    expect(stdout).toBe("kept\n");
  });
});

describe("changes nothing", () => {
  test("writes and reads of several clients end as they do without it, whenever it comes and goes", async () => {
    type Step = { readonly n: number; readonly pauseMs: number };
    const step: fc.Arbitrary<Step> = fc.record({ n: fc.nat(30), pauseMs: fc.constantFrom(0, 0, 0, 1, 30) });
    const clients = fc.array(fc.array(step, { minLength: 5, maxLength: 60 }), {
      minLength: 1,
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(clients, fc.constantFrom(0, 1, 8), async (scripts, crowd) => {
        const own = await temporaryFolder();
        const store = await sqliteStore({ file: own.file, writerThread: { crowd, aloneMs: 20 } });
        try {
          /** By what was answered alone, since nobody else writes. */
          const expected = new Map<string, Artifact>();
          let events = 0;
          const client = async (script: readonly Step[]): Promise<void> => {
            for (const { n, pauseMs } of script) {
              const artifact = plainArtifact(n, { status: "created", metadata: { kind: `k${n % 3}` } });
              const { id } = artifact;
              const [outcome] = await insertAll(store, [n]);
              if (outcome!.status === "fulfilled") {
                events++;
                // What has been answered is there for whoever asks next.
                expect(await store.artifacts.get({ id })).not.toBeNull();
              } else {
                expect(outcome!.reason).toMatchObject({
                  name: "DocyardError",
                  code: "already_exists",
                  message: `The id or upload id of ${id} is taken`,
                });
              }
              const before = (await store.artifacts.get({ id }))!;
              const change = { status: "upload_completed", updatedAt: before.version } as const;
              const after = await store.artifacts.update(id, before.version, change, finished);
              if (after !== null) {
                events++;
                expect(after).toEqual({ ...before, ...change, version: before.version + 1 });
                if (after.version > (expected.get(id)?.version ?? 0)) expected.set(id, after);
              }
              if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
            }
          };
          await Promise.all(scripts.map(client));
          for (const [id, artifact] of expected) expect(await store.artifacts.get({ id })).toEqual(artifact);
          const log = await store.artifacts.events("dock_a", 0, 10_000);
          expect(log.map(({ seq }) => seq)).toEqual(numbers(events, 1));
          const listed = await store.artifacts.find({
            dockId: "dock_a",
            face: "machine",
            statuses: ["upload_completed"],
            start: { offset: 0 },
            limit: 100,
          });
          expect(listed.total).toBe(expected.size);
        } finally {
          await store.close();
          // Its connection was closed before the last one, which takes the log away.
          expect(await readdir(own.path)).toEqual(["docyard.db"]);
          await own.remove();
        }
      }),
      { numRuns: process.env["DOCYARD_TEST_FULL"] === "1" ? 100 : 6 },
    );
  }, 600_000);

  test("its commits are as durable: synchronous = full in its connection, too", async () => {
    // The thread opens the file as everybody does; what that sets is read from inside.
    const thread = new Worker(
      `const { workerData, parentPort } = require("node:worker_threads");
      import(workerData.module).then(async ({ openSqlite }) => {
        const { db } = await openSqlite({ file: workerData.file });
        parentPort.postMessage([db.pragma("journal_mode", { simple: true }), db.pragma("synchronous", { simple: true })]);
        db.close();
      });`,
      {
        eval: true,
        execArgv: ["--conditions=docyard-src"],
        workerData: {
          file: folder.file,
          module: new URL("../../packages/adapters/src/store/sqlite-open.ts", import.meta.url).href,
        },
      },
    );
    expect(await once(thread, "message")).toEqual([["wal", 2]]);
    await once(thread, "exit");
  });

  test("a quota refuses in the same words", async () => {
    const { store } = await threaded({ crowd: 0 });
    const outcomes = await Promise.allSettled(
      numbers(4).map((n) =>
        store.artifacts.insert(plainArtifact(n, { status: "created" }), created, { artifacts: 2 }),
      ),
    );
    const refused = outcomes.filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(2);
    expect(refused[0]).toMatchObject({ reason: { name: "DocyardError", code: "quota_exceeded" } });
    expect(await kept(store)).toHaveLength(2);
  });

  test("what cannot be sent to it is written here, with its neighbours", async () => {
    const { store, threads } = await threaded({ crowd: 0 });
    const when = { toJSON: () => "then" } as unknown as string;
    const odd = plainArtifact(1, { status: "created", metadata: { when } });
    await Promise.all([store.artifacts.insert(odd, created), insertAll(store, numbers(3, 2))]);
    expect(await store.artifacts.get({ id: odd.id })).toMatchObject({ metadata: { when: "then" } });
    await insertAll(store, numbers(3, 5));
    expect(await kept(store)).toEqual(idsOf(numbers(7, 1)));
    expect(isAlive(threads[0]!)).toBe(true);
  });

  test("nor does it hold up those behind it, or the store's end", async () => {
    const { store } = await threaded({ crowd: 0 });
    const when = { toJSON: () => "then" } as unknown as string;
    const odd = plainArtifact(0, { status: "created", metadata: { when } });
    const [, others] = await Promise.all([
      store.artifacts.insert(odd, created),
      insertAll(store, numbers(300, 1)),
    ]);
    expect(others.every(({ status }) => status === "fulfilled")).toBe(true);
    const last = store.artifacts.insert(
      { ...odd, ...plainArtifact(301), metadata: odd.metadata, status: "created" },
      created,
    );
    await Promise.all([store.close(), last]);
  });

  test("a lock that another process holds is waited for, while others go on", async () => {
    const { store } = await threaded({ crowd: 0 });
    const other = new SqliteDatabase(folder.file);
    other.exec("begin immediate");
    const writing = insertAll(store, numbers(8));
    const from = performance.now();
    for (let turns = 0; turns < 100; turns++) {
      await new Promise((resolve) => setImmediate(resolve));
      expect(await kept(store)).toEqual([]);
    }
    expect(performance.now() - from).toBeLessThan(4_000);
    other.exec("commit");
    other.close();
    expect((await writing).map(({ status }) => status)).toEqual(numbers(8).map(() => "fulfilled"));
    await store.ready();
  });
});

test("each of several batches at once hears what became of itself, whichever had to wait for a lock", async () => {
  const { store, threads } = await threaded({ crowd: 0 });
  await insertAll(store, numbers(3));
  const other = new SqliteDatabase(folder.file);
  other.exec("begin immediate");
  const sending = vi.spyOn(threads[0]!, "postMessage");
  // Every fifth is there already: no two batches of eight have the same outcomes.
  const writing = numbers(20).map((n) => insertAll(store, [n % 5 === 0 ? 0 : n + 10]));
  expect(sending).toHaveBeenCalledTimes(2);
  await new Promise((resolve) => setTimeout(resolve, 30));
  other.exec("commit");
  other.close();
  const refused = (await Promise.all(writing)).map(([outcome]) => outcome!.status === "rejected");
  expect(refused).toEqual(numbers(20).map((n) => n % 5 === 0));
  expect(sending.mock.calls.length).toBeGreaterThan(2);
});

test("while it has a batch the next goes once it is worth a commit, what is left when it has none", async () => {
  const { store, threads } = await threaded({ crowd: 0 });
  const other = new SqliteDatabase(folder.file);
  other.exec("begin immediate");
  const sending = vi.spyOn(threads[0]!, "postMessage");
  let next = 0;
  const writing: Promise<unknown>[] = [];
  const write = async (count: number): Promise<void> => {
    writing.push(insertAll(store, numbers(count, next)));
    next += count;
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  await write(1);
  expect(sending).toHaveBeenCalledTimes(1);
  await write(7);
  expect(sending).toHaveBeenCalledTimes(1);
  await write(1);
  expect(sending).toHaveBeenCalledTimes(2);
  await write(3);
  expect(sending).toHaveBeenCalledTimes(2);
  other.exec("commit");
  other.close();
  await Promise.all(writing);
  expect(sending.mock.calls.map(([batch]) => (batch as unknown[]).length)).toEqual([1, 8, 3]);
  expect(await kept(store)).toEqual(idsOf(numbers(12)));
});

describe("its death", () => {
  test("in the middle of writes: each is kept or refused, none is lost that was answered, and writing goes on", async () => {
    const { store, threads } = await threaded({ crowd: 0 });
    const outcomes = numbers(400).map(async (n) => {
      await new Promise((resolve) => setTimeout(resolve, n % 40));
      if (n === 200) void threads[0]!.terminate();
      return insertAll(store, [n]);
    });
    const settled = (await Promise.all(outcomes)).map(([outcome]) => outcome!);
    const answered = numbers(400).filter((n) => settled[n]!.status === "fulfilled");
    const there = await kept(store);
    expect(there).toEqual(expect.arrayContaining(idsOf(answered)));
    for (const outcome of settled) {
      if (outcome.status === "fulfilled") continue;
      expect(outcome.reason).toMatchObject({ message: "the thread that writes to the database has ended" });
    }
    // All that come later are written here, and no other is called.
    const later = await insertAll(store, numbers(400, 1_000));
    expect(later.every(({ status }) => status === "fulfilled")).toBe(true);
    expect(threads).toHaveLength(1);
    expect((await store.artifacts.events("dock_a", 0, 10_000)).length).toBe(there.length + 400);
  });

  test.each([
    [
      "is forbidden",
      () => {
        throw new Error("no threads here");
      },
    ],
    [
      "breaks at once",
      (how: WorkerOptions) => new Worker("throw new Error('broken')", { ...how, eval: true }),
    ],
    ["ends at once", (how: WorkerOptions) => new Worker("process.exit(0)", { ...how, eval: true })],
    ["is not there", (how: WorkerOptions) => new Worker("./nowhere.js", how)],
  ] as const)("one that %s is done without", async (_, start) => {
    const { store } = await threaded({ crowd: 0, start });
    const outcomes = await insertAll(store, numbers(64));
    expect(outcomes.every(({ status }) => status === "fulfilled")).toBe(true);
    expect(await kept(store)).toEqual(idsOf(numbers(64)));
  });
});

/** Where better-sqlite3's compiled addon is. */
function addonFile(): string {
  const root = dirname(createRequire(import.meta.url).resolve("better-sqlite3/package.json"));
  return join(root, "prebuilds", `${process.platform}-${process.arch}.node`);
}
