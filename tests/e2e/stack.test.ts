/**
 * The executable on everything that replicas share: PostgreSQL, an S3 bucket, and Redis, all real. What the drivers do
 * is proven in tests/services; here they are wired by the command line, as chunks of the bundle.
 */

import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type CephService,
  type PostgresService,
  type RedisService,
  startCeph,
  startPostgres,
  startRedis,
} from "../services/index.ts";
import { download, machineClient } from "./client.ts";
import { seededBytes, sha256 } from "./files.ts";
import { build, run, runJson, type Server, startServer, tempFolder } from "./program.ts";

const BUCKET = "docyard";

let folder: Awaited<ReturnType<typeof tempFolder>>;
let postgres: PostgresService;
let redis: RedisService;
let ceph: CephService;
let servers: Server[];

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  servers = [];
  [postgres, redis, ceph] = await Promise.all([startPostgres(), startRedis(), startCeph()]);
  const { endpoint, region, ...credentials } = ceph.access;
  const s3 = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  await s3.send(new CreateBucketCommand({ Bucket: BUCKET }));
  s3.destroy();
});

afterAll(async () => {
  await Promise.all(servers.map((server) => server.kill()));
  await Promise.all([postgres, redis, ceph].map((service) => service.stop()));
  await folder.remove();
});

/** A replica's command line; secrets come from the environment. */
function replica(): {
  readonly args: readonly string[];
  readonly options: Parameters<typeof startServer>[1];
} {
  const { endpoint, region, accessKeyId, secretAccessKey } = ceph.access;
  const query = new URLSearchParams({ endpoint, region });
  return {
    args: ["--blob", `s3://${BUCKET}/shared?${query.toString()}`, "--queue", redis.url],
    options: {
      cwd: folder.path,
      env: {
        DOCYARD_DB: postgres.url,
        AWS_ACCESS_KEY_ID: accessKeyId,
        AWS_SECRET_ACCESS_KEY: secretAccessKey,
      },
    },
  };
}

test("two replicas are one server: what one takes in, the other hands out", async () => {
  const { args, options } = replica();
  const first = await startServer(args, options);
  servers.push(first);
  const second = await startServer(args, options);
  servers.push(second);
  expect(second.firstRun).toBeNull();

  const made = await runJson<{ clientId: string; clientSecret: string }>(
    ["client", "create", "--name", "shared", "--dock", first.firstRun!.dock.id],
    options,
  );
  const here = machineClient(first.url, made, first.firstRun!.dock.id);
  const there = machineClient(second.url, made, first.firstRun!.dock.id);
  const bytes = seededBytes("shared", 3_000_000);
  const sent = await here.send(
    { filename: "shared.bin", hash: sha256(bytes), size: bytes.length },
    () => bytes,
  );

  // A bucket that cannot attest a digest has it verified in the background, by whichever replica hears the ring.
  let listed = (await there.list()).data;
  while (listed.length === 0) {
    await sleep(50);
    listed = (await there.list()).data;
  }
  expect(listed).toMatchObject([{ id: sent.id, size: bytes.length, hash: `sha256:${sha256(bytes)}` }]);
  expect(await download(listed[0]!.downloadUrl)).toEqual({
    status: 200,
    size: bytes.length,
    digest: sha256(bytes),
  });
  expect(await first.stop()).toEqual({ code: 0, signal: null });
  expect(await second.stop()).toEqual({ code: 0, signal: null });
});

test("what cannot be reached is said in one line, without its password", async () => {
  const { args, options } = replica();
  const refused = async (...more: readonly string[]): Promise<string> => {
    const ran = await run(["--port", "0", ...args, ...more], {
      ...options,
      env: { ...options.env, ...OVERRIDDEN },
    });
    expect({ code: ran.code, stdout: ran.stdout }).toEqual({ code: 1, stdout: "" });
    expect(ran.stderr).toMatch(/^docyard-server: [^\n]+\n$/);
    expect(ran.stderr).not.toContain("hunter2");
    return ran.stderr;
  };
  /** Nothing listens on port 1. */
  const OVERRIDDEN = { DOCYARD_DB: "postgres://u:hunter2@127.0.0.1:1/docyard" };
  expect(await refused()).toContain("--db postgres://…@127.0.0.1:1/docyard: ");
});
