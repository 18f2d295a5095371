/**
 * Studio's external `s3://` sources from end to end: real core, disk and media, the credentials of an API key as its
 * operator has sealed them, and objects on a real S3 server.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { httpFetch } from "@docyard/adapters/fetch/http";
import { s3Source } from "@docyard/adapters/fetch/s3";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { mediabunnyMedia } from "@docyard/adapters/media/mediabunny";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Artifact, BlobStore, Docyard, Provisioning, S3Credentials, StudioDock } from "@docyard/core";
import { createDocyard, createProvisioning, createSealer } from "@docyard/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type MediaFiles, openMediaFiles } from "../e2e/studio-media.ts";
import { freshBucket, type FreshBucket, s3Client } from "./index.ts";

const sealer = createSealer({ current: "k1", keys: { k1: new Uint8Array(32).fill(5) } });

let bucket: FreshBucket;
let client: S3Client;
let media: MediaFiles;
let docyard: Docyard;
let provisioning: Provisioning;
let blobs: BlobStore;
let studio: StudioDock;
let keyId: string;
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  bucket = await freshBucket();
  client = s3Client(bucket);
  media = await openMediaFiles();
  const folder = await mkdtemp(join(tmpdir(), "docyard-studio-s3-"));
  const store = await sqliteStore({ file: join(folder, "docyard.db") });
  blobs = await diskBlobs({
    root: join(folder, "data"),
    baseUrl: "http://studio.test",
    secret: new Uint8Array(32).fill(9),
  });
  const ingest = {
    fetchUrl: httpFetch(),
    s3: s3Source(),
    media: mediabunnyMedia({ scratchDir: folder }),
    sealer,
  };
  const { fetchUrl, s3, media: reader } = ingest;
  closing.push(...[fetchUrl, s3, reader, blobs, store].map((part) => () => part.close()), () =>
    rm(folder, { recursive: true, force: true }),
  );
  docyard = createDocyard({ store, blobs, queue: memoryQueue(), limit: memoryLimit(), ingest });
  provisioning = createProvisioning(store.accounts);
  const { apiKey, key } = (await provisioning.firstRun())!;
  keyId = key.id;
  await provisioning.setS3Credentials(keyId, credentials(), sealer);
  studio = await docyard.openStudio(apiKey);
});
afterAll(async () => {
  for (const close of closing) await close();
  client.destroy();
  await media.remove();
  await bucket.remove();
});

const credentials = (over: Partial<S3Credentials> = {}): S3Credentials => ({
  accessKeyId: bucket.accessKeyId,
  secretAccessKey: bucket.secretAccessKey,
  region: bucket.region,
  endpoint: bucket.endpoint,
  ...over,
});

const path = (name: string): string => `s3://${bucket.bucket}/${bucket.prefix}${name}`;

/** Puts an object where only the key's credentials reach it. */
async function put(name: string, bytes: Uint8Array): Promise<string> {
  await client.send(new PutObjectCommand({ Bucket: bucket.bucket, Key: bucket.prefix + name, Body: bytes }));
  return path(name);
}

async function ended(id: string): Promise<Artifact> {
  await docyard.ingest(id);
  return (await studio.get(id)).artifact;
}

async function stored(artifact: Artifact): Promise<Uint8Array> {
  const { body } = await blobs.get(artifact.blobKey!);
  const parts: Uint8Array[] = [];
  for await (const chunk of body) parts.push(Uint8Array.from(chunk));
  return new Uint8Array(Buffer.concat(parts));
}

test("an object is read with the key's credentials and kept byte for byte", async () => {
  const { bytes, seconds } = await media.make("video");
  const s3Path = await put("recordings/größe & more.mp4", bytes);
  const { id } = await studio.create({ name: "Recording", type: "video", s3Path });
  const done = await ended(id);
  expect(done).toMatchObject({
    status: "upload_completed",
    size: bytes.length,
    contentType: "video/mp4",
    failure: null,
  });
  expect(done.durationMs! / 1_000).toBeCloseTo(seconds!, 1);
  expect(await stored(done)).toEqual(bytes);
});

test("objects can be fragments of one film", async () => {
  const clips = [await media.make("video"), await media.make("video")] as const;
  const paths = await Promise.all(clips.map(({ bytes }, index) => put(`part-${index}.mp4`, bytes)));
  const { id } = await studio.create({
    name: "Joined",
    type: "video",
    fragments: paths.map((s3Path, index) => ({ s3Path, startTime: 2 * index })),
  });
  const done = await ended(id);
  expect(done).toMatchObject({ status: "upload_completed", failure: null });
  expect(done.durationMs! / 1_000).toBeCloseTo(2 * clips[0].seconds!, 0);
});

test("what is not there fails for good, and says so without a secret", async () => {
  const { id } = await studio.create({ name: "Gone", type: "video", s3Path: path("nothing.mp4") });
  const done = await ended(id);
  expect(done).toMatchObject({ status: "upload_failed", failure: { code: "source_failed" } });
  expect(done.failure!.message).toMatch(/no such object/);
});

test("credentials that do not open the bucket fail; put right, the next artifact completes", async () => {
  const { bytes } = await media.make("audio");
  const s3Path = await put("voice.m4a", bytes);
  await provisioning.setS3Credentials(keyId, credentials({ secretAccessKey: "not-the-secret" }), sealer);
  const refused = await ended((await studio.create({ name: "Voice", type: "audio", s3Path })).id);
  expect(refused).toMatchObject({ status: "upload_failed", failure: { code: "source_failed" } });
  expect(JSON.stringify(refused)).not.toContain("not-the-secret");

  await provisioning.setS3Credentials(keyId, credentials(), sealer);
  const done = await ended((await studio.create({ name: "Voice", type: "audio", s3Path })).id);
  expect(done).toMatchObject({ status: "upload_completed", size: bytes.length });
  expect(await stored(done)).toEqual(bytes);
});

test("credentials that were taken away between create and ingest fail the artifact, not the worker", async () => {
  const s3Path = path("voice.m4a");
  const { id } = await studio.create({ name: "Voice", type: "audio", s3Path });
  await provisioning.setS3Credentials(keyId, null, sealer);
  expect(await ended(id)).toMatchObject({
    status: "upload_failed",
    failure: { message: "The API key has no S3 credentials for this s3Path" },
  });
  await provisioning.setS3Credentials(keyId, credentials(), sealer);
});
