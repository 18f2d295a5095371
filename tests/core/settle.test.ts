/**
 * Racing completes and PUTs under a scheduler: every port call waits until fast-check lets it go, in every order it can
 * think of. What must hold at the end is in audit.ts; real concurrency is in racing.test.ts, crashes in crash.test.ts.
 */
import type { Artifact, BlobGrant, Completed, Docyard } from "@docyard/core";
import { DocyardError, isDocyardError } from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { machineStorageKey } from "../../packages/core/src/blob-keys.ts";
import { audit, auditCleanedUp } from "./audit.ts";
import type { DockId, World } from "./world.ts";
import { addStudioArtifact, bytesOf, createWorld, sha256, stage } from "./world.ts";

/** Few contents, so that uploads collide. */
const CONTENTS = ["alpha", "beta", "gamma"] as const;
type Content = (typeof CONTENTS)[number];

interface Upload {
  readonly dock: DockId;
  /** The digest of this content is declared; null: nothing is. */
  readonly declares: Content | null;
  /** Already there when the race begins. */
  readonly staged: Content | null;
}

/** What runs in the race, all started at the same moment. */
type Racer =
  | { readonly does: "complete"; readonly upload: number }
  /** `admitted`: through a store that serves itself and asks first; else straight to the bucket, as on S3. */
  | { readonly does: "put"; readonly upload: number; readonly content: Content; readonly admitted: boolean };

interface Race {
  readonly uploads: readonly Upload[];
  /** The Studio artifact of dock_a that already holds this content. */
  readonly studio: Content | null;
  readonly racers: readonly Racer[];
}

const content = fc.constantFrom(...CONTENTS);
const upload = (declared: fc.Arbitrary<Content | null>): fc.Arbitrary<Upload> =>
  fc.record({
    dock: fc.constantFrom<DockId>("dock_a", "dock_a", "dock_a", "dock_b"),
    declares: declared,
    staged: fc.option(content, { freq: 6 }),
  });
const complete = fc.record({ does: fc.constant("complete" as const), upload: fc.nat(2) });
const put = fc.record({
  does: fc.constant("put" as const),
  upload: fc.nat(2),
  content,
  admitted: fc.boolean(),
});

interface Outcome {
  readonly racer: Racer;
  readonly upload: Artifact;
  readonly answer: Completed | null;
  readonly error: unknown;
}

/** Sets the scene, runs the race under the scheduler, and returns what every complete answered. */
async function run(race: Race, scheduler: fc.Scheduler): Promise<{ world: World; outcomes: Outcome[] }> {
  const world = await createWorld();
  if (race.studio !== null) await addStudioArtifact(world, bytesOf(race.studio));
  const uploads: Artifact[] = [];
  for (const [index, { dock, declares, staged }] of race.uploads.entries()) {
    const writer = await world.writer(dock);
    const { artifact } = await writer.create({
      filename: `${index}.txt`,
      ...(declares === null ? {} : { hash: await sha256(bytesOf(declares)) }),
    });
    if (staged !== null) await putStaged(world, artifact, staged);
    uploads.push(artifact);
  }

  const scheduled = world.hooked(async (call, act) => {
    await scheduler.schedule(Promise.resolve(), call);
    return act();
  });
  // Opened before the race: what races is the use case, not the lookup of its dock.
  const racing = race.racers.map(async (racer): Promise<Outcome> => {
    const upload = uploads[racer.upload % uploads.length]!;
    try {
      const answer = await act(world, scheduled, scheduler, racer, upload);
      return { racer, upload, answer, error: null };
    } catch (error) {
      return { racer, upload, answer: null, error };
    }
  });
  return { world, outcomes: await scheduler.waitFor(Promise.all(racing)) };
}

async function act(
  world: World,
  scheduled: Docyard,
  scheduler: fc.Scheduler,
  racer: Racer,
  upload: Artifact,
): Promise<Completed | null> {
  if (racer.does === "complete") {
    const writer = await world.writer(upload.dockId as DockId, scheduled);
    return writer.complete({ uploadId: upload.uploadId! });
  }
  if (racer.admitted) await scheduled.blobHost.admit(grantFor(upload));
  await scheduler.schedule(Promise.resolve(), `PUT ${racer.content}`);
  await putStaged(world, upload, racer.content);
  return null;
}

