/** The drivers that need a server keep the ports' contracts, by the same suites as those that need none. */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { s3Blobs } from "@docyard/adapters/blob/s3";
import { testBlobStore } from "@docyard/adapters/conformance/blob-store";
import { testQueue } from "@docyard/adapters/conformance/queue";
import { testRateLimit } from "@docyard/adapters/conformance/rate-limit";
import { redisLimit } from "@docyard/adapters/limit/redis";
import { redisQueue } from "@docyard/adapters/queue/redis";
import { Redis } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import { freshBucket, freshRedisDb, type FreshBucket, type FreshRedis } from "./index.ts";

/** How long Redis may take to notice that a connection was closed. */
const CLOSING_MS = 5_000;

let bucket: FreshBucket;
let database: FreshRedis;
let redis: Redis;

beforeAll(async () => {
  [bucket, database] = await Promise.all([freshBucket(), freshRedisDb()]);
  redis = new Redis(database.url);
});
afterAll(async () => {
  redis.disconnect();
  await Promise.all([bucket.remove(), database.remove()]);
});

const fresh = (): string => `t${randomBytes(8).toString("hex")}`;

testBlobStore(
  "S3",
  async () => {
    const prefix = `${bucket.prefix}${fresh()}`;
    const blobs = await s3Blobs({
      bucket: bucket.bucket,
      prefix,
      endpoint: bucket.endpoint,
      region: bucket.region,
      credentials: { accessKeyId: bucket.accessKeyId, secretAccessKey: bucket.secretAccessKey },
    });
    const own = (names: string[]): string[] =>
      names.filter((name) => name.startsWith(`${prefix}/`)).map((name) => name.slice(prefix.length + 1));
    return {
      blobs,
      redeem: (request) => fetch(request),
      leftovers: async () => [
        ...own(await bucket.keys()),
        ...own(await bucket.openUploads()).map((name) => `${name} (upload)`),
      ],
      close: () => blobs.close(),
    };
  },
  { urls: "remote", attests: false },
);

testQueue("Redis", async () => {
  const name = fresh();
  const own = await connections();
  const queue = await redisQueue({ url: database.url, name });
  return {
    queue,
    // Rings outlive a queue on purpose; its connections do not.
    async leftovers() {
      const deadline = Date.now() + CLOSING_MS;
      for (;;) {
        const left = (await connections()).filter((id) => !own.includes(id));
        if (left.length === 0 || Date.now() > deadline) return left;
        await sleep(20);
      }
    },
    close: () => queue.close(),
  };
});

/** Of clients to the database of this file. */
async function connections(): Promise<string[]> {
  const index = new URL(database.url).pathname.slice(1);
  const clients = (await redis.client("LIST")) as string;
  return clients
    .split("\n")
    .filter((line) => line.includes(` db=${index} `))
    .map((line) => /^id=\d+/.exec(line)![0]);
}

testRateLimit(
  "Redis",
  async () => {
    const prefix = `${fresh()}:`;
    const open = () => redisLimit({ url: database.url, prefix });
    const limits = [await open()];
    return {
      limit: limits[0]!,
      wait: (ms) => sleep(ms),
      async replica() {
        const limit = await open();
        limits.push(limit);
        return limit;
      },
      // Windows that have not ended yet leave by themselves; a count without an end never would.
      async leftovers() {
        const immortal: string[] = [];
        for (const key of await redis.keys(`${prefix}*`))
          if ((await redis.pttl(key)) === -1) immortal.push(key);
        return immortal;
      },
      async close() {
        for (const limit of limits) await limit.close();
      },
    };
  },
  { shared: true },
);
