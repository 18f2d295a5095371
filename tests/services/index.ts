/**
 * What a test file uses of the running services: an empty database, bucket or Redis of its own, removed afterwards.
 * Which servers these are is setup.ts's affair; a test that breaks a server starts one of its own.
 */

import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from "@aws-sdk/client-s3";
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { Client } from "pg";
import { inject } from "vitest";
import type { S3Access } from "./ceph.ts";

export { startCeph, type CephService, type S3Access } from "./ceph.ts";
export { startPostgres, type PostgresService } from "./postgres.ts";
export { startRedis, type RedisService } from "./redis.ts";

export interface FreshDatabase {
  readonly url: string;
  remove(): Promise<void>;
}

export interface FreshBucket extends S3Access {
  readonly bucket: string;
  /** Ends in a slash, or is empty: a user's own bucket is shared, below a prefix. */
  readonly prefix: string;
  /** Keys that are there, for tests that look behind a driver's back. */
  keys(): Promise<string[]>;
  /** Multipart uploads neither completed nor aborted. */
  openUploads(): Promise<string[]>;
  remove(): Promise<void>;
}

export interface FreshRedis {
  readonly url: string;
  remove(): Promise<void>;
}

/** A new, empty database. */
export async function freshDatabase(): Promise<FreshDatabase> {
  const url = new URL(inject("services").databaseUrl);
  const name = `docyard_test_${randomUUID().replaceAll("-", "")}`;
  await asAdmin(url.href, `CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'UTF8'`);
  const own = new URL(url);
  own.pathname = `/${name}`;
  return { url: own.href, remove: () => asAdmin(url.href, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

async function asAdmin(url: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** An S3 client for a test's own view of a server. */
export function s3Client(access: S3Access): S3Client {
  return new S3Client({
    endpoint: access.endpoint,
    region: access.region,
    credentials: access,
    forcePathStyle: true,
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
}

/** An empty bucket, or an empty prefix of the user's own; of the run's server, or of one that the test started. */
export async function freshBucket(server?: S3Access): Promise<FreshBucket> {
  const { bucket: own = null, ...access } =
    server === undefined ? inject("services").s3 : { ...server, bucket: null };
  const id = `docyard-test-${randomUUID()}`;
  const bucket = own ?? id;
  const prefix = own === null ? "" : `${id}/`;
  const client = s3Client(access);
  if (own === null) await client.send(new CreateBucketCommand({ Bucket: bucket }));

  const keys = async (): Promise<string[]> => {
    const all: string[] = [];
    for (let token: string | undefined; ;) {
      const page = await client.send(
        new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }),
      );
      all.push(...(page.Contents ?? []).map((object) => object.Key!));
      token = page.NextContinuationToken;
      if (token === undefined) return all;
    }
  };
  const uploads = async () => {
    const page = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix }));
    return page.Uploads ?? [];
  };
  return {
    ...access,
    bucket,
    prefix,
    keys,
    openUploads: async () => (await uploads()).map((upload) => upload.Key!),
    async remove() {
      for (const Key of await keys()) await client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
      for (const { Key, UploadId } of await uploads()) {
        await client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }));
      }
      if (own === null) await client.send(new DeleteBucketCommand({ Bucket: bucket }));
      client.destroy();
    },
  };
}

/** Takes the database only where nothing is in it, in one step: two test files may ask at once. */
const CLAIM = `if redis.call("DBSIZE") > 0 then return 0 end redis.call("SET", KEYS[1], ARGV[1]) return 1`;
const CLAIM_KEY = "docyard:test:claim";
/** Redis's own default; a run's own server has more. */
const DATABASES_MIN = 16;

/** An empty numbered database of the run's Redis; a user's own data is never touched. */
export async function freshRedisDb(): Promise<FreshRedis> {
  const url = new URL(inject("services").redisUrl);
  const client = new Redis(url.href, { maxRetriesPerRequest: 1 });
  client.on("error", () => {});
  try {
    for (let index = DATABASES_MIN - 1; index > 0; index--) {
      await client.select(index);
      if ((await client.eval(CLAIM, 1, CLAIM_KEY, process.pid)) === 1) {
        const own = new URL(url);
        own.pathname = `/${index}`;
        return {
          url: own.href,
          async remove() {
            await client.flushdb();
            client.disconnect();
          },
        };
      }
    }
  } catch (error) {
    client.disconnect();
    throw error;
  }
  client.disconnect();
  throw new Error("No empty database is left in the tests' Redis: flush one of 1 to 15");
}
