/**
 * A source as large as an artifact may be, through the server and onto its disk in a bounded amount of memory. The bytes
 * are made as they are sent and hashed on the way; `DOCYARD_TEST_FULL=1` sends all 5 GiB, the default run less.
 */

import { createHash } from "node:crypto";
import { statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { StudioClient } from "../http/studio-target.ts";
import { download } from "./client.ts";
import { blocksOf } from "./files.ts";
import { build } from "./program.ts";
import { type Kit, openKit } from "./studio-kit.ts";

const MIB = 1024 ** 2;
const SOURCE_BYTES = (process.env["DOCYARD_TEST_FULL"] === "1" ? 5 : 1) * 1024 * MIB;
/** What the server's resident memory may grow by (lesson R-25). */
const GROWTH_MAX_BYTES = 64 * MIB;
/** Staged bytes and their final name are one file; the rest is a reserve for whoever else uses the disk. */
const DISK_FREE_MIN_BYTES = SOURCE_BYTES + 1024 * MIB;
const SAMPLE_EVERY_MS = 50;
const TIMEOUT_MS = 600_000;

let kit: Kit;
let client: StudioClient;

beforeAll(async () => {
  await build();
  kit = await openKit({ concurrency: 1 });
  const { bavail, bsize } = await statfs(kit.folder);
  if (bavail * bsize < DISK_FREE_MIN_BYTES) {
    throw new Error(`this test needs ${DISK_FREE_MIN_BYTES / MIB} MiB of free space in ${kit.folder}`);
  }
  client = await kit.client();
});
afterAll(() => kit.close());

/** A URL for so many bytes, and the digest of what it has sent. */
function source(seed: string, size: number): { readonly url: string; digest(): string } {
  let digest = "";
  const url = kit.origin.stream(
    `${seed}.bin`,
    function* () {
      const hash = createHash("sha256");
      for (const block of blocksOf(seed, size)) {
        hash.update(block);
        yield block;
      }
      digest = hash.digest("hex");
    },
    size,
  );
  return { url, digest: () => digest };
}

async function ingested(url: string): Promise<{ readonly id: string; readonly peak: number }> {
  const { status, body } = await client.create({ name: "large", type: "script", url });
  expect(status).toBe(201);
  let peak = 0;
  for (;;) {
    peak = Math.max(peak, await kit.server.memory());
    const row = await kit.row(body.id);
    if (row.status === "upload_completed") return { id: body.id, peak };
    expect(row.failure).toBeNull();
    await sleep(SAMPLE_EVERY_MS);
  }
}

/** The collector comes late while others have the cores; memory that is kept would show in every try. */
const TRIES = { retry: 2, timeout: TIMEOUT_MS } as const;

test(`a source of ${SOURCE_BYTES / MIB} MiB streams through, in little memory`, TRIES, async () => {
  // Code is loaded and compiled, buffers and pools exist: what is measured is what the bytes take.
  await ingested(source("warm-up", 64 * MIB).url);
  const before = await kit.server.memory();
  const begun = performance.now();
  const large = source("large", SOURCE_BYTES);
  const { id, peak } = await ingested(large.url);
  const seconds = (performance.now() - begun) / 1_000;
  const { body } = await client.get(id);
  expect(body).toMatchObject({ status: "upload_completed", size: SOURCE_BYTES });
  expect((await kit.row(id)).digest).toBe(large.digest());
  console.log(
    `${SOURCE_BYTES / MIB} MiB in ${seconds.toFixed(1)} s (${Math.round(SOURCE_BYTES / MIB / seconds)} MiB/s), ` +
      `memory ${Math.round(before / MIB)} MiB before, +${Math.round((peak - before) / MIB)} MiB at most`,
  );
  expect(peak - before).toBeLessThanOrEqual(GROWTH_MAX_BYTES);
  expect(await download(body.downloadUrl!)).toEqual({
    status: 200,
    size: SOURCE_BYTES,
    digest: large.digest(),
  });
});
