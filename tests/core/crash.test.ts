/**
 * Crashes at every port call (lesson T-01, in process): the k-th call fails, before or after it took effect, and from
 * then on the process is dead; another one, on the same ports, repeats the request or sweeps. Files and real kills are
 * the adapters' and the end-to-end tests' affair.
 */
import type { Artifact, Docyard } from "@docyard/core";
import { DocyardError, isDocyardError } from "@docyard/core";
import { describe, expect, test } from "vitest";

import { audit, auditCleanedUp, dueRows } from "./audit.ts";
import type { Hook, World, WorldOptions } from "./world.ts";
import { addStudioArtifact, bodyOf, bytesOf, createWorld, sha256, stage } from "./world.ts";

/** Thrown in place of a call's answer; nothing in core may take it for one of its own errors. */
class Crash extends Error {
  override readonly name = "Crash";
}

/** Whether the fatal call still took effect: an answer can be lost as well as a request. */
type Moment = "before" | "after";

/** Dies at the call with this number, counted from 1, and stays dead. */
function dyingAt(fatal: number, moment: Moment): { hook: Hook; calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    async hook(call, run) {
      calls.push(call);
      if (calls.length > fatal || (calls.length === fatal && moment === "before")) throw new Crash(call);
      const answer = await run();
      if (calls.length === fatal) throw new Crash(call);
      return answer;
    },
  };
}

interface Scenario<S> {
  readonly options?: WorldOptions;
  /** Makes the world as it is before the request. */
  prepare(world: World): Promise<S>;
  /** The request, on the docyard that may die and on the one that repeats it. */
  request(world: World, docyard: Docyard, scene: S): Promise<unknown>;
  /** What must be true once the request has been repeated; `answer` is the repeat's. */
  check?(world: World, scene: S, answer: unknown): Promise<void>;
  /** Repeating it is refused with this code when the first one had taken effect. */
  readonly repeatRefused?: "not_found";
  /** Happens between the crash and the repeat; if it sends other bytes, what the crash left is for `gc` to find. */
  meanwhile?(world: World, scene: S): Promise<void>;
  /** Happens before everything is cleaned up, whether there was a repeat or not. */
  atLast?(world: World, scene: S): Promise<void>;
}

/**
 * Runs the scenario once for each call that the request makes, dying there; then repeats the request, or leaves it, and
 * checks that nothing was lost, nothing shown too early, and nothing left behind.
 * @returns how many crashes there were
 */
async function crashEverywhere<S>(scenario: Scenario<S>): Promise<number> {
  let crashes = 0;
  for (const moment of ["before", "after"] as const) {
    for (const isRepeated of [true, false]) {
      for (let fatal = 1; ; fatal++) {
        const world = await createWorld(scenario.options);
        const scene = await scenario.prepare(world);
        const acknowledged = await audit(world);
        const { hook, calls } = dyingAt(fatal, moment);
        let crashed = false;
        try {
          await scenario.request(world, world.hooked(hook), scene);
        } catch (error) {
          expect(error, `dying ${moment} call ${fatal}, ${calls.at(-1)}`).toBeInstanceOf(Crash);
          crashed = true;
        }
        if (!crashed && calls.length < fatal) break;
        crashes++;
        await audit(world);

        await scenario.meanwhile?.(world, scene);
        if (isRepeated) {
          try {
            const answer = await scenario.request(world, world.docyard, scene);
            await scenario.check?.(world, scene, answer);
          } catch (error) {
            if (scenario.repeatRefused === undefined || !isDocyardError(error, scenario.repeatRefused))
              throw error;
          }
        }
        const completed = await audit(world);
        const dead = acknowledged.filter(({ id }) => !completed.some((row) => row.id === id));
        for (const { id } of dead) {
          const events = await world.store.artifacts.events("dock_a", 0, 1_000);
          expect(
            events.some((event) => event.artifactId === id && event.type === "artifact.deleted"),
            `${id} is gone although nobody removed it`,
          ).toBe(true);
        }
        await scenario.atLast?.(world, scene);
        await auditCleanedUp(world, { collectsGarbage: scenario.meanwhile !== undefined });
      }
    }
  }
  return crashes;
}

const ALPHA = bytesOf("alpha");
const BETA = bytesOf("beta");

/** An upload in dock_a whose bytes are staged. */
async function staged(world: World, bytes: Uint8Array = ALPHA): Promise<Artifact> {
  const { artifact } = await (await world.writer("dock_a")).create({ filename: "a.txt" });
  await stage(world, artifact, bytes);
  return artifact;
}

async function completed(world: World, bytes: Uint8Array = ALPHA): Promise<Artifact> {
  const upload = await staged(world, bytes);
  return (await (await world.writer("dock_a")).complete({ uploadId: upload.uploadId! })).artifact;
}

