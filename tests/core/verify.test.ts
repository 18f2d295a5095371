/** `verify` finds exactly what is wrong, in both directions, wherever it is cut off, and cries no wolf beside a server. */

import type { Artifact, BlobStore, VerifyOptions, VerifyReport, VerifyState } from "@docyard/core";
import { isInSample, verify } from "@docyard/core";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { add, completedRows, plans, populate } from "./populate.ts";
import type { World } from "./world.ts";
import { bodyOf, bytesOf, createWorld, HOUR_MS } from "./world.ts";

const DAY_MS = 24 * HOUR_MS;

function run(world: World, options: Partial<VerifyOptions> = {}, blobs: BlobStore = world.blobs) {
  const { graceMs } = world.docyard.settings;
  return verify({ artifacts: world.store.artifacts, blobs }, { graceMs, now: world.now, ...options });
}

async function damage(world: World, row: Artifact, how: "missing" | "altered"): Promise<void> {
  if (how === "missing") await world.blobs.delete(row.blobKey!);
  else await world.blobs.put(row.blobKey!, bodyOf(bytesOf("something else")), { sizeMax: 100 });
}

async function addStranger(world: World, n: number): Promise<string> {
  const key = `docks/dock_a/artifacts/2020-01-01/00/01hq3k9b20000000000000000${n}-${"a".repeat(64)}`;
  await world.blobs.put(key, bodyOf(bytesOf("x")), { sizeMax: 10 });
  return key;
}

/** Some worlds, some of whose artifacts are then damaged. */
const harm = fc.array(fc.constantFrom("whole", "whole", "missing", "altered"), {
  minLength: 12,
  maxLength: 12,
});

test("it finds exactly the damaged blobs and the orphans, also when it is cut off and goes on", async () => {
  await fc.assert(
    fc.asyncProperty(
      plans(),
      harm,
      fc.nat({ max: 3 }),
      fc.nat({ max: 30 }),
      async (todo, harms, strangers, cut) => {
        const world = await createWorld();
        await populate(world, todo);
        const rows = await completedRows(world.store);
        const expected = new Map<string, string>();
        for (const [index, row] of rows.entries()) {
          const how = harms[index % harms.length]!;
          if (how !== "missing" && how !== "altered") continue;
          await damage(world, row, how);
          expected.set(row.blobKey!, how);
        }
        const orphans: string[] = [];
        for (let n = 0; n < strangers; n++) orphans.push(await addStranger(world, n));
        world.advance(2 * DAY_MS);
        // Deleted artifacts' bytes are the sweep's to remove.
        await world.docyard.sweep();

        const report = await run(world);
        const known = new Map(report.findings.map(({ key, fault }) => [key, fault as string]));
        expect(known).toEqual(expected);
        expect(report.checked).toBe(rows.length);
        expect(report.missing + report.damaged).toBe(report.findings.length);
        expect(report.orphans.map(({ key }) => key)).toEqual(orphans.toSorted());
        for (const { id, expected: wanted } of report.findings) {
          expect(await world.store.artifacts.get({ id })).toMatchObject(wanted);
        }
        expect(await cutOff(world, cut)).toEqual(report);
      },
    ),
    { numRuns: 60 },
  );
});

/** Stops after so many steps, forgets everything but the state as JSON, and goes on. */
async function cutOff(world: World, steps: number): Promise<VerifyReport> {
  const stop = new AbortController();
  let left = steps;
  let state: string | null = null;
  const onProgress = (at: VerifyState): void => {
    state = JSON.stringify(at);
    if (left-- === 0) stop.abort(new Error("stopped"));
  };
  try {
    return await run(world, { signal: stop.signal, onProgress });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    return run(world, { resume: JSON.parse(state!) as VerifyState });
  }
}

