/**
 * The black-box suite of the machine face on real server processes, for each pair of adapters that is meant to be used:
 * one process on its own disk, two replicas on PostgreSQL, S3 and Redis, and, with DOCYARD_TEST_FULL=1, what lies between.
 * Every other request goes to the other replica.
 */

import { join } from "node:path";
import { postgresStore } from "@docyard/adapters/store/postgres";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Store } from "@docyard/core";
import { createProvisioning } from "@docyard/core";
import { operatorOf } from "../http/harness.ts";
import { machineCases } from "../http/machine-cases.ts";
import type { Target } from "../http/target.ts";
import type { Fleet } from "./fleet.ts";
import { startFleet } from "./fleet.ts";
import { freshBucket, freshDatabase, freshRedisDb } from "./index.ts";

const SIZE_MAX = 5 * 1024 ** 3;

interface Combination {
  readonly db: "sqlite" | "postgres";
  readonly blob: "disk" | "s3";
  readonly queue: "memory" | "redis";
  readonly replicas: number;
}

const ENDS: readonly Combination[] = [
  { db: "sqlite", blob: "disk", queue: "memory", replicas: 1 },
  { db: "postgres", blob: "s3", queue: "redis", replicas: 2 },
];
const BETWEEN: readonly Combination[] = [
  { db: "postgres", blob: "disk", queue: "redis", replicas: 2 },
  { db: "sqlite", blob: "s3", queue: "memory", replicas: 1 },
];
const IS_FULL = process.env["DOCYARD_TEST_FULL"] === "1";

for (const combination of IS_FULL ? [...ENDS, ...BETWEEN] : ENDS) {
  const { db, blob, queue, replicas } = combination;
  const processes = replicas === 1 ? "one process" : `${replicas} replicas`;
  machineCases(`(${db}, ${blob}, ${queue}), ${processes}`, () => open(combination));
}

/** A running fleet on things of its own, with an operator who reaches the same store. */
async function open({ db, blob, queue, replicas }: Combination): Promise<Target> {
  const cleanups: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const cleanup of cleanups.toReversed()) await cleanup();
  };
  try {
    const args: string[] = [];
    const env: Record<string, string> = {};
    let openStore = (fleet: Fleet): Promise<Store> => sqliteStore({ file: join(fleet.folder, "docyard.db") });
    if (db === "postgres") {
      const { url, remove } = await freshDatabase();
      cleanups.push(remove);
      args.push("--db", url);
      openStore = () => postgresStore({ url });
    }
    if (blob === "s3") {
      const bucket = await freshBucket();
      cleanups.push(() => bucket.remove());
      const query = new URLSearchParams({ endpoint: bucket.endpoint, region: bucket.region });
      args.push("--blob", `s3://${bucket.bucket}/${bucket.prefix}?${query.toString()}`);
      env["AWS_ACCESS_KEY_ID"] = bucket.accessKeyId;
      env["AWS_SECRET_ACCESS_KEY"] = bucket.secretAccessKey;
    }
    if (queue === "redis") {
      const { url, remove } = await freshRedisDb();
      cleanups.push(remove);
      args.push("--queue", url);
    }
    const fleet = await startFleet({ replicas, args, env });
    cleanups.push(() => fleet.close());
    const store = await openStore(fleet);
    cleanups.push(() => store.close());
    let turn = 0;
    return {
      fetch: (pathOrUrl, init) => {
        // Past the balancer: kept connections would send a client to one replica all the time.
        const own = fleet.urlOf(turn++ % replicas);
        const url = pathOrUrl.startsWith("/") ? own + pathOrUrl : pathOrUrl.replace(fleet.url, own);
        return fetch(url, init);
      },
      operator: operatorOf(createProvisioning(store.accounts)),
      sizeMax: SIZE_MAX,
      ...(blob === "s3" ? { verifiesLater: true, servesBlobs: false } : {}),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