async function complete(world: World, docyard: Docyard, upload: Artifact): Promise<unknown> {
  return (await world.writer("dock_a", docyard)).complete({ uploadId: upload.uploadId! });
}

describe("a crash at any call", () => {
  test("of a create: repeating it makes an upload, the first one expires", async () => {
    const crashes = await crashEverywhere({
      prepare: async () => null,
      request: async (world, docyard) =>
        (await world.writer("dock_a", docyard)).create({ filename: "a.txt", hash: await sha256(ALPHA) }),
      check: async (_, __, answer) => {
        expect(answer).toMatchObject({ isDuplicate: false, artifact: { status: "created" } });
      },
    });
    expect(crashes).toBeGreaterThanOrEqual(4 * 4);
  });

  test("of a create whose content is here: repeating it finds the content", async () => {
    await crashEverywhere({
      prepare: completed,
      request: async (world, docyard) =>
        (await world.writer("dock_a", docyard)).create({ filename: "a.txt", hash: await sha256(ALPHA) }),
      check: async (_, artifact, answer) => {
        expect(answer).toEqual({ isDuplicate: true, artifact, upload: null });
      },
    });
  });

  test("of a complete: repeating it finishes", async () => {
    const crashes = await crashEverywhere({
      prepare: staged,
      request: complete,
      check: async (_, upload, answer) => {
        expect(answer).toMatchObject({
          isDuplicate: false,
          artifact: { id: upload.id, status: "upload_completed", digest: await sha256(ALPHA) },
        });
      },
    });
    expect(crashes).toBeGreaterThanOrEqual(4 * 7);
  });

  test("of a complete of content that is here already: repeating it finds the content", async () => {
    await crashEverywhere({
      prepare: async (world) => ({ first: await completed(world), upload: await staged(world) }),
      request: (world, docyard, { upload }) => complete(world, docyard, upload),
      check: async (_, { first }, answer) => {
        expect(answer).toEqual({ isDuplicate: true, artifact: first });
      },
    });
  });

  test("of a complete of content that Studio has: repeating it shares the content", async () => {
    await crashEverywhere({
      prepare: async (world) => ({
        studio: await addStudioArtifact(world, ALPHA),
        upload: await staged(world),
      }),
      request: (world, docyard, { upload }) => complete(world, docyard, upload),
      check: async (_, { studio, upload }, answer) => {
        expect(answer).toMatchObject({
          isDuplicate: false,
          artifact: { id: upload.id, blobKey: studio.blobKey, sharesBlob: true },
        });
      },
    });
  });

  test("of a complete, after which other bytes are PUT: repeating it publishes those, or nothing", async () => {
    await crashEverywhere({
      prepare: staged,
      request: complete,
      // As S3 does it: whoever holds the URL may PUT, whatever the row says.
      meanwhile: (world, upload) => stage(world, upload, BETA),
      check: async (_, upload, answer) => {
        const { artifact } = answer as { artifact: Artifact };
        expect(artifact.id).toBe(upload.id);
        expect([await sha256(ALPHA), await sha256(BETA)]).toContain(artifact.digest);
      },
    });
  });

  test("of a complete of a duplicate, after which other bytes are PUT", async () => {
    await crashEverywhere({
      prepare: async (world) => {
        const upload = await staged(world);
        return { upload, rival: await staged(world) };
      },
      request: (world, docyard, { upload }) => complete(world, docyard, upload),
      meanwhile: async (world, { upload, rival }) => {
        await complete(world, world.docyard, rival);
        await stage(world, upload, BETA);
      },
    });
  });

  test("of a refused complete: the bytes are dropped, and the right ones can still come", async () => {
    await crashEverywhere({
      prepare: async (world) => {
        const writer = await world.writer("dock_a");
        const { artifact } = await writer.create({ filename: "a.txt", hash: await sha256(BETA) });
        await stage(world, artifact, ALPHA);
        return artifact;
      },
      request: async (world, docyard, upload) => {
        const writer = await world.writer("dock_a", docyard);
        const refused = await writer.complete({ uploadId: upload.uploadId! }).then(
          () => null,
          (error: unknown) => error,
        );
        if (refused instanceof Crash) throw refused;
        expect(
          isDocyardError(refused, "integrity_mismatch") || isDocyardError(refused, "failed_precondition"),
        ).toBe(true);
      },
      check: async (world, upload) => {
        await stage(world, upload, BETA);
        expect(await complete(world, world.docyard, upload)).toMatchObject({
          isDuplicate: false,
          artifact: { id: upload.id, digest: await sha256(BETA) },
        });
      },
    });
  });

  test("of a complete that leaves the digest to a worker: repeating it says the same", async () => {
    await crashEverywhere({
      options: { attestsDigests: false },
      prepare: staged,
      request: complete,
      check: async (_, upload, answer) => {
        expect(answer).toMatchObject({
          isDuplicate: false,
          artifact: { id: upload.id, status: "upload_started" },
        });
      },
      meanwhile: async (world, upload) => {
        const row = await world.store.artifacts.get({ id: upload.id });
        expect(["created", "upload_started"]).toContain(row!.status);
        if (row!.status === "upload_started") {
          // The ring may be lost, the work may not: the row is due, and the sweep rings again.
          expect(await dueRows(world)).toMatchObject([{ id: upload.id }]);
        }
      },
      // No worker comes here: the client gives up, so that everything can be cleaned up.
      atLast: async (world, upload) => (await world.writer("dock_a")).remove(upload.id),
    });
  });

  test("of a remove: it is gone or it is there, and repeating it removes it", async () => {
    await crashEverywhere({
      prepare: completed,
      request: async (world, docyard, { id }) => (await world.writer("dock_a", docyard)).remove(id),
      repeatRefused: "not_found",
      check: async (world, { id }) => {
        await expect((await world.reader("dock_a")).get(id)).rejects.toMatchObject({ code: "not_found" });
      },
    });
  });

  /** One row of each kind that a sweep has work with. */
  const sweepable = async (world: World): Promise<{ kept: Artifact }> => {
    const writer = await world.writer("dock_a");
    const kept = await completed(world, bytesOf("kept"));
    await addStudioArtifact(world, ALPHA);
    // Shares its bytes with Studio, and is then removed.
    const sharing = await completed(world);
    expect(sharing.sharesBlob).toBe(true);
    await writer.remove(sharing.id);
    await writer.remove((await completed(world, bytesOf("removed"))).id);
    await completed(world, bytesOf("kept"));
    await staged(world, bytesOf("abandoned"));
    await writer.create({ filename: "nothing sent.txt" });
    await writer.remove((await staged(world, bytesOf("removed before completion"))).id);
    world.advance(world.docyard.settings.uploadWindowMs);
    return { kept };
  };

  test("of a sweep: repeating it finishes", async () => {
    const crashes = await crashEverywhere({
      prepare: sweepable,
      // A row that cannot be dealt with is reported, not thrown: the crash is in the report.
      request: async (_, docyard) => {
        const { failures } = await docyard.sweep();
        if (failures.length > 0) throw failures[0]!.error;
      },
      check: async (world, { kept }) => {
        const { status, blobKey, updatedAt } = kept;
        expect(await world.store.artifacts.get({ id: kept.id })).toMatchObject({
          status,
          blobKey,
          updatedAt,
        });
      },
    });
    expect(crashes).toBeGreaterThanOrEqual(4 * 12);
  });

  test("of a second sweep, after the grace period: repeating it removes every byte nobody wants", async () => {
    await crashEverywhere({
      prepare: async (world) => {
        const scene = await sweepable(world);
        await world.docyard.sweep();
        world.advance(world.docyard.settings.graceMs);
        return scene;
      },
      request: async (_, docyard) => {
        const { failures } = await docyard.sweep();
        if (failures.length > 0) throw failures[0]!.error;
      },
    });
  });

  test("of a sweep of staged bytes: repeating it finishes", async () => {
    await crashEverywhere({
      prepare: async (world) => {
        // Left by nobody's row, by one that had ended and been swept long before, and by one that is still open.
        const ended = await completed(world);
        world.advance(world.docyard.settings.graceMs);
        await world.docyard.sweep();
        await stage(world, ended, BETA);
        await world.blobs.put("incoming/upload_unknown", bodyOf(ALPHA), { sizeMax: 1_000 });
        world.advance(2 * world.docyard.settings.uploadWindowMs);
        return staged(world, bytesOf("young"));
      },
      request: (_, docyard) => docyard.sweepStaging(),
      check: async (world, young) => {
        expect(await world.keys("incoming/")).toEqual([young.stagingKey]);
      },
    });
  });
});

