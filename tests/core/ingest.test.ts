/** The worker's use case on memory adapters: every source, every ending, every crash. */

import type { Artifact, ArtifactStore, BlobStore, Store } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { describe, expect, test, vi } from "vitest";
import type { StudioWorld } from "./studio-world.ts";
import { studioWorld } from "./studio-world.ts";

const URL_A = "https://cdn.example.com/promo.mp4";

async function text(world: StudioWorld, artifact: Artifact): Promise<string> {
  const { body } = await world.blobs.get(artifact.blobKey!);
  let found = "";
  for await (const chunk of body) found += new TextDecoder().decode(chunk);
  return found;
}

const row = async (world: StudioWorld, id: string): Promise<Artifact> =>
  (await world.store.artifacts.get({ id }))!;

const statuses = async (world: StudioWorld, id: string): Promise<string[]> =>
  (await world.store.artifacts.events("dock_a", 0, 1_000))
    .filter((event) => event.artifactId === id)
    .map((event) => event.type.replace("artifact.", ""));

describe("sources", () => {
  test("a URL is fetched, probed and published; nothing staged stays", async () => {
    const world = await studioWorld();
    world.sources.set(URL_A, "video:138301:promo");
    const created = await world.studio.create({ name: "Promo", type: "video", url: URL_A });
    expect(created).toMatchObject({ status: "created", size: null, durationMs: null, failure: null });
    expect(world.rings).toEqual([{ id: created.id, delayMs: 0 }]);
    expect(await world.docyard.ingest(created.id)).toBe("completed");
    const done = await row(world, created.id);
    expect(done).toMatchObject({
      status: "upload_completed",
      size: 18,
      durationMs: 138_301,
      contentType: "video/x-text",
      dueAt: null,
    });
    expect(await text(world, done)).toBe("video:138301:promo");
    expect(await world.keys()).toEqual([done.blobKey]);
    expect(await statuses(world, created.id)).toEqual(["created", "started", "completed"]);
    expect((await world.studio.get(created.id)).download?.url).toContain("signature=");
    expect(await world.docyard.ingest(created.id)).toBe("idle");
  });

  test("a presigned upload is taken as it is, for its own dock only, and only under its exact path", async () => {
    const world = await studioWorld();
    const { s3Path, upload } = await world.studio.presign("My film.mp4");
    expect(s3Path).toMatch(/^s3:\/\/docyard\/temp\/.+\/My film\.mp4$/);
    expect(upload.expiresAt).toBe(world.clock.now + 24 * 3_600_000);
    expect((await world.put(upload.url, "video:5000:mine")).status).toBe(200);
    const created = await world.studio.create({ name: "Mine", type: "video", s3Path });
    expect(await world.docyard.ingest(created.id)).toBe("completed");
    expect(await row(world, created.id)).toMatchObject({ status: "upload_completed", durationMs: 5_000 });

    await expect(world.other.create({ name: "Theirs", type: "video", s3Path })).rejects.toThrow(
      /neither from Get Presigned Upload URL nor readable/,
    );
    const renamed = s3Path.replace("My film", "Another");
    await expect(world.other.create({ name: "x", type: "video", s3Path: renamed })).rejects.toThrow(
      DocyardError,
    );
  });

  test.each(["My_Bucket", "archive.example.com", "b".repeat(64)])(
    "a presigned upload is found under its path where the server's bucket is called %s",
    async (bucketName) => {
      const world = await studioWorld();
      const docyard = world.through({ settings: { bucketName } });
      const studio = await docyard.openStudio(world.apiKey);
      const { s3Path, upload } = await studio.presign("film.mp4");
      await world.put(upload.url, "video:5000:mine");
      const { id } = await studio.create({ name: "Mine", type: "video", s3Path });
      expect(await docyard.ingest(id)).toBe("completed");
    },
  );

  test("a presigned upload stays for an artifact that was made of it late and waits for room", async () => {
    const HOUR_MS = 3_600_000;
    const world = await studioWorld();
    const { s3Path, upload } = await world.studio.presign("late.mp4");
    expect((await world.put(upload.url, "video:5000:late")).status).toBe(200);
    world.clock.now += 23 * HOUR_MS;
    const { id } = await world.studio.create({ name: "x", type: "video", s3Path });
    const full = world.through({ blobs: { ...world.blobs, space: async () => 0 } });
    expect(await full.ingest(id)).toBe("retrying");
    world.clock.now += 3 * HOUR_MS;
    expect(await world.docyard.sweepStaging()).toBe(0);
    expect(await world.docyard.ingest(id)).toBe("completed");
    world.clock.now += 24 * HOUR_MS;
    expect(await world.docyard.sweepStaging()).toBe(1);
  });

  test("a presigned path without bytes fails and says so", async () => {
    const world = await studioWorld();
    const { s3Path } = await world.studio.presign("never.mp4");
    const { id } = await world.studio.create({ name: "n", type: "video", s3Path });
    expect(await world.docyard.ingest(id)).toBe("failed");
    expect((await row(world, id)).failure).toEqual({
      code: "source_failed",
      message: "Nothing has been uploaded to this s3Path",
    });
  });

  test("an external s3:// path is opened with the key's own credentials, and refused at once without", async () => {
    const world = await studioWorld();
    const s3Path = "s3://my-company-bucket/recordings/meeting-2024.mp4";
    world.sources.set(`${s3Path}#the credentials`, "video:9000:meeting");
    const { id } = await world.studio.create({ name: "m", type: "video", s3Path });
    expect(await world.docyard.ingest(id)).toBe("completed");
    await expect(world.other.create({ name: "m", type: "video", s3Path })).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });

  test("fragments are fetched, joined in order and probed", async () => {
    const world = await studioWorld();
    for (const part of ["intro", "main", "outro"])
      world.sources.set(`https://e.com/${part}`, `video:1000:${part}`);
    const { id } = await world.studio.create({
      name: "Joined",
      type: "video",
      fragments: [
        { url: "https://e.com/outro", startTime: 300 },
        { url: "https://e.com/intro", startTime: 0 },
        { url: "https://e.com/main", startTime: 10 },
      ],
    });
    expect(await world.docyard.ingest(id)).toBe("completed");
    const done = await row(world, id);
    expect(await text(world, done)).toBe("video:3000:intro+main+outro");
    expect(await world.keys()).toEqual([done.blobKey]);
  });

  test("a failing fragment is named", async () => {
    const world = await studioWorld();
    world.sources.set("https://e.com/1", "video:1000:a");
    const { id } = await world.studio.create({
      name: "Joined",
      type: "video",
      fragments: [
        { url: "https://e.com/1", startTime: 0 },
        { url: "https://e.com/2", startTime: 1 },
      ],
    });
    expect(await world.docyard.ingest(id)).toBe("failed");
    expect((await row(world, id)).failure?.message).toBe("Fragment 2: The origin answered 404");
    expect(await world.keys()).toEqual([]);
  });

  test("scripts pass without probing and have no duration", async () => {
    const world = await studioWorld();
    world.sources.set("https://e.com/a.srt?x=1", "1\n00:00 --> 00:01\nhello");
    const { id } = await world.studio.create({ name: "s", type: "script", url: "https://e.com/a.srt?x=1" });
    expect(await world.docyard.ingest(id)).toBe("completed");
    expect(await row(world, id)).toMatchObject({ durationMs: null, contentType: "application/x-subrip" });
  });

  test.each(["what? part 1.srt", "a#1.srt", "50%.srt"])(
    "an upload called %s is a subtitle too",
    async (name) => {
      const world = await studioWorld();
      const { s3Path, upload } = await world.studio.presign(name);
      await world.put(upload.url, "1\n00:00 --> 00:01\nhello");
      const { id } = await world.studio.create({ name: "s", type: "script", s3Path });
      expect(await world.docyard.ingest(id)).toBe("completed");
      expect(await row(world, id)).toMatchObject({ contentType: "application/x-subrip" });
    },
  );

  test.each([
    ["audio", "video:1000:x", "The file has no audio stream"],
    ["video", "audio:1000:x", "The file has no video stream"],
    ["video", "hello", "The file is not video in a format that can be read"],
  ] as const)("type %s against content %s fails", async (type, content, message) => {
    const world = await studioWorld();
    world.sources.set(URL_A, content);
    const { id } = await world.studio.create({ name: "x", type, url: URL_A });
    expect(await world.docyard.ingest(id)).toBe("failed");
    expect((await row(world, id)).failure?.message).toBe(message);
  });

  test("equal content is stored once per dock, and every artifact keeps its own id", async () => {
    const world = await studioWorld();
    world.sources.set(URL_A, "video:1:same");
    const made = [];
    for (const name of ["one", "two", "three"])
      made.push(await world.studio.create({ name, type: "video", url: URL_A }));
    expect(await Promise.all(made.map(({ id }) => world.docyard.ingest(id)))).toEqual(
      made.map(() => "completed"),
    );
    expect(await world.keys()).toHaveLength(1);
    const rows = await Promise.all(made.map(({ id }) => row(world, id)));
    expect(new Set(rows.map(({ blobKey }) => blobKey)).size).toBe(1);
    expect(rows.filter(({ sharesBlob }) => !sharesBlob)).toHaveLength(1);
  });

  test("equal content of an artifact that has lost its bytes brings them back", async () => {
    const world = await studioWorld();
    world.sources.set(URL_A, "video:1:same");
    const made = [];
    for (const name of ["one", "two"])
      made.push(await world.studio.create({ name, type: "video", url: URL_A }));
    const [one, two] = made as [Artifact, Artifact];
    expect(await world.docyard.ingest(one.id)).toBe("completed");
    await world.blobs.delete((await row(world, one.id)).blobKey!);
    expect(await world.docyard.ingest(two.id)).toBe("completed");
    for (const { id } of made) expect(await text(world, await row(world, id))).toBe("video:1:same");
  });
});

