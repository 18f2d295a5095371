/** S3 credentials that the worker's key file does not open: the operator hears of it, the client is only kept waiting. */

import { createSealer } from "@docyard/core";
import { expect, test } from "vitest";
import { testSealer } from "../core/studio-parts.ts";
import { studioWorld } from "../core/studio-world.ts";

test("a missing secret key is retried, told to the log alone, and over once the key is there", async () => {
  const world = await studioWorld();
  const s3Path = "s3://company-bucket/film.mp4";
  const credentials = JSON.stringify({ accessKeyId: "A", secretAccessKey: "S" });
  const keyId = world.studio.key.id;
  const seal = async (sealer: typeof testSealer): Promise<void> => {
    await world.store.accounts.update("key", keyId, { s3Credentials: await sealer.seal(credentials, keyId) });
  };
  await seal(createSealer({ current: "k9", keys: { k9: new Uint8Array(32).fill(9) } }));
  const studio = await world.docyard.openStudio(world.apiKey);
  const { id } = await studio.create({ name: "film", type: "video", s3Path });

  const told: Error[] = [];
  const onError = (error: unknown): void => void told.push(error as Error);
  expect(await world.docyard.ingest(id, { onError })).toBe("retrying");
  expect(told[0]?.message).toBe(`the S3 credentials of key ${keyId} cannot be opened`);
  expect(told[0]?.cause).toMatchObject({
    message: expect.stringMatching(/k9 is not in this server.s key file/),
  });
  expect((await studio.get(id)).artifact).toMatchObject({ status: "upload_started", failure: null });
  const events = await world.store.artifacts.events(studio.dock.id, 0, 10);
  expect(JSON.stringify(events)).not.toContain("k9");

  world.sources.set(`${s3Path}#${credentials}`, "video:1000:film");
  await seal(testSealer);
  world.clock.now += 3_600_000;
  expect(await world.docyard.ingest(id)).toBe("completed");
});