describe("faults that are no crash", () => {
  test("one call that fails: the request fails, and the next one finishes as if nothing had been", async () => {
    for (let faulty = 1; faulty <= 20; faulty++) {
      const world = await createWorld();
      const upload = await staged(world);
      let calls = 0;
      const docyard = world.hooked(async (_, run) => {
        if (++calls === faulty) throw new Error("the port failed once");
        return run();
      });
      await complete(world, docyard, upload).catch(() => null);
      calls = Number.NEGATIVE_INFINITY;
      expect(await complete(world, docyard, upload)).toMatchObject({
        isDuplicate: false,
        artifact: { id: upload.id, status: "upload_completed" },
      });
      await auditCleanedUp(world);
    }
  });

  test("rows that cannot be cleaned up do not keep the sweep from the others", async () => {
    const world = await createWorld();
    const writer = await world.writer("dock_a");
    const doomed = new Set<string>();
    for (let i = 0; i < 250; i++) {
      const upload = await staged(world, bytesOf(`doomed ${i}`));
      await writer.remove(upload.id);
      doomed.add(upload.stagingKey!);
      world.advance(1);
    }
    const last = await staged(world, bytesOf("last"));
    await writer.remove(last.id);
    world.advance(world.docyard.settings.graceMs);
    const broken = world.hooked(async (call, run, [key]) => {
      if (call === "blobs.delete" && doomed.has(key as string)) throw new Error("input/output error");
      return run();
    });
    const report = await broken.sweep();
    expect(report.failures).toHaveLength(doomed.size);
    expect(report.handled).toBe(1);
    expect(await world.store.artifacts.get({ id: last.id })).toMatchObject({ dueAt: null });
    expect(await world.keys("incoming/")).toHaveLength(doomed.size);
    await auditCleanedUp(world);
  });

  test("uploads that wait for a worker do not keep the sweep from expiring others", async () => {
    const world = await createWorld({ attestsDigests: false });
    for (let i = 0; i < 250; i++) await complete(world, world.docyard, await staged(world, bytesOf(`${i}`)));
    const { artifact } = await (await world.writer("dock_a")).create({ filename: "abandoned.txt" });
    world.advance(world.docyard.settings.uploadWindowMs);
    await world.docyard.sweep();
    expect(await world.store.artifacts.get({ id: artifact.id })).toMatchObject({ status: "upload_failed" });
  });

  test("a sweep with a limit does that many and says so", async () => {
    const world = await createWorld();
    for (let i = 0; i < 7; i++) await staged(world, bytesOf(`${i}`));
    world.advance(world.docyard.settings.uploadWindowMs);
    expect(await world.docyard.sweep({ limit: 3 })).toEqual({ handled: 3, failures: [] });
    expect(await world.docyard.sweep({ limit: 3 })).toEqual({ handled: 3, failures: [] });
    expect(await world.docyard.sweep({ limit: 3 })).toEqual({ handled: 1, failures: [] });
    expect(await world.docyard.sweep({ limit: 3 })).toEqual({ handled: 0, failures: [] });
  });

  test("an aborted sweep stops between rows", async () => {
    const world = await createWorld();
    for (let i = 0; i < 5; i++) await staged(world, bytesOf(`${i}`));
    world.advance(world.docyard.settings.uploadWindowMs);
    const stop = new AbortController();
    let updates = 0;
    const docyard = world.hooked(async (call, run) => {
      if (call === "artifacts.update" && ++updates === 2) stop.abort();
      return run();
    });
    expect(await docyard.sweep({ signal: stop.signal })).toEqual({ handled: 2, failures: [] });
    expect(await world.docyard.sweep({ signal: AbortSignal.abort() })).toEqual({ handled: 0, failures: [] });
  });
});