function grantFor(upload: Artifact): BlobGrant {
  return { method: "PUT", key: upload.stagingKey!, artifactId: upload.id, principalId: null };
}

function putStaged(world: World, upload: Artifact, content: Content): Promise<void> {
  return stage(world, upload, bytesOf(content));
}

/** What must be true of every answer, given what is true at the end. */
async function checkAnswers(world: World, outcomes: readonly Outcome[]): Promise<void> {
  const answers = new Map<string, string>();
  for (const { racer, upload, answer, error } of outcomes) {
    if (error !== null) {
      const expected =
        racer.does === "put"
          ? ["failed_precondition", "not_found"]
          : ["failed_precondition", "integrity_mismatch"];
      expect(
        expected.some((code) => isDocyardError(error, code as "not_found")),
        `${racer.does} was refused with: ${(error as Error).stack}`,
      ).toBe(true);
      continue;
    }
    if (answer === null) continue;
    const { artifact, isDuplicate } = answer;
    expect(artifact.status).toBe("upload_completed");
    expect(artifact.dockId).toBe(upload.dockId);
    expect(artifact.face).toBe("machine");
    expect(isDuplicate).toBe(artifact.id !== upload.id);
    // Nobody removes anything here: what was acknowledged is there, unchanged.
    expect(await world.store.artifacts.get({ id: artifact.id })).toEqual(artifact);
    // All completes of one upload agree.
    expect(answers.get(upload.id) ?? artifact.id).toBe(artifact.id);
    answers.set(upload.id, artifact.id);
  }
}

/** Nothing is listed but what the audit has found to be true. */
async function checkLists(world: World, completed: readonly Artifact[]): Promise<void> {
  for (const dock of ["dock_a", "dock_b"] as const) {
    const reader = await world.reader(dock);
    const { items, page } = await reader.list({ limit: 1_000 });
    const expected = completed.filter((row) => row.dockId === dock && row.face === "machine");
    expect(items.map(({ artifact }) => artifact.id).toSorted()).toEqual(
      expected.map(({ id }) => id).toSorted(),
    );
    expect(page.total).toBe(expected.length);
  }
}

/** Whoever was refused can still finish: puts bytes and completes, unless its upload has ended meanwhile. */
async function finishAll(world: World, outcomes: readonly Outcome[], race: Race): Promise<void> {
  const uploads = new Map(outcomes.map(({ upload }) => [upload.id, upload]));
  for (const upload of uploads.values()) {
    const writer = await world.writer(upload.dockId as DockId);
    const declared = race.uploads.find((_, index) => upload.filename === `${index}.txt`)!.declares;
    const row = await world.store.artifacts.get({ id: upload.id });
    if (row!.status === "created") await putStaged(world, upload, declared ?? "alpha");
    const first = await writer.complete({ uploadId: upload.uploadId! });
    expect(first.artifact.status).toBe("upload_completed");
    const again = await writer.complete({ uploadId: upload.uploadId! });
    expect(again).toEqual(first);
    for (const { answer } of outcomes.filter((one) => one.upload.id === upload.id && one.answer !== null)) {
      expect(first).toEqual(answer);
    }
  }
}

async function checkRace(race: Race, scheduler: fc.Scheduler): Promise<Outcome[]> {
  const { world, outcomes } = await run(race, scheduler);
  await checkAnswers(world, outcomes);
  await checkLists(world, await audit(world));
  await finishAll(world, outcomes, race);
  await auditCleanedUp(world);
  return outcomes;
}

const raceOf = (
  uploads: fc.Arbitrary<readonly Upload[]>,
  racers: fc.Arbitrary<readonly Racer[]>,
): fc.Arbitrary<Race> => fc.record({ uploads, studio: fc.option(content, { freq: 2 }), racers });

const undeclared = upload(fc.constant(null));
const declared = upload(fc.option(content, { freq: 2 }));

