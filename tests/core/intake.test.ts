/** A server that is read-only or nearly full: what is refused, and that reading goes on. */

import type { BlobStore, DocyardOptions, ErrorCode } from "@docyard/core";
import { createDocyard, DocyardError, isDocyardError } from "@docyard/core";
import { describe, expect, test } from "vitest";
import { fakeIngest } from "./studio-parts.ts";
import { bytesOf, createWorld, HOUR_MS, principal, receive, stage, type World } from "./world.ts";

const ORGANIZATION = "org_x";
const DOCK = "dock_a";

const codeOf = (work: Promise<unknown>): Promise<ErrorCode | "done"> =>
  work.then(
    () => "done" as const,
    (error: unknown) => (isDocyardError(error) ? error.code : "internal"),
  );

/** The same ports, seen by a server with other settings and this much free space. */
function beside(
  world: World,
  settings: DocyardOptions["settings"],
  free?: number,
  signPut: BlobStore["signPut"] = world.blobs.signPut,
) {
  const space = free === undefined ? {} : { space: async () => free };
  const blobs: BlobStore = { ...world.blobs, ...space, signPut };
  const docyard = createDocyard({
    store: world.store,
    blobs,
    queue: world.queue,
    limit: world.limit,
    ingest: fakeIngest(new Map()),
    ...(settings === undefined ? {} : { settings }),
    now: world.now,
  });
  return {
    docyard,
    writer: () => docyard.open(principal(ORGANIZATION), DOCK, "artifacts:write"),
    reader: () => docyard.open(principal(ORGANIZATION), DOCK, "artifacts:read"),
  };
}

/** One completed artifact, and one whose bytes are staged. */
async function furnished() {
  const world = await createWorld();
  const dock = await world.writer(DOCK);
  const first = (await dock.create({ filename: "done" })).artifact;
  await stage(world, first, bytesOf("done"));
  const { artifact: done } = await dock.complete({ uploadId: first.uploadId! });
  const { artifact: open } = await dock.create({ filename: "open" });
  await stage(world, open, bytesOf("open"));
  return { world, done, open };
}

const putGrant = (artifactId: string) =>
  ({ method: "PUT", key: "incoming/x", artifactId, principalId: null }) as const;

describe("read-only", () => {
  test("refuses whatever would change anything, and changes nothing", async () => {
    const { world, done, open } = await furnished();
    const { docyard, writer } = beside(world, { readOnly: true });
    const before = await world.store.artifacts.walk("", 10);
    const dock = await writer();
    const calls: Record<string, Promise<unknown>> = {
      create: dock.create({ filename: "new" }),
      complete: dock.complete({ uploadId: open.uploadId! }),
      remove: dock.remove(done.id),
      put: docyard.blobHost.admit(putGrant(open.id), 4),
    };
    for (const [name, call] of Object.entries(calls)) {
      expect([name, await codeOf(call)]).toEqual([name, "read_only"]);
    }
    expect(await world.store.artifacts.walk("", 10)).toEqual(before);
  });

  test("lists, shows and hands out", async () => {
    const { world, done } = await furnished();
    const dock = await beside(world, { readOnly: true }).reader();
    const { items } = await dock.list({});
    expect(items.map(({ artifact }) => artifact.id)).toEqual([done.id]);
    expect(await receive(world, items[0]!.download!.url)).toEqual(bytesOf("done"));
  });
});

describe("a storage that is nearly full", () => {
  const FLOOR = 1_000;

  test.each([
    [FLOOR, undefined, "done"],
    [FLOOR - 1, undefined, "no_space"],
    [FLOOR + 500, 500, "done"],
    [FLOOR + 500, 501, "no_space"],
  ] as const)("with %s bytes free, a create of %s bytes: %s", async (free, size, expected) => {
    const { world } = await furnished();
    const dock = await beside(world, { freeMin: FLOOR }, free).writer();
    expect(await codeOf(dock.create({ filename: "new", ...(size === undefined ? {} : { size }) }))).toBe(
      expected,
    );
  });

  test("refuses bytes of uploads that were begun before", async () => {
    const { world, open } = await furnished();
    const { docyard } = beside(world, { freeMin: FLOOR }, FLOOR + 10);
    expect(await codeOf(docyard.blobHost.admit(putGrant(open.id), 10))).toBe("done");
    expect(await codeOf(docyard.blobHost.admit(putGrant(open.id), 11))).toBe("no_space");
  });

  test("completes what is there, deletes, lists and finds duplicates: none of that needs room", async () => {
    const { world, done, open } = await furnished();
    const { writer, reader } = beside(world, { freeMin: FLOOR }, 0);
    const dock = await writer();
    expect((await dock.complete({ uploadId: open.uploadId! })).artifact.status).toBe("upload_completed");
    expect(await dock.create({ filename: "again", hash: done.digest! })).toMatchObject({ isDuplicate: true });
    expect((await (await reader()).list({})).items).toHaveLength(2);
    await dock.remove(done.id);
  });

  test("0 asks for nothing, nor does a store that knows no bound", async () => {
    const { world } = await furnished();
    expect(await codeOf((await beside(world, { freeMin: 0 }, 0).writer()).create({ filename: "1" }))).toBe(
      "done",
    );
    expect(await codeOf((await beside(world, { freeMin: FLOOR }).writer()).create({ filename: "2" }))).toBe(
      "done",
    );
  });

  test("what waits in the background goes on waiting, however often it is tried, and not beyond its window", async () => {
    const world = await createWorld();
    const full = beside(world, { freeMin: FLOOR, ingest: { attemptsMax: 2, backoffMaxMs: HOUR_MS } }, 0);
    const { artifact } = await (await world.writer(DOCK)).create({ filename: "template" });
    const id = "aaaaaaaaaaaaaaaaaaaaaaaa";
    await world.store.artifacts.insert(
      {
        ...artifact,
        id,
        face: "studio",
        uploadId: null,
        stagingKey: null,
        source: { kind: "url", url: "http://origin.test/x" },
        dueAt: world.now(),
      },
      { type: "artifact.created", at: world.now(), by: null },
    );
    for (let hour = 0; hour < 24; hour++) {
      expect([hour, await full.docyard.ingest(id)]).toEqual([hour, "retrying"]);
      world.advance(HOUR_MS);
    }
    expect(await full.docyard.ingest(id)).toBe("failed");
    expect((await world.store.artifacts.get({ id }))?.failure?.code).toBe("no_space");
  });
});

test("a create that the store signs no URL for leaves nothing", async () => {
  const world = await createWorld();
  const refusal = new DocyardError("too_large", "at most 5 GiB in one upload");
  const dock = await beside(world, {}, undefined, () => Promise.reject(refusal)).writer();
  await expect(dock.create({ filename: "new", size: 10 })).rejects.toBe(refusal);
  expect(await world.store.artifacts.walk("", 10)).toEqual([]);
});
