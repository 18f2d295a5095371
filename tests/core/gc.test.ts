/** `gc` removes what no artifact wants, and nothing that anyone might. */

import { expect, test } from "vitest";
import { bytesOf, createWorld, stage } from "./world.ts";
import type { World } from "./world.ts";

const DAY_MS = 24 * 3_600_000;

/** An upload with its bytes staged and, as after a crash, copied to a final key. */
async function halfDone(world: World, text: string) {
  const writer = await world.writer("dock_a");
  const { artifact } = await writer.create({ filename: "a.txt" });
  await stage(world, artifact, bytesOf(text));
  const staged = (await world.blobs.stat(artifact.stagingKey!))!;
  const copy = `${artifact.storageKey}-${staged.digest}`;
  await world.blobs.copy(artifact.stagingKey!, copy, { size: staged.size, digest: staged.digest! });
  return { writer, artifact, copy };
}

test("a copy that another complete has overtaken goes, the published bytes stay", async () => {
  const world = await createWorld();
  const { writer, artifact, copy } = await halfDone(world, "first");
  await stage(world, artifact, bytesOf("second"));
  await writer.complete({ uploadId: artifact.uploadId! });
  world.advance(DAY_MS);
  const found = { looked: 2, garbage: 1, bytes: 5, strangers: 0 };
  expect(await world.docyard.collectGarbage()).toEqual(found);
  expect(await world.keys()).toContain(copy);
  expect(await world.docyard.collectGarbage({ dryRun: false })).toEqual(found);
  const published = (await world.store.artifacts.get({ id: artifact.id }))!.blobKey;
  expect(await world.keys()).toEqual([published]);
});

test("an upload that may still be completed keeps its copy", async () => {
  const world = await createWorld();
  const { writer, artifact, copy } = await halfDone(world, "first");
  world.advance(DAY_MS / 2);
  expect(await world.docyard.collectGarbage({ dryRun: false })).toMatchObject({ looked: 1, garbage: 0 });
  expect(await world.keys()).toContain(copy);
  const { artifact: done } = await writer.complete({ uploadId: artifact.uploadId! });
  expect(done.status).toBe("upload_completed");
});

test("a row that has just ended keeps everything for its grace period", async () => {
  const world = await createWorld();
  const { writer, artifact } = await halfDone(world, "first");
  await writer.complete({ uploadId: artifact.uploadId! });
  await writer.remove(artifact.id);
  expect(await world.docyard.collectGarbage({ dryRun: false })).toMatchObject({ garbage: 0 });
  world.advance(DAY_MS);
  expect(await world.docyard.collectGarbage({ dryRun: false })).toMatchObject({ garbage: 1 });
});

test("bytes of artifacts that the store does not know are counted and left alone", async () => {
  const world = await createWorld();
  const body = async function* () {
    yield bytesOf("x");
  };
  const keys = [
    `docks/dock_a/artifacts/2020-01-01/00/01hq3k9b2000000000000000zz-${"a".repeat(64)}`,
    "docks/dock_a/uploads/0123456789abcdef01234567/video-00",
    "docks/dock_a/else",
  ];
  for (const key of keys) await world.blobs.put(key, body(), { sizeMax: 10 });
  world.advance(DAY_MS);
  expect(await world.docyard.collectGarbage({ dryRun: false })).toMatchObject({ looked: 3, strangers: 3 });
  expect((await world.keys()).toSorted()).toEqual(keys.toSorted());
});
