/** What is deleted by age: exactly what a rule names, and no byte that somebody still wants. */

import type { BackgroundReport, FindQuery, RetentionRule } from "@docyard/core";
import { DocyardError, match } from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addStudioArtifact, bytesOf, createWorld, HOUR_MS, MINUTE_MS, stage, type World } from "./world.ts";

const DOCK = "dock_a";

async function complete(world: World, text: string, metadata = {}, dockId: "dock_a" | "dock_b" = DOCK) {
  const dock = await world.writer(dockId);
  const { artifact } = await dock.create({ filename: `${text}.txt`, metadata });
  await stage(world, artifact, bytesOf(text));
  return (await dock.complete({ uploadId: artifact.uploadId! })).artifact;
}

const rules = (world: World, retention: readonly RetentionRule[]): Promise<unknown> =>
  world.store.accounts.update("dock", DOCK, { retention });

async function statuses(world: World): Promise<Record<string, string>> {
  const rows = await world.store.artifacts.walk("", 1_000);
  return Object.fromEntries(rows.map(({ filename, status }) => [filename, status]));
}

describe("retention", () => {
  test("deletes exactly what is old enough and has the metadata; a dry run says the same and deletes nothing", async () => {
    const rule = fc.record({
      afterMs: fc.integer({ min: 1, max: 30 }).map((minutes) => minutes * MINUTE_MS),
      metadata: fc.constantFrom({}, { kind: "scan" }, { kind: "report" }),
    });
    const artifacts = fc.array(
      fc.record({ ageMin: fc.integer({ min: 1, max: 20 }), kind: fc.constantFrom("scan", "report", "none") }),
      { maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(rule, { maxLength: 3 }), artifacts, async (retention, made) => {
        const world = await createWorld();
        const born = new Map<string, { at: number; metadata: { kind: string } }>();
        for (const [i, { ageMin, kind }] of made.entries()) {
          const { id } = await complete(world, `${i}`, { kind });
          born.set(id, { at: world.now(), metadata: { kind } });
          world.advance(ageMin * MINUTE_MS);
        }
        await rules(world, retention);
        const wanted = [...born]
          .filter(([, { at, metadata }]) =>
            retention.some((one) => at < world.now() - one.afterMs && match(metadata, one.metadata ?? {})),
          )
          .map(([id]) => id);
        const dry = await world.docyard.applyRetention();
        expect((await world.store.artifacts.walk("", 100)).every(({ status }) => status !== "deleted")).toBe(
          true,
        );
        const real = await world.docyard.applyRetention({ dryRun: false });
        expect(dry).toEqual(real);
        expect(real.artifacts).toBe(wanted.length);
        const gone = (await world.store.artifacts.walk("", 100)).filter(({ status }) => status === "deleted");
        expect(gone.map(({ id }) => id).sort()).toEqual(wanted.sort());
        expect((await world.docyard.applyRetention({ dryRun: false })).artifacts).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  test("more than a page, in one go", async () => {
    const world = await createWorld();
    const event = { type: "artifact.completed", at: world.now(), by: null } as const;
    const { artifact } = await (await world.writer(DOCK)).create({ filename: "first" });
    for (let i = 0; i < 1_203; i++) {
      const id = `${artifact.id}${i}`;
      await world.store.artifacts.insert(
        { ...artifact, id, uploadId: id, status: "upload_failed", createdAt: artifact.createdAt + (i % 7) },
        event,
      );
    }
    world.advance(HOUR_MS);
    await rules(world, [{ afterMs: MINUTE_MS }]);
    const seen: number[] = [];
    const report = await world.docyard.applyRetention({
      dryRun: false,
      onProgress: ({ artifacts }) => seen.push(artifacts),
    });
    expect(report.artifacts).toBe(1_203);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(await world.store.artifacts.usage(DOCK)).toEqual({ artifacts: 1, open: 1, bytes: 0 });
  });

  test("leaves open uploads and other docks alone, and says who did it", async () => {
    const world = await createWorld();
    const { id } = await complete(world, "old");
    await complete(world, "elsewhere", {}, "dock_b");
    await (await world.writer(DOCK)).create({ filename: "open.txt" });
    world.advance(HOUR_MS);
    await rules(world, [{ afterMs: MINUTE_MS }]);
    await world.docyard.applyRetention({ dryRun: false });
    expect(await statuses(world)).toEqual({
      "old.txt": "deleted",
      "elsewhere.txt": "upload_completed",
      "open.txt": "created",
    });
    const last = (await world.store.artifacts.events(DOCK, 0, 100)).at(-1);
    expect(last).toMatchObject({
      type: "artifact.deleted",
      artifactId: id,
      by: null,
      data: { reason: "retention" },
    });
  });

  test("a dock whose rules cannot be followed is told of, and the others' are", async () => {
    const world = await createWorld();
    for (const dockId of ["dock_a", "dock_b"] as const) {
      await complete(world, dockId, {}, dockId);
      await world.store.accounts.update("dock", dockId, { retention: [{ afterMs: MINUTE_MS }] });
    }
    world.advance(HOUR_MS);
    const slow = new Error("canceling statement due to statement timeout");
    const broken = (error: Error) =>
      world.hooked((call, run, [query]) => {
        if (call === "artifacts.find" && (query as FindQuery).dockId === "dock_a") throw error;
        return run();
      });
    expect(await broken(slow).applyRetention({ dryRun: false })).toMatchObject({
      artifacts: 1,
      docks: { dock_b: { artifacts: 1 } },
      failures: [{ dockId: "dock_a", error: slow }],
    });
    expect(await statuses(world)).toEqual({ "dock_a.txt": "upload_completed", "dock_b.txt": "deleted" });
    const heard: BackgroundReport[] = [];
    const background = broken(slow).runInBackground({ onReport: (report) => heard.push(report) });
    await expect
      .poll(() => heard)
      .toContainEqual({ kind: "retention_failed", dockId: "dock_a", error: slow });
    await background.stop();
    // Gone for one is gone for all: nobody waits for every dock in turn.
    const away = new DocyardError("upstream_failed", "the database is away");
    await expect(broken(away).applyRetention()).rejects.toBe(away);
  });

  test("bytes that a younger artifact shares stay", async () => {
    const world = await createWorld();
    const studio = await addStudioArtifact(world, bytesOf("same"));
    world.advance(HOUR_MS);
    const young = await complete(world, "same");
    expect(young.blobKey).toBe(studio.blobKey);
    await rules(world, [{ afterMs: 30 * MINUTE_MS }]);
    expect((await world.docyard.applyRetention({ dryRun: false })).artifacts).toBe(1);
    world.advance(48 * HOUR_MS);
    await world.docyard.sweep();
    expect(await world.blobs.stat(young.blobKey!)).not.toBeNull();
  });
});
