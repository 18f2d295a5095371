/**
 * Two replicas on real engines, eight clients, and everything that breaks, in turn: each replica killed, PostgreSQL
 * restarted, Redis emptied, S3 gone for ten seconds. What was acknowledged must be there, whole and once.
 */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { postgresStore } from "@docyard/adapters/store/postgres";
import type { Artifact, ArtifactSummary, Store } from "@docyard/core";
import { createProvisioning } from "@docyard/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ArtifactJson } from "../e2e/client.ts";
import { download, exchange, machineClient } from "../e2e/client.ts";
import { operatorOf } from "../http/harness.ts";
import { sha256, someBytes } from "../http/target.ts";
import type { Fleet } from "./fleet.ts";
import { startFleet } from "./fleet.ts";
import type { CephService, FreshBucket, PostgresService, RedisService } from "./index.ts";
import { freshBucket, startCeph, startPostgres, startRedis } from "./index.ts";

const CLIENTS = 8;
/** How long S3 is gone. */
const S3_OUTAGE_MS = 10_000;
/** How long clients work in peace between two blows: time enough for some uploads. */
const PEACE_MS = 2_000;
/** No request may take longer, whatever is broken: the longest wait of a driver, and room for a busy machine. */
const REQUEST_MAX_MS = 45_000;
/** A killed worker's lease (60 s), the sweep's interval (30 s), and room for a busy machine. */
const DRAIN_MAX_MS = 180_000;
const SIZES = [0, 1, 3_000, 70_000, 600_000] as const;
const TEST_MAX_MS = 600_000;
/** Contents that several clients send, so that equal ones race. */
const SHARED = 12;

let postgres: PostgresService;
let redis: RedisService;
let ceph: CephService;
let bucket: FreshBucket;
let fleet: Fleet;
let store: Store;
const cleanups: (() => Promise<void>)[] = [];

beforeAll(async () => {
  [postgres, redis, ceph] = await Promise.all([startPostgres(), startRedis(), startCeph()]);
  cleanups.push(...[postgres, redis, ceph].map((service) => () => service.stop()));
  bucket = await freshBucket(ceph.access);
  const query = new URLSearchParams({ endpoint: bucket.endpoint, region: bucket.region });
  fleet = await startFleet({
    replicas: 2,
    args: Object.entries({
      db: postgres.url,
      blob: `s3://${bucket.bucket}?${query.toString()}`,
      queue: redis.url,
      "limit-list": "0",
      "limit-download": "0",
      "limit-token": "0",
      "worker-concurrency": "4",
    }).flatMap(([name, value]) => [`--${name}`, value]),
    env: { AWS_ACCESS_KEY_ID: bucket.accessKeyId, AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey },
  });
  cleanups.push(() => fleet.close());
  store = await postgresStore({ url: postgres.url });
  cleanups.push(() => store.close());
});
afterAll(async () => {
  for (const cleanup of cleanups.toReversed()) await cleanup();
});

interface Acknowledged {
  readonly id: string;
  readonly digest: string;
  readonly size: number;
}