describe("create refuses", () => {
  const good = { name: "n", type: "video", url: URL_A } as const;
  test.each([
    ["no source", { ...good, url: null }, "exactly one of"],
    ["two sources", { ...good, s3Path: "s3://abc/d" }, "exactly one of"],
    ["all three", { ...good, s3Path: "s3://abc/d", fragments: [] }, "exactly one of"],
    ["an empty name", { ...good, name: " " }, "name must"],
    ["a control character", { ...good, name: "a\u0007" }, "name must not"],
    ["an empty url", { ...good, url: "" }, "url should not be empty"],
    ["a relative url", { ...good, url: "/x" }, "url must be an absolute"],
    ["another scheme", { ...good, url: "file:///etc/passwd" }, "url must be an absolute"],
    ["credentials in the url", { ...good, url: "https://u:p@e.com/" }, "must not contain credentials"],
    ["a bad s3Path", { name: "n", type: "video", s3Path: "my-bucket/x" }, "s3Path must be s3://"],
    ["no fragments", { name: "n", type: "video", fragments: [] }, "must not be empty"],
    [
      "fragments of a script",
      { name: "n", type: "script", fragments: [{ url: URL_A, startTime: 0 }] },
      "not supported for type script",
    ],
    [
      "a negative start",
      { name: "n", type: "video", fragments: [{ url: URL_A, startTime: -1 }] },
      "fragments[0].startTime",
    ],
    [
      "a NaN start",
      { name: "n", type: "video", fragments: [{ url: URL_A, startTime: Number.NaN }] },
      "fragments[0].startTime",
    ],
    [
      "a fragment without a source",
      { name: "n", type: "video", fragments: [{ startTime: 0 }] },
      "fragments[0].url or fragments[0].s3Path must be given",
    ],
    [
      "a fragment with two",
      { name: "n", type: "video", fragments: [{ url: URL_A, s3Path: "s3://abc/d", startTime: 0 }] },
      "cannot be combined",
    ],
  ] as const)("%s", async (_what, input, message) => {
    const world = await studioWorld();
    await expect(world.studio.create(input)).rejects.toThrow(message);
    expect(world.rings).toEqual([]);
  });
});

