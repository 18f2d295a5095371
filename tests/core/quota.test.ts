/** What a dock may hold: the counts, the bounds, and that no race overdraws them. */

import type { Quota, Usage } from "@docyard/core";
import { addUsage, isDocyardError, NO_USAGE, requireQuota, usageChange, usageOf } from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesOf, createWorld, stage, type World } from "./world.ts";

const STATUSES = ["created", "upload_started", "upload_completed", "upload_failed", "deleted"] as const;
const row = fc.record({
  status: fc.constantFrom(...STATUSES),
  size: fc.option(fc.nat(10_000), { nil: null }),
});
const count = fc.nat(1_000);
const usage: fc.Arbitrary<Usage> = fc.record({ artifacts: count, open: count, bytes: count });

describe("usage", () => {
  test("changes add up to what the last state is", () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 1 }), (history) => {
        let total = NO_USAGE;
        for (const [i, after] of history.entries()) {
          total = addUsage(total, usageChange(history[i - 1] ?? null, after));
        }
        expect(total).toEqual(usageOf(history.at(-1)!));
      }),
    );
  });

  test.each([
    ["created", 7, { artifacts: 1, open: 1, bytes: 7 }],
    ["created", null, { artifacts: 1, open: 1, bytes: 0 }],
    ["upload_started", 7, { artifacts: 1, open: 1, bytes: 7 }],
    ["upload_completed", 7, { artifacts: 1, open: 0, bytes: 7 }],
    ["upload_failed", 7, NO_USAGE],
    ["deleted", 7, NO_USAGE],
  ] as const)("of %s with %s bytes", (status, size, expected) => {
    expect(usageOf({ status, size })).toEqual(expected);
  });
});

describe("a quota", () => {
  const refuses = (...[total, change, quota]: Parameters<typeof requireQuota>): boolean => {
    try {
      requireQuota(total, change, quota);
      return false;
    } catch (error) {
      expect(isDocyardError(error, "quota_exceeded")).toBe(true);
      return true;
    }
  };

  test("refuses exactly what grows beyond a bound", () => {
    fc.assert(
      fc.property(usage, usage, fc.boolean(), usage, (total, size, grows, quota) => {
        const change = grows ? size : { artifacts: -size.artifacts, open: -size.open, bytes: -size.bytes };
        const names = ["artifacts", "open", "bytes"] as const;
        expect(refuses(total, change, quota)).toBe(
          names.some((name) => change[name] > 0 && total[name] > quota[name]),
        );
        expect(refuses(total, change, {})).toBe(false);
      }),
    );
  });
});

const DOCK = "dock_a";

async function limited(quota: Quota): Promise<World> {
  const world = await createWorld();
  await world.store.accounts.update("dock", DOCK, { quota });
  return world;
}

const refused = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => false,
    (error: unknown) => isDocyardError(error, "quota_exceeded"),
  );

describe("a dock with a quota", () => {
  test("of artifacts takes so many, and another one for each that goes", async () => {
    const world = await limited({ artifacts: 2 });
    const dock = await world.writer(DOCK);
    const first = await dock.create({ filename: "1" });
    await dock.create({ filename: "2" });
    expect(await refused(dock.create({ filename: "3" }))).toBe(true);
    await dock.remove(first.artifact.id);
    expect(await refused(dock.create({ filename: "3" }))).toBe(false);
  });

  test("of open uploads takes another one when one is completed", async () => {
    const world = await limited({ open: 1 });
    const dock = await world.writer(DOCK);
    const { artifact } = await dock.create({ filename: "1" });
    expect(await refused(dock.create({ filename: "2" }))).toBe(true);
    await stage(world, artifact, bytesOf("one"));
    await dock.complete({ uploadId: artifact.uploadId! });
    expect(await refused(dock.create({ filename: "2" }))).toBe(false);
  });

  test("of bytes counts declared ones at once", async () => {
    const dock = await (await limited({ bytes: 10 })).writer(DOCK);
    await dock.create({ filename: "1", size: 6 });
    expect(await refused(dock.create({ filename: "2", size: 5 }))).toBe(true);
    expect(await refused(dock.create({ filename: "2", size: 4 }))).toBe(false);
  });

  test("of bytes refuses to complete what nobody declared, loses nothing, and completes it when there is room", async () => {
    const world = await limited({ bytes: 10 });
    const dock = await world.writer(DOCK);
    const { artifact } = await dock.create({ filename: "large" });
    await stage(world, artifact, bytesOf("eleven byte"));
    expect(await refused(dock.complete({ uploadId: artifact.uploadId! }))).toBe(true);
    expect(await world.store.artifacts.get({ id: artifact.id })).toEqual(artifact);
    await world.store.accounts.update("dock", DOCK, { quota: { bytes: 11 } });
    const { artifact: completed } = await (
      await world.writer(DOCK)
    ).complete({ uploadId: artifact.uploadId! });
    expect(completed.status).toBe("upload_completed");
    expect(await world.store.artifacts.usage(DOCK)).toEqual({ artifacts: 1, open: 0, bytes: 11 });
  });

  test("that was lowered refuses what is new, and lets the rest finish and go", async () => {
    const world = await createWorld();
    const before = await world.writer(DOCK);
    const { artifact } = await before.create({ filename: "1", size: 3 });
    const { artifact: other } = await before.create({ filename: "2", size: 3 });
    await world.store.accounts.update("dock", DOCK, { quota: { artifacts: 1, open: 0, bytes: 1 } });
    const dock = await world.writer(DOCK);
    await stage(world, artifact, bytesOf("one"));
    await dock.complete({ uploadId: artifact.uploadId! });
    await dock.remove(other.id);
    expect(await refused(dock.create({ filename: "3" }))).toBe(true);
  });

  test("is not overdrawn by sixteen at once", async () => {
    const dock = await (await limited({ artifacts: 5 })).writer(DOCK);
    const all = await Promise.all(
      Array.from({ length: 16 }, (_, i) => refused(dock.create({ filename: `${i}` }))),
    );
    expect(all.filter((wasRefused) => !wasRefused)).toHaveLength(5);
  });

  test("says nothing about another dock", async () => {
    const world = await limited({ artifacts: 0 });
    expect(await refused((await world.writer(DOCK)).create({ filename: "1" }))).toBe(true);
    expect(await refused((await world.writer("dock_b")).create({ filename: "1" }))).toBe(false);
  });
});
