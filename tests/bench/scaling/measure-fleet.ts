/**
 * What an artifact asks of the services around a replica: requests to the bucket, commands of Redis, time with a
 * connection of the database, syncs of a disk. In this process, one artifact after the other, so that all can be counted.
 */

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { randomBytes } from "node:crypto";
import type { ClientRequest } from "node:http";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { s3Blobs } from "@docyard/adapters/blob/s3";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { redisLimit } from "@docyard/adapters/limit/redis";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { redisQueue } from "@docyard/adapters/queue/redis";
import { postgresStore } from "@docyard/adapters/store/postgres";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { BlobStore, Docyard, Queue, RateLimit, Store } from "@docyard/core";
import { createDocyard } from "@docyard/core";
import { Redis } from "ioredis";
import { fakeIngest } from "../../core/studio-parts.ts";
import type { FreshBucket, RedisService } from "../../services/index.ts";
import { countedIo, processorUs } from "./host.ts";
import { addDocks, described, each, PRINCIPAL } from "./measure-store.ts";
import type { Coefficients, Costs, Requests } from "./coefficients.ts";

export type BucketAccess = Pick<
  FreshBucket,
  "endpoint" | "region" | "accessKeyId" | "secretAccessKey" | "bucket"
>;
/** Bytes of the artifacts counted: small, as most are. */
const BYTES = 10 * 1024;
const TAKES = 20_000;
const TAKERS = 64;
const POLL_MS = 5;

export interface FleetMeasured {
  readonly bucket: Coefficients["bucket"];
  /** Requests of one artifact by folder and method, for readers. */
  readonly methods: Readonly<Record<string, number>>;
  readonly bucketMs: readonly number[];
  readonly redis: Coefficients["redis"];
  readonly heldMs: Costs;
  readonly locksPerArtifact: number;
}

interface Parts {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly queue: Queue;
  readonly limit: RateLimit;
}

/** An artifact from its creation until it is listed, however long a worker takes over that. */
async function sendOne(
  docyard: Docyard,
  { store, blobs }: Parts,
  dockId: string,
  i: number,
): Promise<string> {
  const dock = await docyard.open(PRINCIPAL, dockId, "artifacts:write");
  const created = await dock.create(described(i) as Parameters<typeof dock.create>[0]);
  const { url, headers } = created.upload!;
  const request = new Request(url, { method: "PUT", body: randomBytes(BYTES), headers });
  const answer = await (blobs.serve?.fetch(request, docyard.blobHost) ?? fetch(request));
  if (!answer.ok) throw new Error(`an upload was refused: ${answer.status}`);
  await dock.complete({ uploadId: created.artifact.uploadId! });
  const { id } = created.artifact;
  while ((await store.artifacts.get({ id }))?.status !== "upload_completed")
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  return id;
}

export async function measureFleet(
  databaseUrl: string,
  access: BucketAccess,
  redis: RedisService,
  artifacts: number,
): Promise<FleetMeasured> {
  const parts: Parts = {
    store: await postgresStore({ url: databaseUrl }),
    blobs: await s3Blobs({ ...access, credentials: access }),
    queue: await redisQueue({ url: redis.url }),
    limit: await redisLimit({ url: redis.url }),
  };
  const { held, store } = timed(parts.store);
  const docyard = createDocyard({ ...parts, store, ingest: fakeIngest(new Map()) });
  const stop = new AbortController();
  const consuming = parts.queue.consume(async (id) => void (await docyard.ingest(id)), {
    concurrency: 2,
    signal: stop.signal,
  });
  const client = new Redis(redis.url);
  const requests = watchRequests(access.bucket);
  try {
    await sendOne(docyard, parts, "dock_bench_0", 0);
    requests.reset();
    held.reset();
    const idle = await commandsWhile(client, () => docyard.ready());
    let last = "";
    const commands = await commandsWhile(client, async () => {
      for (let i = 1; i <= artifacts; i++) last = await sendOne(docyard, parts, "dock_bench_0", i);
    });
    const [row] = [await parts.store.artifacts.get({ id: last })];
    const counted = requests.counts();
    const heldMs = { ...held.means(artifacts), list: 0 };
    held.reset();
    const reader = await docyard.open(PRINCIPAL, "dock_bench_0", "artifacts:read");
    const lists = await commandsWhile(client, async () => {
      for (let i = 0; i < artifacts; i++) await reader.list({});
    });
    const limitCommands = await commandsWhile(client, async () => {
      await each(TAKES, TAKERS, async (i) => {
        await parts.limit.take(`bench:${i % 100}`, { max: 1_000_000, windowMs: 60_000 });
      });
    });
    const before = await processorUs(redis.pids[0]!);
    await each(TAKES, TAKERS, async (i) => {
      await parts.limit.take(`bench:${i % 100}`, { max: 1_000_000, windowMs: 60_000 });
    });
    const spent = (await processorUs(redis.pids[0]!)) - before;
    const per = (folder: string): Requests => requestsOf(counted, folder, artifacts);
    return {
      // The client's own PUT went past this process's HTTP client.
      bucket: { incoming: plusOne(per("incoming/")), docks: per("docks/") },
      methods: Object.fromEntries(Object.entries(counted).map(([name, count]) => [name, count / artifacts])),
      bucketMs: requests.times(),
      redis: {
        perArtifact: Math.max(0, commands - idle) / artifacts,
        perList: lists / artifacts,
        usPerCommand: spent / limitCommands,
      },
      heldMs: { ...heldMs, list: held.total() / artifacts },
      // The version counts all changes; each but a renewed lease writes an event under the dock's lock.
      locksPerArtifact: row!.version,
    };
  } finally {
    stop.abort();
    await consuming;
    requests.stop();
    client.disconnect();
    for (const part of Object.values(parts) as { close(): Promise<void> }[]) await part.close();
  }
}

