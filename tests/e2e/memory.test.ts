/**
 * Eight large bodies at once, in and out, in a bounded amount of memory: bodies are streams from end to end.
 * The bytes are made as they are sent and hashed as they arrive, so the tests hold none of them either.
 */

import { statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { download, machineClient, type MachineClient } from "./client.ts";
import { blocksOf, digestOfBlocks } from "./files.ts";
import { build, type Server, startServer, tempFolder } from "./program.ts";

const MIB = 1024 ** 2;
const BODIES = 8;
const BODY_BYTES = 512 * MIB;
/** What the server's resident memory may grow by (lesson R-25). */
const GROWTH_MAX_BYTES = 64 * MIB;
/** For the bodies, and a reserve for whoever else uses the disk. */
const DISK_FREE_MIN_BYTES = BODIES * BODY_BYTES + 1024 * MIB;
const SAMPLE_EVERY_MS = 50;

let folder: Awaited<ReturnType<typeof tempFolder>>;
let server: Server;
let client: MachineClient;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  const { bavail, bsize } = await statfs(folder.path);
  if (bavail * bsize < DISK_FREE_MIN_BYTES) {
    throw new Error(`this test needs ${DISK_FREE_MIN_BYTES / MIB} MiB of free space in ${folder.path}`);
  }
  server = await startServer([], { cwd: folder.path });
  client = machineClient(server.url, server.firstRun!.client, server.firstRun!.dock.id);
});

afterAll(async () => {
  await server?.kill();
  await folder?.remove();
});

/** The most memory the server had while `work` ran. */
async function peakDuring(work: Promise<unknown>): Promise<number> {
  const over = new AbortController();
  const watched = work.finally(() => over.abort());
  let peak = 0;
  while (!over.signal.aborted) {
    peak = Math.max(peak, await server.memory());
    await Promise.race([sleep(SAMPLE_EVERY_MS), watched]);
  }
  await watched;
  return peak;
}

/** The collector comes late while others have the cores; memory that is kept would show in every try. */
const TRIES = { retry: 2 } as const;

test(
  `${BODIES} bodies of ${BODY_BYTES / MIB} MiB at once, in and out, take little memory`,
  TRIES,
  async () => {
    // Code is loaded and compiled, buffers and pools exist: what is measured is what bodies take.
    const warm = await client.send({ filename: "warm-up" }, () => blocksOf("warm-up", 16 * MIB));
    await download((await client.list()).data[0]!.downloadUrl);
    expect(warm.size).toBe(16 * MIB);
    const before = await server.memory();

    const seeds = Array.from({ length: BODIES }, (_, index) => `body ${index}`);
    const uploads = Promise.all(
      seeds.map((seed) => client.send({ filename: seed }, () => blocksOf(seed, BODY_BYTES))),
    );
    const peakIn = await peakDuring(uploads);
    const hashes = seeds.map((seed) => `sha256:${digestOfBlocks(seed, BODY_BYTES)}`);
    expect((await uploads).map(({ hash }) => hash)).toEqual(hashes);

    const { data } = await client.list({ search: "body" });
    const downloads = Promise.all(data.map(({ downloadUrl }) => download(downloadUrl)));
    const peakOut = await peakDuring(downloads);
    expect((await downloads).map(({ digest, size }) => ({ digest, size }))).toEqual(
      data.map(({ hash }) => ({ digest: hash!.slice("sha256:".length), size: BODY_BYTES })),
    );

    const growth = { uploads: (peakIn - before) / MIB, downloads: (peakOut - before) / MIB };
    console.log(
      `memory: ${Math.round(before / MIB)} MiB before, +${Math.round(growth.uploads)} MiB while ${BODIES} uploads ran, ` +
        `+${Math.round(growth.downloads)} MiB while ${BODIES} downloads ran`,
    );
    expect(Math.max(peakIn, peakOut) - before).toBeLessThanOrEqual(GROWTH_MAX_BYTES);
  },
);
