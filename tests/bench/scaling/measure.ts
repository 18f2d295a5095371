/**
 * Measures every coefficient of the model on this machine: starts PostgreSQL, Ceph and Redis, asks the `measure-*.ts`
 * beside it, and puts their answers together. Needs Linux, for the processor time of other processes.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { startCeph } from "../../services/ceph.ts";
import { startRedis } from "../../services/redis.ts";
import type { Machine } from "./host.ts";
import { diskMiBPerSecond, durablePostgres, machine, syncMs } from "./host.ts";
import type { BucketAccess, FleetMeasured } from "./measure-fleet.ts";
import { measureFleet, measureSyncs } from "./measure-fleet.ts";
import type { ServerMeasured, ServerSizes } from "./measure-server.ts";
import { measureServer } from "./measure-server.ts";
import type { StoreMeasured } from "./measure-store.ts";
import { measurePostgres, measureSqlite } from "./measure-store.ts";
import type { Coefficients } from "./coefficients.ts";

export interface Measured {
  readonly machine: Machine;
  readonly at: string;
  readonly command: string;
  readonly coefficients: Coefficients;
  readonly bucketMs: readonly number[];
  /** What the coefficients were made of. */
  readonly details: {
    readonly sqlite: Omit<StoreMeasured, "rows">;
    readonly postgres: StoreMeasured;
    readonly fleet: Omit<FleetMeasured, "bucketMs">;
    readonly single: ServerMeasured;
    readonly replica: ServerMeasured;
  };
}

interface Sizes {
  readonly artifacts: number;
  readonly counted: number;
  readonly server: ServerSizes;
  readonly diskMiB: number;
}
const QUICK: Sizes = {
  artifacts: 400,
  counted: 10,
  server: { artifacts: 100, large: 2, largeMiB: 16 },
  diskMiB: 128,
};
const FULL: Sizes = {
  artifacts: 10_000,
  counted: 100,
  server: { artifacts: 600, large: 4, largeMiB: 32 },
  diskMiB: 1_024,
};
/** Answers of the bucket that are kept for the simulation. */
const TIMES_KEPT = 400;

export async function measure(isQuick: boolean, say: (line: string) => void): Promise<Measured> {
  const sizes = isQuick ? QUICK : FULL;
  const shape = machine();
  const folder = await mkdtemp(join(tmpdir(), "docyard-scaling-"));
  const closing: (() => Promise<void>)[] = [() => rm(folder, { recursive: true })];
  try {
    say("disk");
    const [sync, disk] = [await syncMs(folder), await diskMiBPerSecond(folder, sizes.diskMiB)];
    const syncsPerArtifact = await measureSyncs(folder, sizes.counted);
    say("SQLite");
    const sqlite = await measureSqlite(sizes.artifacts);
    say("one server on SQLite and a folder");
    const single = await measureServer({ args: ["--db", "sqlite", "--blob", "data"] }, sizes.server);

    say("starting PostgreSQL, Redis and Ceph");
    const database = await durablePostgres();
    closing.push(() => database.stop());
    const redis = await startRedis();
    closing.push(() => redis.stop());
    const ceph = await startCeph();
    closing.push(() => ceph.stop());
    const access = { ...ceph.access, bucket: "docyard-scaling" };
    await makeBucket(access);

    say("PostgreSQL");
    const postgres = await measurePostgres(database, sizes.artifacts);
    say("bucket and Redis");
    const { bucketMs, ...fleet } = await measureFleet(database.url, access, redis, sizes.counted);
    say("one replica on PostgreSQL, S3 and Redis");
    await database.query("create database replica");
    const replica = await measureServer(
      {
        args: [
          `--db=${database.url.replace(/postgres$/, "replica")}`,
          `--queue=${redis.url}`,
          `--blob=s3://${access.bucket}?endpoint=${access.endpoint}`,
        ],
        env: { AWS_ACCESS_KEY_ID: access.accessKeyId, AWS_SECRET_ACCESS_KEY: access.secretAccessKey },
        databasePid: database.pid,
      },
      sizes.server,
    );
    const details = { sqlite, postgres, fleet, single, replica };
    return {
      machine: shape,
      at: new Date().toISOString(),
      command: `npm run bench:scaling${isQuick ? " -- --quick" : ""}`,
      coefficients: combine(details, { syncMs: sync, diskMiBPerSecond: disk, syncsPerArtifact }),
      bucketMs: thinned(bucketMs),
      details,
    };
  } finally {
    for (const close of closing.toReversed()) await close();
  }
}

function combine(
  { sqlite, postgres, fleet, single, replica }: Measured["details"],
  disk: Pick<Coefficients, "syncMs" | "diskMiBPerSecond" | "syncsPerArtifact">,
): Coefficients {
  const us = ({ small }: ServerMeasured, who: "server" | "database") => ({
    create: small.create[who],
    complete: small.complete[who],
    list: small.list[who],
  });
  const lockedMs = { create: 1_000 / postgres.oneDock.create, complete: 1_000 / postgres.oneDock.complete };
  const locked = (fleet.locksPerArtifact - 2) * lockedMs.create + lockedMs.complete;
  // The store was measured without a worker, whose changes are as those of a create: a row's, a number's, an event's.
  const more = fleet.locksPerArtifact - 2;
  const { rows, bytes, walBytes } = postgres;
  const perChange = ["artifact", "dock_count", "event"].map((name) => [name, rows[name]! + more] as const);
  const perEvent = ["event", "event_pkey"].map((name) => [name, (bytes[name]! * (more + 2)) / 2] as const);
  return {
    ...disk,
    store: {
      // Both run the same statements.
      sqlite: { rows, bytes: sqlite.bytes, walBytes: sqlite.walBytes },
      postgres: {
        rows: { ...rows, ...Object.fromEntries(perChange) },
        bytes: { ...bytes, ...Object.fromEntries(perEvent) },
        walBytes: { create: walBytes.create, complete: walBytes.complete + more * walBytes.create },
      },
    },
    sqliteWritesPerSecond: 2 / (1 / sqlite.manyDocks.create + 1 / sqlite.manyDocks.complete),
    singleUs: {
      ...us(single, "server"),
      upload: single.small.upload.server,
      download: single.small.download.server,
    },
    singleUsPerMiB: { upload: single.perMiB.upload, download: single.perMiB.download },
    fleetUs: us(replica, "server"),
    fleetUsPerMiB: replica.perMiB.complete,
    databaseUs: us(replica, "database"),
    // Nobody has a connection for less time than the lock that it holds.
    heldMs: {
      create: Math.max(fleet.heldMs.create, lockedMs.create),
      complete: Math.max(fleet.heldMs.complete, locked),
      list: fleet.heldMs.list,
    },
    lockedMs,
    locksPerArtifact: fleet.locksPerArtifact,
    bucket: fleet.bucket,
    redis: fleet.redis,
  };
}

/** Evenly spread over all of them, in order. */
function thinned(times: readonly number[]): number[] {
  const sorted = times.toSorted((a, b) => a - b);
  const step = Math.max(1, sorted.length / TIMES_KEPT);
  const count = Math.min(sorted.length, TIMES_KEPT);
  return Array.from({ length: count }, (_, i) => Number(sorted[Math.floor(i * step)]!.toFixed(3)));
}

async function makeBucket({ bucket, ...access }: BucketAccess): Promise<void> {
  const client = new S3Client({ ...access, credentials: access, forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
}