/** A store that adds up how long its artifact calls take: until `created` is written, and from there on. */
function timed(store: Store) {
  let create = 0;
  let rest = 0;
  const artifacts = new Proxy(store.artifacts, {
    get(target, name) {
      const method = target[name as keyof typeof target] as (...args: unknown[]) => Promise<unknown>;
      return async (...args: unknown[]) => {
        const from = performance.now();
        try {
          return await method.apply(target, args);
        } finally {
          if (name === "insert") create += performance.now() - from;
          else rest += performance.now() - from;
        }
      };
    },
  });
  return {
    store: { ...store, artifacts },
    held: {
      reset: () => void (create = rest = 0),
      means: (count: number) => ({ create: create / count, complete: rest / count }),
      total: () => create + rest,
    },
  };
}

/** Requests of this process's HTTP client to a bucket, by folder and method, and how long their answers took. */
function watchRequests(bucket: string) {
  let counts: Record<string, number> = {};
  let times: number[] = [];
  const begun = new WeakMap<ClientRequest, number>();
  const folderOf = (request: ClientRequest): string | undefined =>
    new RegExp(`^/${bucket}/(incoming/|docks/)`).exec(request.path)?.[1];
  const onStart = (message: unknown): void => {
    const { request } = message as { request: ClientRequest };
    const folder = folderOf(request);
    if (folder === undefined) return;
    begun.set(request, performance.now());
    const name = `${request.method} ${folder}`;
    counts[name] = (counts[name] ?? 0) + 1;
  };
  const onFinish = (message: unknown): void => {
    const from = begun.get((message as { request: ClientRequest }).request);
    if (from !== undefined) times.push(performance.now() - from);
  };
  subscribe("http.client.request.start", onStart);
  subscribe("http.client.response.finish", onFinish);
  return {
    reset: () => void ((counts = {}), (times = [])),
    counts: () => counts,
    times: () => times,
    stop() {
      unsubscribe("http.client.request.start", onStart);
      unsubscribe("http.client.response.finish", onFinish);
    },
  };
}

function requestsOf(counts: Readonly<Record<string, number>>, folder: string, artifacts: number): Requests {
  let [reads, writes] = [0, 0];
  for (const [name, count] of Object.entries(counts)) {
    if (!name.endsWith(` ${folder}`)) continue;
    if (/^(GET|HEAD) /.test(name)) reads += count;
    else writes += count;
  }
  return { writes: writes / artifacts, reads: reads / artifacts };
}

function plusOne({ writes, reads }: Requests): Requests {
  return { writes: writes + 1, reads };
}

async function commandsWhile(client: Redis, work: () => Promise<void>): Promise<number> {
  const processed = async (): Promise<number> =>
    Number(/^total_commands_processed:(\d+)/m.exec(await client.info("stats"))![1]);
  const before = await processed();
  await work();
  // Less the question itself.
  return (await processed()) - before - 1;
}

/** Syncs of the disk for one artifact on one machine; the database's two commits among them. */
export async function measureSyncs(folder: string, artifacts: number): Promise<number> {
  const { io, syncs } = countedIo();
  const parts: Parts = {
    store: await sqliteStore({ file: `${folder}/docyard.db` }),
    blobs: await diskBlobs({
      io,
      root: `${folder}/data`,
      baseUrl: "http://bench.test",
      secret: Buffer.alloc(32, 1),
    }),
    queue: memoryQueue(),
    limit: memoryLimit(),
  };
  try {
    await addDocks(parts.store);
    const docyard = createDocyard(parts);
    await sendOne(docyard, parts, "dock_bench_0", 0);
    const before = syncs();
    for (let i = 1; i <= artifacts; i++) await sendOne(docyard, parts, "dock_bench_0", i);
    return (syncs() - before) / artifacts + 2;
  } finally {
    for (const part of Object.values(parts) as { close(): Promise<void> }[]) await part.close();
  }
}