describe("under every order of port calls", () => {
  test("completes of one upload all answer with one artifact", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        content,
        fc.option(content, { freq: 2 }),
        fc.integer({ min: 2, max: 5 }),
        async (scheduler, staged, studio, count) => {
          const racers = Array.from({ length: count }, () => ({ does: "complete", upload: 0 }) as const);
          const uploads = [{ dock: "dock_a", declares: null, staged } as const];
          const outcomes = await checkRace({ uploads, studio, racers }, scheduler);
          expect(outcomes.every(({ answer }) => answer !== null && !answer.isDuplicate)).toBe(true);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("completes of several uploads of the same bytes leave one artifact, and all succeed", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(fc.tuple(fc.constantFrom<DockId>("dock_a", "dock_b"), fc.boolean()), {
          minLength: 2,
          maxLength: 5,
        }),
        fc.option(fc.constant<Content>("alpha"), { freq: 2 }),
        async (scheduler, docks, studio) => {
          const uploads = docks.map(([dock, declares]): Upload => ({
            dock,
            declares: declares ? "alpha" : null,
            staged: "alpha",
          }));
          const racers = uploads.map((_, upload) => ({ does: "complete", upload }) as const);
          const outcomes = await checkRace({ uploads, studio, racers }, scheduler);
          for (const dock of new Set(docks.map(([dock]) => dock))) {
            const ofDock = outcomes.filter(({ upload }) => upload.dockId === dock);
            expect(ofDock.filter(({ answer }) => answer?.isDuplicate === false)).toHaveLength(1);
            expect(new Set(ofDock.map(({ answer }) => answer!.artifact.id)).size).toBe(1);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test("PUTs that race with completes never put other bytes under a digest", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        raceOf(
          fc.array(undeclared, { minLength: 1, maxLength: 3 }),
          fc.array(fc.oneof(complete, put), { minLength: 2, maxLength: 6 }),
        ),
        async (scheduler, race) => {
          await checkRace(race, scheduler);
        },
      ),
      { numRuns: 400 },
    );
  });

  test("with declared digests only declared bytes are ever published", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        raceOf(
          fc.array(declared, { minLength: 1, maxLength: 3 }),
          fc.array(fc.oneof(complete, put), { minLength: 2, maxLength: 6 }),
        ),
        async (scheduler, race) => {
          for (const { upload, answer } of await checkRace(race, scheduler)) {
            const { declares } = race.uploads.find((_, index) => upload.filename === `${index}.txt`)!;
            if (answer !== null && declares !== null) {
              expect(answer.artifact.digest).toBe(await sha256(bytesOf(declares)));
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test("the sweep may race with anything: what is acknowledged stays, what is refused stays refused", async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), content, content, async (scheduler, first, second) => {
        const world = await createWorld();
        const writer = await world.writer("dock_a");
        const uploads = [];
        for (const [index, staged] of [first, second, first].entries()) {
          const { artifact } = await writer.create({ filename: `${index}.txt` });
          await putStaged(world, artifact, staged);
          uploads.push(artifact);
        }
        // Every upload's window ends now: the sweep and the completes want the same rows.
        world.advance(world.docyard.settings.uploadWindowMs);
        const scheduled = world.hooked(async (call, act) => {
          await scheduler.schedule(Promise.resolve(), call);
          return act();
        });
        const racing = uploads.map(async (upload): Promise<Outcome> => {
          const racer = { does: "complete", upload: 0 } as const;
          try {
            const answer = await (
              await world.writer("dock_a", scheduled)
            ).complete({ uploadId: upload.uploadId! });
            return { racer, upload, answer, error: null };
          } catch (error) {
            return { racer, upload, answer: null, error };
          }
        });
        const sweeps = [scheduled.sweep(), scheduled.sweep()];
        await scheduler.waitFor(Promise.all([...racing, ...sweeps]));
        const outcomes = await Promise.all(racing);
        await checkAnswers(world, outcomes);
        await audit(world);
        for (const { upload, answer } of outcomes) {
          const row = await world.store.artifacts.get({ id: upload.id });
          if (answer === null) expect(row!.status).toBe("upload_failed");
        }
        await auditCleanedUp(world);
      }),
      { numRuns: 200 },
    );
  });
});

describe("examples", () => {
  test("bytes that are PUT while another face's content is being shared are not published as that content", async () => {
    const world = await createWorld();
    const studio = await addStudioArtifact(world, bytesOf("alpha"));
    const { artifact: upload } = await (await world.writer("dock_a")).create({ filename: "a.txt" });
    await putStaged(world, upload, "alpha");
    // The client PUTs again at the very moment when the store has refused to keep the content twice.
    const docyard = world.hooked(async (call, act) => {
      try {
        return await act();
      } catch (error) {
        if (call === "artifacts.update" && isDocyardError(error, "already_exists")) {
          await putStaged(world, upload, "beta");
        }
        throw error;
      }
    });
    const { artifact } = await (
      await world.writer("dock_a", docyard)
    ).complete({ uploadId: upload.uploadId! });
    expect(artifact.digest).toBe(await sha256(bytesOf("beta")));
    expect(artifact.blobKey).not.toBe(studio.blobKey);
    expect(artifact.sharesBlob).toBe(false);
    await audit(world);
    await auditCleanedUp(world);
  });

  test("equal content of the Studio face is shared, not copied, and stays while either face has it", async () => {
    const world = await createWorld();
    const studio = await addStudioArtifact(world, bytesOf("alpha"));
    const writer = await world.writer("dock_a");
    const { artifact: upload } = await writer.create({ filename: "a.txt" });
    await putStaged(world, upload, "alpha");
    const { artifact, isDuplicate } = await writer.complete({ uploadId: upload.uploadId! });
    expect(isDuplicate).toBe(false);
    expect(artifact).toMatchObject({ blobKey: studio.blobKey, sharesBlob: true });
    expect(await world.keys()).toEqual([studio.blobKey]);

    await writer.remove(artifact.id);
    await auditCleanedUp(world);
    expect(await world.keys()).toEqual([studio.blobKey]);
  });

  test("bytes that whoever has them has lost are put back, also where they are shared", async () => {
    const world = await createWorld();
    const studio = await addStudioArtifact(world, bytesOf("alpha"));
    const writer = await world.writer("dock_a");
    for (const isDuplicate of [false, true]) {
      await world.blobs.delete(studio.blobKey!);
      const { artifact: upload } = await writer.create({ filename: "a.txt" });
      await putStaged(world, upload, "alpha");
      expect(await writer.complete({ uploadId: upload.uploadId! })).toMatchObject({ isDuplicate });
      await audit(world);
    }
    await auditCleanedUp(world);
  });

  test("a duplicate of lost bytes is one only if its own were put back", async () => {
    const world = await createWorld();
    const writer = await world.writer("dock_a");
    const [first, second] = [await writer.create({ filename: "1" }), await writer.create({ filename: "2" })];
    await putStaged(world, first.artifact, "alpha");
    const { artifact: twin } = await writer.complete({ uploadId: first.artifact.uploadId! });
    await world.blobs.delete(twin.blobKey!);
    await putStaged(world, second.artifact, "alpha");
    // The client sends something else at the last moment.
    let isReplaced = false;
    const late = world.hooked(async (call, act) => {
      if (call === "blobs.copy" && !isReplaced) {
        isReplaced = true;
        await putStaged(world, second.artifact, "beta");
      }
      return act();
    });
    const answer = await (
      await world.writer("dock_a", late)
    ).complete({ uploadId: second.artifact.uploadId! });
    expect(answer).toMatchObject({ isDuplicate: false, artifact: { id: second.artifact.id } });
    expect(answer.artifact.digest).toBe(await sha256(bytesOf("beta")));
  });

  test("a copy made for bytes that were then replaced does not stay behind", async () => {
    const world = await createWorld();
    const { artifact: upload } = await (await world.writer("dock_a")).create({ filename: "a.txt" });
    await putStaged(world, upload, "alpha");
    // Two completes of one upload: the first has copied when the client PUTs again and the second overtakes it.
    let copies = 0;
    const slow = world.hooked(async (call, act) => {
      const result = await act();
      if (call === "blobs.copy" && ++copies === 1) {
        await putStaged(world, upload, "beta");
        await (await world.writer("dock_a")).complete({ uploadId: upload.uploadId! });
      }
      return result;
    });
    const { artifact } = await (await world.writer("dock_a", slow)).complete({ uploadId: upload.uploadId! });
    expect(artifact.digest).toBe(await sha256(bytesOf("beta")));
    await auditCleanedUp(world);
  });

  test("a complete that lost to a worker leaves alone what the worker is about to publish", async () => {
    // The same bytes twice, first with a checksum and then without: one complete can attest them, the other cannot.
    const world = await createWorld();
    const { artifacts } = world.store;
    const { artifact: upload } = await (await world.writer("dock_a")).create({ filename: "a.txt" });
    await putStaged(world, upload, "alpha");
    const digest = await sha256(bytesOf("alpha"));
    const blobKey = `${upload.storageKey}-${digest}`;
    const event = { type: "artifact.started", at: world.now(), by: null } as const;
    let reads = 0;
    const docyard = world.hooked(async (call, act) => {
      // Handed to a worker after this complete has copied, published right after it has read that.
      if (call === "artifacts.update") {
        await artifacts.update(upload.id, upload.version, { status: "upload_started" }, event);
      }
      const answer = await act();
      if (call === "artifacts.get" && ++reads === 2) {
        const change = { status: "upload_completed", size: 5, digest, blobKey } as const;
        await artifacts.update(upload.id, upload.version + 1, change, {
          ...event,
          type: "artifact.completed",
        });
      }
      return answer;
    });
    const { artifact } = await (
      await world.writer("dock_a", docyard)
    ).complete({ uploadId: upload.uploadId! });
    expect(artifact.status).toBe("upload_started");
    expect(await audit(world)).toMatchObject([{ id: upload.id, blobKey }]);
  });

  test("a PUT that lands after completion changes nothing and is cleaned up", async () => {
    const world = await createWorld();
    const writer = await world.writer("dock_a");
    const { artifact: upload } = await writer.create({ filename: "a.txt" });
    await putStaged(world, upload, "alpha");
    const { artifact } = await writer.complete({ uploadId: upload.uploadId! });
    await putStaged(world, upload, "beta");
    expect(await writer.complete({ uploadId: upload.uploadId! })).toEqual({ artifact, isDuplicate: false });
    await audit(world);
    await auditCleanedUp(world);
  });

  test("a client that PUTs without end gets an answer and can finish when it stops", async () => {
    const world = await createWorld();
    const writer = await world.writer("dock_a");
    const { artifact: upload } = await writer.create({ filename: "a.txt" });
    await putStaged(world, upload, "alpha");
    let puts = 0;
    const busy = world.hooked(async (call, act) => {
      if (call === "blobs.copy") await putStaged(world, upload, CONTENTS[++puts % CONTENTS.length]!);
      return act();
    });
    await expect(
      (await world.writer("dock_a", busy)).complete({ uploadId: upload.uploadId! }),
    ).rejects.toThrow(DocyardError);
    expect(puts).toBeLessThan(20);
    const { artifact } = await writer.complete({ uploadId: upload.uploadId! });
    expect(artifact.status).toBe("upload_completed");
    await audit(world);
    await auditCleanedUp(world);
  });
});

test("a storage key has the dock, the day and the hour it was made in, whatever was asked before", () => {
  const moments = fc.integer({ min: 0, max: Date.UTC(9999, 0) });
  fc.assert(
    fc.property(fc.array(fc.oneof(moments, fc.constant(3_600_000 - 1), fc.constant(3_600_000))), (times) => {
      for (const at of times) {
        const [day, hour] = new Date(at).toISOString().split(/[T:]/);
        expect(machineStorageKey("dock_a", "art_01ABC", at)).toBe(
          `docks/dock_a/artifacts/${day}/${hour}/01abc`,
        );
      }
    }),
  );
});