test("an upload whose storage is away for hours is verified when it comes back", async () => {
  const world = await createWorld({ attestsDigests: false });
  const upload = await staged(world);
  expect(((await complete(world, world.docyard, upload)) as { artifact: Artifact }).artifact.status).toBe(
    "upload_started",
  );
  const away = world.hooked((call, run) =>
    call.startsWith("blobs.")
      ? Promise.reject(new DocyardError("upstream_failed", "The object storage does not answer: try again"))
      : run(),
  );
  for (let attempt = 1; attempt <= 12; attempt++) {
    expect(await away.ingest(upload.id)).toBe("retrying");
    world.advance(20 * 60_000);
  }
  expect(await world.docyard.ingest(upload.id)).toBe("completed");
  await auditCleanedUp(world);
});

test("storage that goes away right after the commit leaves a completed artifact, and clean-up for later", async () => {
  const world = await createWorld({ attestsDigests: false });
  const upload = await staged(world);
  await complete(world, world.docyard, upload);
  let isAway = false;
  const docyard = world.hooked(async (call, run) => {
    if (isAway && call.startsWith("blobs.")) throw new DocyardError("upstream_failed", "gone");
    const answer = await run();
    if (call === "artifacts.update" && (answer as Artifact | null)?.status === "upload_completed")
      isAway = true;
    return answer;
  });
  expect(await docyard.ingest(upload.id)).toBe("completed");
  expect(isAway).toBe(true);
  const types = (await world.store.artifacts.events("dock_a", 0, 100)).map(({ type }) => type);
  expect(types.at(-1)).toBe("artifact.completed");
  await auditCleanedUp(world);
});