describe("endings", () => {
  test("a transient failure is tried again, later and later, and then given up with the reason", async () => {
    const world = await studioWorld({ attemptsMax: 3, backoffMs: 1_000 });
    world.sources.set(URL_A, new DocyardError("upstream_failed", "The origin answered 503"));
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    expect(await world.docyard.ingest(id)).toBe("retrying");
    expect((await row(world, id)).status).toBe("upload_started");
    expect(await world.docyard.ingest(id)).toBe("idle"); // not due yet
    const delays = world.rings.slice(1).map(({ delayMs }) => delayMs);
    expect(delays[0]).toBeGreaterThanOrEqual(500);
    expect(delays[0]).toBeLessThanOrEqual(1_000);
    world.clock.now += 1_000;
    expect(await world.docyard.ingest(id)).toBe("retrying");
    world.clock.now += 2_000;
    expect(await world.docyard.ingest(id)).toBe("failed");
    expect((await row(world, id)).failure).toEqual({
      code: "upstream_failed",
      message: "The origin answered 503 (tried 3 times)",
    });
    world.clock.now += 2 * 3_600_000;
    await world.docyard.sweep();
    expect(await world.keys()).toEqual([]);
    expect((await row(world, id)).dueAt).toBeNull();
  });

  test.each([
    [0, 1_000],
    [60_000, 60_000],
    [86_400_000, 600_000],
  ])(
    "a source that asks for %i ms of patience is given as much, within bounds",
    async (retryAfterMs, waitMs) => {
      const world = await studioWorld({ backoffMs: 1_000 });
      world.sources.set(URL_A, new DocyardError("upstream_failed", "answered 429", { retryAfterMs }));
      const { id } = await world.studio.create({
        name: "x",
        type: "video",
        fragments: [{ url: URL_A, startTime: 0 }],
      });
      expect(await world.docyard.ingest(id)).toBe("retrying");
      const { delayMs } = world.rings.at(-1)!;
      expect(delayMs).toBeGreaterThanOrEqual(waitMs / 2);
      expect(delayMs).toBeLessThanOrEqual(waitMs);
      if (retryAfterMs > 0) expect(delayMs).toBe(waitMs);
      expect((await row(world, id)).dueAt).toBe(world.clock.now + delayMs);
    },
  );

  test("a source that recovers completes", async () => {
    const world = await studioWorld();
    let calls = 0;
    world.sources.set(URL_A, () =>
      ++calls < 3 ? new DocyardError("upstream_failed", "reset") : "video:1:ok",
    );
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    const outcomes = [];
    for (let i = 0; i < 3; i++) {
      outcomes.push(await world.docyard.ingest(id));
      world.clock.now += 600_000;
    }
    expect(outcomes).toEqual(["retrying", "retrying", "completed"]);
  });

  test("an internal error is told without its text", async () => {
    const world = await studioWorld({ attemptsMax: 1 });
    world.sources.set(URL_A, new Error("secret path /var/x"));
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    expect(await world.docyard.ingest(id)).toBe("failed");
    expect(JSON.stringify((await row(world, id)).failure)).not.toContain("secret");
  });

  test("a source whose bytes cannot be taken is let go of, also before its first byte", async () => {
    const world = await studioWorld();
    world.sources.set(URL_A, "video:1:ok");
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    let body: AsyncIterable<Uint8Array> | undefined;
    const full: BlobStore = {
      ...world.blobs,
      async put(_key, given) {
        body = given;
        throw new Error("too many open files");
      },
    };
    expect(await world.through({ blobs: full }).ingest(id)).toBe("retrying");
    expect(await body![Symbol.asyncIterator]().next()).toMatchObject({ done: true });
  });

  test("asked to stop, a worker gives the row back and the attempt does not count", async () => {
    const world = await studioWorld();
    const stop = new AbortController();
    world.sources.set(URL_A, () => {
      stop.abort();
      return new Error("aborted");
    });
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    expect(await world.docyard.ingest(id, { signal: stop.signal })).toBe("released");
    expect(await row(world, id)).toMatchObject({
      status: "upload_started",
      attempts: 0,
      dueAt: world.clock.now,
    });
    world.sources.set(URL_A, "video:1:ok");
    expect(await world.docyard.ingest(id)).toBe("completed");
  });

  test("deleted while it was being fetched: the worker writes nothing and leaves nothing", async () => {
    const world = await studioWorld();
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    world.sources.set(URL_A, "video:1:late");
    const { artifacts } = world.store;
    const during: ArtifactStore = {
      ...artifacts,
      async findByDigest(...args) {
        const current = await row(world, id);
        await artifacts.update(id, current.version, { status: "deleted", dueAt: 0 }, null);
        return artifacts.findByDigest(...args);
      },
    };
    const worker = world.through({ store: { ...world.store, artifacts: during } });
    expect(await worker.ingest(id)).toBe("lost");
    expect((await row(world, id)).status).toBe("deleted");
    await world.docyard.sweep();
    expect(await world.keys()).toEqual([]);
  });

  test.each([
    ["failed", new DocyardError("source_failed", "The origin answered 404")],
    ["retrying", new DocyardError("upstream_failed", "The origin answered 503")],
  ])("a row that is %s stays due when that says, however long its worker goes on", async (outcome, fault) => {
    const world = await studioWorld({ leaseMs: 60_000, backoffMs: 8_000 });
    world.sources.set(URL_A, fault);
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    const { artifacts } = world.store;
    const slow: ArtifactStore = {
      ...artifacts,
      async update(...args) {
        const written = await artifacts.update(...args);
        // A renewal of the lease comes due.
        if (args[3] !== null && args[3].type !== "artifact.started") vi.advanceTimersByTime(60_000);
        return written;
      },
    };
    const worker = world.through({ store: { ...world.store, artifacts: slow } });
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    try {
      expect(await worker.ingest(id)).toBe(outcome);
      await new Promise((resolve) => setTimeout(resolve, 0));
      const dueInMs = outcome === "failed" ? 3_600_000 : world.rings.at(-1)!.delayMs;
      expect((await row(world, id)).dueAt).toBe(world.clock.now + dueInMs);
    } finally {
      vi.useRealTimers();
    }
  });

  /** A row that a worker had taken when its machine went away. */
  const held = async (world: StudioWorld): Promise<string> => {
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    const { version } = await row(world, id);
    const dueAt = world.clock.now + 60_000;
    await world.store.artifacts.update(id, version, { status: "upload_started", attempts: 1, dueAt }, null);
    world.sources.set(URL_A, "video:1:ok");
    world.rings.length = 0;
    return id;
  };

  test.each([
    ["years", 4 * 365 * 24 * 3_600_000],
    ["hours", 5 * 3_600_000],
  ])("what a dead worker held is taken up though the clock has been set back by %s", async (_, backMs) => {
    const world = await studioWorld();
    const id = await held(world);
    world.clock.now -= backMs;
    expect(await world.docyard.sweep()).toEqual({ handled: 1, failures: [] });
    expect(world.rings.map((ring) => ring.id)).toEqual([id]);
    expect(await world.docyard.ingest(id)).toBe("completed");
  });

  test("a lease of a clock that is somewhat ahead is kept to", async () => {
    const world = await studioWorld();
    const id = await held(world);
    world.clock.now -= 30 * 60_000;
    expect(await world.docyard.sweep()).toEqual({ handled: 0, failures: [] });
    expect(await world.docyard.ingest(id)).toBe("idle");
    world.clock.now += 31 * 60_000;
    expect(await world.docyard.ingest(id)).toBe("completed");
  });

  test("a worker that slept past its lease cannot write; the one that took over finishes", async () => {
    const world = await studioWorld({ leaseMs: 60_000 });
    const { id } = await world.studio.create({ name: "x", type: "video", url: URL_A });
    const asleep = Promise.withResolvers<void>();
    let isFirst = true;
    const sleepy: BlobStore = {
      ...world.blobs,
      async copy(...args) {
        if (isFirst) {
          isFirst = false;
          await asleep.promise;
        }
        return world.blobs.copy(...args);
      },
    };
    world.sources.set(URL_A, "video:1:one");
    const first = world.through({ blobs: sleepy }).ingest(id);
    await new Promise((resolve) => setTimeout(resolve, 20));
    world.clock.now += 61_000;
    world.sources.set(URL_A, "video:2:two");
    expect(await world.docyard.ingest(id)).toBe("completed");
    const done = await row(world, id);
    asleep.resolve();
    expect(await first).toBe("lost");
    expect(await row(world, id)).toEqual(done);
    expect(await text(world, done)).toBe("video:2:two");
  });
});

