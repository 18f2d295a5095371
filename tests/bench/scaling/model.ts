/**
 * What a load costs a deployment, as arithmetic: rows, bytes, requests, processors, and which resource is full first.
 * Measures nothing (`measure.ts` does) and knows no waiting (`simulation.ts` does).
 */

import type { Coefficients, Costs, Requests } from "./coefficients.ts";

/** What clients ask for, on an average day. */
export interface Load {
  readonly artifactsPerDay: number;
  /** Bytes of one artifact. */
  readonly meanBytes: number;
  readonly downloadsPerArtifact: number;
  readonly listsPerSecond: number;
  readonly docks: number;
  /** The k-th busiest dock gets a share in proportion to k^-skew; 0: all alike. */
  readonly skew: number;
  /** The busiest hour over the average one, 1 or more: what has to be carried, where a day is what has to be kept. */
  readonly peak: number;
}

/** One file and folder under one process, or PostgreSQL, S3 and Redis under replicas (one Node process each). */
export type Stage = "single" | "fleet";

export interface Deployment {
  readonly stage: Stage;
  /** Server processes: each runs its JavaScript on one processor. */
  readonly replicas: number;
  readonly connectionsPerReplica: number;
  /** Databases, each with all rows of its docks. */
  readonly databases: number;
  readonly databaseCores: number;
  readonly buckets: number;
}

export interface Resource {
  readonly name: string;
  readonly demand: number;
  readonly capacity: number;
  readonly unit: string;
  /** `demand / capacity`. */
  readonly utilisation: number;
}

export interface Plan {
  readonly perSecond: Costs & { readonly download: number };
  readonly rowsPerDay: number;
  /** Of tables and indexes, of the write-ahead log, and of the artifacts themselves. */
  readonly bytesPerDay: { readonly database: number; readonly wal: number; readonly blobs: number };
  /** Most that one database sees: of its share of the replicas. */
  readonly connectionsPerDatabase: number;
  /** Syncs of the busiest disk under a database, where no two commits share one; they do when they are many. */
  readonly syncsPerSecond: number;
  /** All requests of thirty days, clients' own included; 0 without a bucket. */
  readonly bucketPerMonth: Requests;
  /** Fullest first. */
  readonly resources: readonly Resource[];
  readonly first: Resource;
  /** Artifacts a day at which `first` is full, when lists and downloads grow alike. */
  readonly artifactsPerDayMax: number;
}

/** S3's published request rates for each prefix of a bucket, per second. */
export const S3_PREFIX_LIMIT: Requests = { writes: 3_500, reads: 5_500 };
const DAY_S = 86_400;
const MONTH_DAYS = 30;
const MIB = 1024 ** 2;

/** The busiest dock's share of all requests. */
export function busiestShare({ docks, skew }: Pick<Load, "docks" | "skew">): number {
  let sum = 0;
  for (let k = 1; k <= docks; k++) sum += k ** -skew;
  return 1 / sum;
}

/** The busiest database's share: docks are not cut, so it cannot fall below that of the busiest one. */
function busiestShard(load: Load, { databases }: Deployment): number {
  return Math.max(1 / databases, busiestShare(load));
}

export function total(parts: Readonly<Record<string, number>>): number {
  return Object.values(parts).reduce((sum, part) => sum + part, 0);
}

export function plan(load: Load, deployment: Deployment, c: Coefficients): Plan {
  const artifacts = (load.artifactsPerDay / DAY_S) * load.peak;
  const rates = {
    create: artifacts,
    complete: artifacts,
    list: load.listsPerSecond * load.peak,
    download: artifacts * load.downloadsPerArtifact,
  };
  const isSingle = deployment.stage === "single";
  const store = isSingle ? c.store.sqlite : c.store.postgres;
  const resources = (isSingle ? single : fleet)(load, deployment, c, rates);
  resources.sort((a, b) => b.utilisation - a.utilisation);
  const first = resources[0]!;
  const perMonth = isSingle ? 0 : load.artifactsPerDay * MONTH_DAYS;
  const { replicas, connectionsPerReplica, databases } = deployment;
  const syncs = isSingle ? c.syncsPerArtifact : c.locksPerArtifact * busiestShard(load, deployment);
  return {
    perSecond: rates,
    rowsPerDay: total(store.rows) * load.artifactsPerDay,
    bytesPerDay: {
      database: total(store.bytes) * load.artifactsPerDay,
      wal: total(store.walBytes) * load.artifactsPerDay,
      blobs: load.meanBytes * load.artifactsPerDay,
    },
    connectionsPerDatabase: isSingle ? 0 : Math.ceil(replicas / databases) * connectionsPerReplica,
    syncsPerSecond: artifacts * syncs,
    bucketPerMonth: {
      writes: perMonth * (c.bucket.incoming.writes + c.bucket.docks.writes),
      reads: perMonth * (c.bucket.incoming.reads + c.bucket.docks.reads + load.downloadsPerArtifact),
    },
    resources,
    first,
    artifactsPerDayMax: load.artifactsPerDay / first.utilisation,
  };
}

