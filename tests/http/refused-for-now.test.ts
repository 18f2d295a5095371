/** What is refused because of the state of the server or the dock, in the words of either face; and what goes on. */

import { expect, onTestFinished, test } from "vitest";
import { openHarness } from "./harness.ts";
import { answer, dockClient, openWorld, someBytes } from "./target.ts";

async function furnished(free?: { bytes: number }) {
  const harness = await openHarness({
    settings: { freeMin: 1_000 },
    blobs: (blobs) => (free === undefined ? blobs : { ...blobs, space: async () => free.bytes }),
  });
  onTestFinished(() => harness.close());
  const world = await openWorld(harness);
  const { apiKey } = await harness.provisioning.createKey({ name: "key", dockId: world.dockId });
  const create = () => world.rw.create({ filename: "a.txt" });
  const createStudio = () =>
    answer<{ error: string; status: number }>(
      harness.fetch("/api/v1/artifacts/create", {
        method: "POST",
        headers: { Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json" },
        body: JSON.stringify({ name: "a", type: "script", url: "https://example.com/a.txt" }),
      }),
    );
  return { harness, world, create, createStudio };
}

test("a dock over its quota: 409", async () => {
  const { harness, world, create, createStudio } = await furnished();
  await harness.provisioning.setQuota(world.dockId, { artifacts: 1 });
  expect((await create()).status).toBe(201);
  const message = "Dock quota exceeded: at most 1 artifacts";
  expect(await create()).toMatchObject({
    status: 409,
    body: { statusCode: 409, error: "Conflict", message },
  });
  expect(await createStudio()).toMatchObject({ status: 409, body: { error: message, status: 409 } });
});

test("a storage that is nearly full: 507, and downloads go on", async () => {
  const free = { bytes: 10_000 };
  const { world, create, createStudio } = await furnished(free);
  const bytes = someBytes(10);
  const stored = await world.rw.upload(bytes);
  free.bytes = 999;
  expect(await create()).toMatchObject({
    status: 507,
    body: { statusCode: 507, error: "Insufficient Storage", message: expect.stringContaining("nearly full") },
  });
  expect(await createStudio()).toMatchObject({ status: 507, body: { status: 507 } });
  const listed = await world.rw.list();
  expect(listed.body.data.map(({ id }) => id)).toEqual([stored.id]);
  const download = await world.target.fetch(listed.body.data[0]!.downloadUrl);
  expect(new Uint8Array(await download.arrayBuffer())).toEqual(bytes);
});

test("a read-only server: 503", async () => {
  const harness = await openHarness();
  onTestFinished(() => harness.close());
  const world = await openWorld(harness);
  const locked = await openHarness({ store: harness.store, settings: { readOnly: true } });
  const refused = await dockClient(locked, world.dockId, world.rw.token).create({ filename: "a.txt" });
  expect(refused).toMatchObject({
    status: 503,
    body: { statusCode: 503, error: "Service Unavailable", message: expect.stringContaining("read-only") },
  });
  const list = await locked.fetch(world.rw.path, { headers: { Authorization: `Bearer ${world.rw.token}` } });
  expect(list.status).toBe(200);
});
