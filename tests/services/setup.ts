/**
 * Starts PostgreSQL, Redis and Ceph once per run for the projects that name this file as `globalSetup`, or takes the
 * user's own servers from `DOCYARD_TEST_*`. Nothing is skipped: what can be neither started nor reached fails the run.
 */

import type { TestProject } from "vitest/node";
import { startCeph, type S3Access } from "./ceph.ts";
import { startPostgres } from "./postgres.ts";
import { startRedis } from "./redis.ts";

export interface ProvidedServices {
  /** Of a database in which the user may create others. */
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly s3: S3Access & {
    /** The user's own bucket; null where tests may make buckets as they like. */
    readonly bucket: string | null;
  };
}

declare module "vitest" {
  interface ProvidedContext {
    services: ProvidedServices;
  }
}

interface Started<T> {
  readonly value: T;
  readonly stop: () => Promise<void>;
}

/** Shared by every project of this process, each of which runs this file in a module graph of its own. */
const shared = globalThis as typeof globalThis & {
  docyardTestServices?: { users: number; started: Promise<Started<ProvidedServices>> };
};

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const services = (shared.docyardTestServices ??= { users: 0, started: startAll(process.env) });
  services.users++;
  const { value, stop } = await services.started;
  project.provide("services", value);
  return async () => {
    services.users--;
    if (services.users > 0) return;
    delete shared.docyardTestServices;
    await stop();
  };
}

async function startAll(env: NodeJS.ProcessEnv): Promise<Started<ProvidedServices>> {
  // Read first: a half-given server is an error before anything has been started.
  const own = ownServers(env);
  const starting = [
    given(own.databaseUrl) ?? startPostgres().then((service) => started(service.url, service)),
    given(own.redisUrl) ?? startRedis().then((service) => started(service.url, service)),
    given(own.s3) ?? startCeph().then((service) => started({ ...service.access, bucket: null }, service)),
  ] as const;
  const settled = await Promise.allSettled(starting);
  const stop = async (): Promise<void> => {
    await Promise.all(settled.map(async (one) => one.status === "fulfilled" && one.value.stop()));
  };
  try {
    const [database, redis, s3] = await Promise.all(starting);
    return { value: { databaseUrl: database.value, redisUrl: redis.value, s3: s3.value }, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function started<T>(value: T, service: { stop(): Promise<void> }): Started<T> {
  return { value, stop: () => service.stop() };
}

function given<T>(value: T | undefined): Promise<Started<T>> | undefined {
  return value === undefined ? undefined : Promise.resolve({ value, stop: async () => {} });
}

/** @throws Error for an S3 server that is described in part. */
export function ownServers(env: NodeJS.ProcessEnv): Partial<ProvidedServices> {
  const read = (name: string): string | undefined => env[`DOCYARD_TEST_${name}`] || undefined;
  const s3 = {
    endpoint: read("S3_ENDPOINT"),
    bucket: read("S3_BUCKET"),
    accessKeyId: read("S3_ACCESS_KEY_ID"),
    secretAccessKey: read("S3_SECRET_ACCESS_KEY"),
  };
  const { endpoint, bucket, accessKeyId, secretAccessKey } = s3;
  const databaseUrl = read("DATABASE_URL");
  const redisUrl = read("REDIS_URL");
  const servers = {
    ...(databaseUrl === undefined ? {} : { databaseUrl }),
    ...(redisUrl === undefined ? {} : { redisUrl }),
  };
  if (Object.values(s3).every((value) => value === undefined)) return servers;
  if (!endpoint || !bucket || !accessKeyId || !secretAccessKey) {
    throw new Error(
      "An S3 server of your own needs DOCYARD_TEST_S3_ENDPOINT, _BUCKET, _ACCESS_KEY_ID and _SECRET_ACCESS_KEY together (_REGION: us-east-1)",
    );
  }
  const region = read("S3_REGION") ?? "us-east-1";
  return { ...servers, s3: { endpoint, bucket, region, accessKeyId, secretAccessKey } };
}