type Rates = Plan["perSecond"];
type Model = (load: Load, deployment: Deployment, c: Coefficients, rates: Rates) => Resource[];

/** Everything goes through one process, one file and one disk. */
const single: Model = (load, _, c, rates) => {
  const mib = load.meanBytes / MIB;
  const wal = total(c.store.sqlite.walBytes) + total(c.store.sqlite.bytes);
  const cores =
    weighted(rates, c.singleUs) +
    rates.create * (c.singleUs.upload + mib * c.singleUsPerMiB.upload) +
    rates.download * (c.singleUs.download + mib * c.singleUsPerMiB.download);
  return [
    resource("server processor", cores / 1e6, 1, "cores"),
    resource("database writes", rates.create + rates.complete, c.sqliteWritesPerSecond, "/s"),
    resource("disk syncs", rates.create * c.syncsPerArtifact, 1_000 / c.syncMs, "/s"),
    resource("disk bytes", rates.create * (mib + wal / MIB), c.diskMiBPerSecond, "MiB/s"),
  ];
};

/** Bytes go between clients and bucket; the fleet reads each artifact to verify it. */
const fleet: Model = (load, deployment, c, rates) => {
  const { replicas, databaseCores, connectionsPerReplica, buckets } = deployment;
  const mib = load.meanBytes / MIB;
  const busiest = busiestShare(load);
  const { incoming, docks } = c.bucket;
  const locked =
    rates.create * c.lockedMs.create * (c.locksPerArtifact - 1) + rates.complete * c.lockedMs.complete;
  const written = total(c.store.postgres.walBytes) + total(c.store.postgres.bytes);
  const cores = weighted(rates, c.fleetUs) + rates.complete * mib * c.fleetUsPerMiB;
  const commands = rates.create * c.redis.perArtifact + rates.list * c.redis.perList;
  const dockReads = rates.create * docks.reads + rates.download;
  const writesMax = S3_PREFIX_LIMIT.writes;
  const readsMax = S3_PREFIX_LIMIT.reads;
  const shard = busiestShard(load, deployment);
  return [
    resource("server processors", cores / 1e6, replicas, "cores"),
    resource("database processors", (weighted(rates, c.databaseUs) / 1e6) * shard, databaseCores, "cores"),
    resource("database disk", (rates.create * written * shard) / MIB, c.diskMiBPerSecond, "MiB/s"),
    resource("busiest dock's lock", (locked * busiest) / 1_000, 1, "busy"),
    resource("connections", weighted(rates, c.heldMs) / 1_000, replicas * connectionsPerReplica, "busy"),
    resource("Redis", ((commands * c.redis.usPerCommand) / 1e6) * shard, 1, "cores"),
    resource("S3 writes below incoming/", rates.create * incoming.writes, buckets * writesMax, "/s"),
    resource("S3 reads below incoming/", rates.create * incoming.reads, buckets * readsMax, "/s"),
    resource("S3 writes of the busiest dock", rates.create * docks.writes * busiest, writesMax, "/s"),
    resource("S3 reads of the busiest dock", dockReads * busiest, readsMax, "/s"),
  ];
};

function weighted(rates: Costs, costs: Costs): number {
  return rates.create * costs.create + rates.complete * costs.complete + rates.list * costs.list;
}

function resource(name: string, demand: number, capacity: number, unit: string): Resource {
  return { name, demand, capacity, unit, utilisation: demand / capacity };
}
