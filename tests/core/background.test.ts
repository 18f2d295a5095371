/**
 * Background work as an embedding application runs it: what is due is dealt with at once and again, rings are answered,
 * every failure is told and none ends it, and it stops when it is asked to and not before its work has settled.
 */

import { memoryBlobs } from "@docyard/adapters/blob/memory";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { memoryStore } from "@docyard/adapters/store/memory";
import type { Artifact, BackgroundReport, Docyard, Queue } from "@docyard/core";
import { createDocyard } from "@docyard/core";
import { describe, expect, test } from "vitest";
import { dueRows } from "./audit.ts";
import { artifactRow } from "./rows.ts";
import { fakeIngest } from "./studio-parts.ts";
import { addStudioArtifact, bytesOf, createWorld, HOUR_MS, MINUTE_MS, type World } from "./world.ts";

/** Keeps what was told, and wakes whoever waits for more of it. */
function listener() {
  const reports: BackgroundReport[] = [];
  let wake = (): void => {};
  return {
    reports,
    onReport(report: BackgroundReport) {
      reports.push(report);
      wake();
    },
    async until(isEnough: () => boolean): Promise<void> {
      while (!isEnough()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

/** An upload that nobody will finish: due once its window has passed. */
async function abandoned(world: World): Promise<string> {
  const dock = await world.writer("dock_a");
  return (await dock.create({ filename: "a.txt", metadata: {} })).artifact.id;
}

const idOf = (n: number): string => `art_${String(n).padStart(26, "0")}`;

/** A Studio artifact whose ring was lost. */
const WAITING = { face: "studio", source: { kind: "url", url: "https://e.com/a" }, dueAt: 0 } as const;

async function addDue({ store, now }: World, n: number, over: Partial<Artifact>): Promise<void> {
  const row = artifactRow({ id: idOf(n), ...over });
  await store.artifacts.insert(row, { type: "artifact.created", at: now(), by: null });
}

const kinds = (reports: readonly BackgroundReport[]): string[] => reports.map(({ kind }) => kind);

describe("the sweep", () => {
  test("runs at once, and again after each interval", async () => {
    const world = await createWorld();
    const heard = listener();
    const first = await abandoned(world);
    world.advance(25 * HOUR_MS);
    const background = world.docyard.runInBackground({ sweepIntervalMs: 1, onReport: heard.onReport });
    await heard.until(() => kinds(heard.reports).includes("swept"));
    expect((await world.store.artifacts.get({ id: first }))?.status).toBe("upload_failed");

    const second = await abandoned(world);
    const before = heard.reports.length;
    world.advance(25 * HOUR_MS);
    await heard.until(() => kinds(heard.reports.slice(before)).includes("swept"));
    await background.stop();
    expect((await world.store.artifacts.get({ id: second }))?.status).toBe("upload_failed");
    expect(new Set(kinds(heard.reports))).toEqual(new Set(["swept"]));
  });

  test("goes on after it failed, and tells of each artifact that it could not deal with", async () => {
    const world = await createWorld();
    const heard = listener();
    const id = await abandoned(world);
    world.advance(25 * HOUR_MS);
    let looks = 0;
    let updates = 0;
    const broken = world.hooked(async (call, run) => {
      if (call === "artifacts.due" && ++looks === 1) throw new Error("the store is away");
      if (call === "artifacts.update" && ++updates === 1) throw new Error("the row is locked");
      return run();
    });
    const background = broken.runInBackground({ sweepIntervalMs: 1, onReport: heard.onReport });
    await heard.until(() => kinds(heard.reports).includes("swept"));
    await background.stop();
    const [one, two] = heard.reports;
    expect(one).toEqual({ kind: "sweep_failed", error: new Error("the store is away") });
    expect(two).toEqual({
      kind: "artifact_sweep_failed",
      artifactId: id,
      error: new Error("the row is locked"),
    });
    expect((await world.store.artifacts.get({ id }))?.status).toBe("upload_failed");
  });

  test("reads a backlog that waits for workers once, however long it is", async () => {
    const world = await createWorld();
    const backlog = 3_000;
    for (let n = 0; n < backlog; n++) await addDue(world, n, WAITING);
    let rows = 0;
    const counted = world.hooked(async (call, run) => {
      const answer = await run();
      if (call === "artifacts.due") rows += (answer as readonly unknown[]).length;
      return answer;
    });
    expect(await counted.sweep()).toEqual({ handled: backlog, failures: [] });
    expect(rows).toBe(backlog);
  });

  test("rings before it removes dead bytes, and for whoever comes while it does", async () => {
    const world = await createWorld();
    const dead = 250;
    for (let n = 0; n < dead; n++) await addDue(world, n, { status: "deleted", dueAt: 0 });
    await addDue(world, dead, { ...WAITING, dueAt: 1 });
    const done: string[] = [];
    const watched = world.hooked(async (call, run, [first]) => {
      if (call === "queue.push") done.push(first as string);
      if (call === "artifacts.update") {
        done.push("dead");
        // Its worker dies, or its ring is lost, while the dead are seen to.
        if (done.length === 10) await addDue(world, dead + 1, { ...WAITING, dueAt: world.now() });
      }
      return run();
    });
    expect(await watched.sweep()).toEqual({ handled: dead + 2, failures: [] });
    const [first, second] = [dead, dead + 1].map((n) => done.indexOf(idOf(n)));
    expect(first).toBe(0);
    // A batch ends first.
    expect(second).toBeLessThanOrEqual(101);
    expect(done).toHaveLength(dead + 2);
  });

  test("deals with some at a time, and has dealt with all when it is over", async () => {
    const world = await createWorld();
    for (let n = 0; n < 20; n++) await addDue(world, n, { status: "deleted", dueAt: n });
    let [running, most] = [0, 0];
    const watched = world.hooked(async (call, run) => {
      if (call !== "artifacts.update") return run();
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      return run().finally(() => running--);
    });
    expect(await watched.sweep({ limit: 10 })).toEqual({ handled: 10, failures: [] });
    expect({ running, most }).toEqual({ running: 0, most: 4 });
    expect((await dueRows(world)).length).toBe(10);
  });

  test("comes to what is behind rows that it cannot deal with", async () => {
    const world = await createWorld();
    const stuck = 300;
    for (let n = 0; n <= stuck; n++) await addDue(world, n, { status: "deleted", dueAt: n });
    const broken = world.hooked((call, run, [first]) => {
      if (call === "artifacts.update" && first !== idOf(stuck)) throw new Error("the row is locked");
      return run();
    });
    const { handled, failures } = await broken.sweep();
    expect({ handled, failures: failures.length }).toEqual({ handled: 1, failures: stuck });
  });

  test("looks for what nobody wants, and for what is too old, at its own pace", async () => {
    const world = await createWorld();
    const heard = listener();
    await world.blobs.put("incoming/nobody", bytes(), { sizeMax: 10 });
    // The memory store notes when bytes came by the world's clock.
    world.advance(50 * HOUR_MS);
    let looks = 0;
    const counted = world.hooked(async (call, run, args) => {
      if (call === "blobs.list" && args[0] === "incoming/") looks++;
      return run();
    });
    const background = counted.runInBackground({ sweepIntervalMs: 1, onReport: heard.onReport });
    await heard.until(() => kinds(heard.reports).includes("staging_swept"));
    // Sweeps go on, each of them due to find something.
    for (let round = 0; round < 3; round++) {
      const before = heard.reports.length;
      await abandoned(world);
      world.advance(25 * HOUR_MS);
      await heard.until(() => kinds(heard.reports.slice(before)).includes("swept"));
    }
    await background.stop();
    expect(await world.keys("incoming/nobody")).toEqual([]);
    expect(looks).toBe(1);
  });
});

describe("what never ended and no list shows", () => {
  test("is dropped once no upload can be that old, and costs nothing else where that is refused", async () => {
    const settings = { uploadWindowMs: 3 * HOUR_MS, graceMs: HOUR_MS };
    const world = await createWorld();
    const heard = listener();
    await world.store.accounts.update("dock", "dock_a", { retention: [{ afterMs: HOUR_MS }] });
    const old = await addStudioArtifact(world, bytesOf("old"));
    world.advance(2 * HOUR_MS);
    const asked: number[] = [];
    const docyardWith = (dropUnfinished: (before: number) => Promise<number>): Docyard =>
      createDocyard({ ...world, settings, blobs: { ...world.blobs, dropUnfinished } });

    const drops = docyardWith(async (before) => {
      asked.push(before);
      return 3;
    });
    expect(await drops.sweepStaging()).toBe(3);
    expect(asked).toEqual([world.now() - 4 * HOUR_MS]);
    expect(await drops.sweepStaging({ signal: AbortSignal.abort() })).toBe(0);
    expect(asked).toHaveLength(1);

    const refused = docyardWith(() => Promise.reject(new Error("not allowed")));
    const background = refused.runInBackground({ sweepIntervalMs: 1, onReport: heard.onReport });
    await heard.until(() => kinds(heard.reports).includes("sweep_failed"));
    await background.stop();
    expect((await world.store.artifacts.get({ id: old.id }))?.status).toBe("deleted");
  });
});

describe("rings", () => {
  function yard(queue: Queue = memoryQueue(), withIngest = true): Docyard {
    const store = memoryStore();
    return createDocyard({
      store,
      queue,
      blobs: memoryBlobs({ baseUrl: "http://docyard.test", secret: new Uint8Array(32) }),
      limit: memoryLimit(),
      ...(withIngest ? { ingest: fakeIngest(new Map()) } : {}),
    });
  }

  test("are answered as long as it runs, no more at a time than it was told", async () => {
    const handled: string[] = [];
    let concurrency = 0;
    let stopped = false;
    const queue: Queue = {
      ...memoryQueue(),
      async consume(handle, options) {
        ({ concurrency } = options);
        await handle("art_unknown");
        handled.push("art_unknown");
        if (!options.signal.aborted) {
          await new Promise((resolve) => options.signal.addEventListener("abort", resolve, { once: true }));
        }
        stopped = true;
      },
    };
    const background = yard(queue).runInBackground({ concurrency: 3 });
    await background.stop();
    // What was under way has settled: `stop` waited for the consumer.
    expect({ concurrency, handled, stopped }).toEqual({
      concurrency: 3,
      handled: ["art_unknown"],
      stopped: true,
    });
    await expect(background.stop()).resolves.toBeUndefined();
  });

  test("that cannot be read are told of, and the sweep goes on", async () => {
    const heard = listener();
    const queue: Queue = {
      ...memoryQueue(),
      consume: async () => Promise.reject(new Error("the queue is away")),
    };
    const background = yard(queue).runInBackground({ onReport: heard.onReport });
    await heard.until(() => heard.reports.length > 0);
    expect(heard.reports).toEqual([{ kind: "queue_failed", error: new Error("the queue is away") }]);
    await background.stop();
  });

  test.each([
    ["two at a time by default", {}, true, 2],
    ["by nobody where there are no ports to ingest with", {}, false, null],
    ["by nobody where it is told so", { concurrency: 0 }, true, null],
  ])("are answered %s", async (_, options, withIngest, expected) => {
    let concurrency: number | null = null;
    const queue: Queue = {
      ...memoryQueue(),
      async consume(_handle, given) {
        ({ concurrency } = given);
      },
    };
    await yard(queue, withIngest).runInBackground(options).stop();
    expect(concurrency).toBe(expected);
  });

  test.each([
    [{ concurrency: 1 }, false, "createDocyard was given no ingest ports: hand them in as `ingest`"],
    [{ concurrency: -1 }, true, "concurrency is a whole number of at least 0"],
    [{ concurrency: 1.5 }, true, "concurrency is a whole number of at least 0"],
    [{ sweepIntervalMs: 0 }, true, "sweepIntervalMs is a whole number of at least 1"],
    [{ choresIntervalMs: Number.NaN }, true, "choresIntervalMs is a whole number of at least 0"],
  ])("%j (ingest: %s) is refused: %s", (options, withIngest, message) => {
    expect(() => yard(memoryQueue(), withIngest).runInBackground(options)).toThrow(new TypeError(message));
  });
});

test("what is being swept is finished before it has stopped", async () => {
  const world = await createWorld();
  const id = await abandoned(world);
  world.advance(25 * HOUR_MS + MINUTE_MS);
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const held = world.hooked(async (call, run) => {
    if (call === "artifacts.update") {
      ask();
      await gate;
    }
    return run();
  });
  const background = held.runInBackground();
  await asked;
  let hasStopped = false;
  const stopping = background.stop().then(() => {
    hasStopped = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(hasStopped).toBe(false);
  open();
  await stopping;
  expect((await world.store.artifacts.get({ id }))?.status).toBe("upload_failed");
});

async function* bytes(): AsyncGenerator<Uint8Array, void, void> {
  yield new Uint8Array(3);
}