test(
  "nothing that was acknowledged is lost, wrong or there twice, and everything drains",
  async () => {
    const operator = operatorOf(createProvisioning(store.accounts));
    const dockId = await operator.createDock();
    const credentials = await operator.createClient({ dockId });
    const shared = Array.from({ length: SHARED }, (_, i) => someBytes(SIZES[i % SIZES.length]! + i));
    const acknowledged: Acknowledged[] = [];
    const slow: string[] = [];
    const refused: string[] = [];
    const over = new AbortController();
    let phase = "at peace";

    /** A request that must end in time; what it answers is null when it failed, which a client answers with another try. */
    const tried = async <T>(what: string, request: () => Promise<T>): Promise<T | null> => {
      const startedAt = performance.now();
      try {
        return await request();
      } catch (error) {
        refused.push(`${phase}: ${what}: ${String(error)}`);
        await sleep(100);
        return null;
      } finally {
        const took = performance.now() - startedAt;
        if (took > REQUEST_MAX_MS) slow.push(`${what} took ${Math.round(took)} ms`);
      }
    };

    /** Create, PUT, complete until it is said to be stored; from the start again where an upload has failed for good. */
    const send = async (bytes: Uint8Array): Promise<void> => {
      const client = machineClient(fleet.url, credentials, dockId);
      const digest = sha256(bytes);
      const keep = ({ id, hash, size }: ArtifactJson): void => {
        expect({ hash, size }).toEqual({ hash: `sha256:${digest}`, size: bytes.length });
        acknowledged.push({ id, digest, size: bytes.length });
      };
      const isHashed = randomInt(2) === 0;
      while (!over.signal.aborted) {
        const created = await tried("create", () =>
          client.create({ filename: "chaos.bin", ...(isHashed ? { hash: digest } : {}) }),
        );
        if (created === null) continue;
        if (created.isDuplicate) {
          keep(created);
          return;
        }
        while (!over.signal.aborted) {
          const sent = await tried("put", () => exchange(created.uploadUrl!, { method: "PUT", body: bytes }));
          if (sent?.status === 200) break;
        }
        while (!over.signal.aborted) {
          const answer = await tried("complete", async () =>
            exchange(`${fleet.url}/v1/machine/docks/${dockId}/artifacts/upload/complete`, {
              method: "POST",
              headers: {
                authorization: `Bearer ${await client.token()}`,
                "content-type": "application/json",
              },
              body: Buffer.from(JSON.stringify({ uploadId: created.uploadId })),
            }),
          );
          if (answer?.status === 200) {
            keep(JSON.parse(answer.body.toString()) as ArtifactJson);
            return;
          }
          // Failed for good, says the server: begin anew.
          if (answer?.status === 409) break;
          await sleep(50);
        }
      }
    };
    const work = async (): Promise<void> => {
      while (!over.signal.aborted) {
        await send(
          randomInt(3) === 0 ? shared[randomInt(SHARED)]! : someBytes(SIZES[randomInt(SIZES.length)]),
        );
      }
    };
    /** Everybody gets on again: some more uploads are acknowledged. */
    const peace = async (): Promise<void> => {
      const before = acknowledged.length;
      await sleep(PEACE_MS);
      await expect.poll(() => acknowledged.length, { timeout: 60_000 }).toBeGreaterThan(before + CLIENTS);
    };

    const clients = Array.from({ length: CLIENTS }, work);
    await peace();
    for (const index of [0, 1]) {
      phase = `replica ${index} killed`;
      await fleet.kill(index);
      await sleep(500);
      await fleet.start(index);
      await peace();
    }
    phase = "PostgreSQL restarted";
    await postgres.restart();
    await peace();
    phase = "Redis emptied";
    await redis.restart();
    await peace();
    phase = "S3 gone";
    await ceph.kill();
    await sleep(S3_OUTAGE_MS);
    phase = "S3 back";
    await ceph.restart();
    await peace();
    over.abort();
    await Promise.all(clients);

    expect(slow).toEqual([]);
    // In peace nothing fails, and each blow is noticed by some at most: no replica has died of another's end.
    expect(refused.filter((text) => text.startsWith("at peace"))).toEqual([]);
    expect(acknowledged.length).toBeGreaterThan(6 * CLIENTS);

    // Everything drains: no upload is with a worker any more, none has failed that was not given up.
    const withStatus = async (...statuses: Artifact["status"][]): Promise<readonly ArtifactSummary[]> => {
      const start = { offset: 0 } as const;
      return (await store.artifacts.find({ dockId, face: "machine", statuses, start, limit: 1_000 })).rows;
    };
    await expect
      .poll(() => withStatus("upload_started").then((rows) => rows.length), {
        timeout: DRAIN_MAX_MS,
        interval: 500,
      })
      .toBe(0);

    // Every artifact once, with the bytes that were acknowledged under its id, from either replica.
    const listed = await machineClient(fleet.url, credentials, dockId).listAll();
    const byId = new Map(listed.map((artifact) => [artifact.id, artifact]));
    const lost = acknowledged.filter(({ id, digest }) => byId.get(id)?.hash !== `sha256:${digest}`);
    expect(lost).toEqual([]);
    expect(new Set(listed.map(({ hash }) => hash)).size).toBe(listed.length);
    for (const { downloadUrl, hash, size } of listed) {
      expect(await download(downloadUrl)).toEqual({
        status: 200,
        size,
        digest: hash!.slice("sha256:".length),
      });
    }

    // The log has every number once, and tells of every artifact that there is.
    const log = await store.artifacts.events(dockId, 0, 1_000_000);
    expect(log.map(({ seq }) => seq)).toEqual(log.map((_, i) => i + 1));
    const completed = log
      .filter(({ type }) => type === "artifact.completed")
      .map(({ artifactId }) => artifactId);
    expect(completed.sort()).toEqual([...byId.keys()].sort());
    for (const index of [0, 1]) expect((await exchange(`${fleet.urlOf(index)}/v1/readyz`)).status).toBe(200);
  },
  TEST_MAX_MS,
);