test("a sample is the same each time, about as large as asked, and says what it left out", async () => {
  const world = await createWorld();
  for (let n = 0; n < 100; n++) await add(world, "dock_a", `text ${n}`);
  const report = await run(world, { sample: 0.25 });
  expect(report).toEqual(await run(world, { sample: 0.25 }));
  expect(report.checked + report.skipped).toBe(100);
  const ids = Array.from({ length: 20_000 }, (_, n) => `art_01HQ3K9B2${String(n).padStart(17, "0")}`);
  for (const share of [0.01, 0.1, 0.5]) {
    const chosen = ids.filter((id) => isInSample(id, share)).length / ids.length;
    expect(Math.abs(chosen - share)).toBeLessThan(0.02);
  }
  expect(ids.every((id) => isInSample(id, 1))).toBe(true);
  // A larger sample holds the smaller one.
  expect(ids.filter((id) => isInSample(id, 0.1)).every((id) => isInSample(id, 0.2))).toBe(true);
});

test("an artifact that is deleted and swept while it is looked at is no finding", async () => {
  const world = await createWorld();
  const row = await add(world, "dock_a", "a");
  const blobs: BlobStore = {
    ...world.blobs,
    async digest(key) {
      await (await world.writer("dock_a")).remove(row.id);
      world.advance(DAY_MS);
      await world.docyard.sweep();
      return world.blobs.digest(key);
    },
  };
  expect(await run(world, {}, blobs)).toMatchObject({ checked: 1, findings: [], orphaned: 0 });
});

test("bytes that are put right while they are looked at are no finding", async () => {
  const world = await createWorld();
  const row = await add(world, "dock_a", "a");
  await damage(world, row, "altered");
  let reads = 0;
  const blobs: BlobStore = {
    ...world.blobs,
    async digest(key) {
      const found = await world.blobs.digest(key);
      if (reads++ === 0) await world.blobs.put(key, bodyOf(bytesOf("a")), { sizeMax: 10 });
      return found;
    },
  };
  expect(await run(world, {}, blobs)).toMatchObject({ checked: 1, findings: [] });
});

test("one blob that cannot be read is a finding; storage that is away is the end", async () => {
  const world = await createWorld();
  const bad = await add(world, "dock_a", "a");
  await add(world, "dock_a", "b");
  const failing: BlobStore = {
    ...world.blobs,
    digest: (key) => (key === bad.blobKey ? Promise.reject(new Error("EIO")) : world.blobs.digest(key)),
  };
  expect(await run(world, {}, failing)).toMatchObject({
    checked: 2,
    damaged: 1,
    findings: [{ id: bad.id, fault: "unreadable", actual: null }],
  });
  const away = { ...failing, ready: () => Promise.reject(new Error("the bucket is away")) };
  await expect(run(world, {}, away)).rejects.toThrow("the bucket is away");
});

test("what is new, or belongs to a row that has just ended, is no orphan yet", async () => {
  const world = await createWorld();
  await addStranger(world, 1);
  const row = await add(world, "dock_a", "a");
  const copy = row.blobKey!.replace(row.digest!, "b".repeat(64));
  await world.blobs.put(copy, bodyOf(bytesOf("y")), { sizeMax: 10 });
  expect(await run(world)).toMatchObject({ blobs: 3, orphaned: 0 });
  expect(await run(world, { orphans: false })).toMatchObject({ blobs: 0 });
  world.advance(DAY_MS);
  expect(await run(world)).toMatchObject({ orphaned: 2, orphanedBytes: 2 });
  expect((await run(world)).orphans.map(({ claim }) => claim).toSorted()).toEqual(["stranger", "unwanted"]);
});

test("it asks for leave before it reads", async () => {
  const world = await createWorld();
  for (const text of ["a", "bb", "ccc"]) await add(world, "dock_a", text);
  const asked: number[] = [];
  await run(world, { pace: async (bytes) => void asked.push(bytes) });
  expect(new Set(asked)).toEqual(new Set([1, 2, 3]));
});