/** Counts every call of the ports and dies at the `k`-th: from then on nothing that this worker does takes effect. */
function dyingAt(k: number, world: StudioWorld): { store: Store; blobs: BlobStore; calls: () => number } {
  let calls = 0;
  const guard = <T extends object>(port: T): T =>
    new Proxy(port, {
      get(target, name, receiver) {
        const value: unknown = Reflect.get(target, name, receiver);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          calls++;
          // Dead: never answers, as a killed process never hears.
          if (calls >= k) return new Promise(() => {});
          return Reflect.apply(value, target, args) as unknown;
        };
      },
    });
  return {
    store: { ...world.store, artifacts: guard(world.store.artifacts) },
    blobs: guard(world.blobs),
    calls: () => calls,
  };
}

describe("death at every step", () => {
  const create = {
    url: (world: StudioWorld) => world.studio.create({ name: "x", type: "video", url: URL_A }),
    fragments: (world: StudioWorld) =>
      world.studio.create({
        name: "x",
        type: "video",
        fragments: [
          { url: URL_A, startTime: 0 },
          { url: URL_A, startTime: 1 },
        ],
      }),
  };
  test.each(Object.keys(create) as (keyof typeof create)[])(
    "%s: finishes once, nothing is orphaned",
    async (kind) => {
      let died = 0;
      for (let k = 1; ; k++) {
        const world = await studioWorld({ leaseMs: 60_000 });
        world.sources.set(URL_A, "video:1000:x");
        const { id } = await create[kind](world);
        const dying = dyingAt(k, world);
        const end = await Promise.race([
          world.through(dying).ingest(id),
          new Promise<"died">((resolve) => setTimeout(() => resolve("died"), 15)),
        ]);
        if (end === "completed" && dying.calls() < k) break;
        died++;
        world.clock.now += 61_000;
        await world.docyard.sweep();
        const again = await world.docyard.ingest(id);
        expect(["completed", "idle"]).toContain(again);
        world.clock.now += 61_000;
        await world.docyard.sweep();
        const done = await row(world, id);
        expect(done.status).toBe("upload_completed");
        expect(await world.keys()).toEqual([done.blobKey]);
        const walk = await statuses(world, id);
        expect(walk.filter((event) => event === "completed")).toHaveLength(1);
      }
      expect(died).toBeGreaterThanOrEqual(8);
    },
  );
});
