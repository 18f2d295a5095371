/** `docyard-server doctor` on real servers: a healthy installation has nothing failing, and each fault is named with its remedy. */

import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clockFinding } from "@docyard/adapters/probe";
import type { Finding } from "@docyard/adapters/probe";
import { migrate } from "@docyard/adapters/store/postgres";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ran, run } from "../e2e/program.ts";
import { REPLICA, startFleet } from "./fleet.ts";
import { freshBucket, freshDatabase, freshRedisDb } from "./index.ts";
import type { FreshBucket, FreshDatabase, FreshRedis } from "./index.ts";

interface Document {
  readonly healthy: boolean;
  readonly findings: readonly (Finding & { readonly part: string })[];
}

let cwd: string;
let database: FreshDatabase;
let bucket: FreshBucket;
let redis: FreshRedis;

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), "docyard-doctor-"));
  [database, bucket, redis] = await Promise.all([freshDatabase(), freshBucket(), freshRedisDb()]);
});
afterAll(async () => {
  await Promise.all([database.remove(), bucket.remove(), redis.remove()]);
  await rm(cwd, { recursive: true });
});

const SECRET = "hunter2";

function runDoctor(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  return run(["doctor", ...args], { ...REPLICA, cwd, env: { ...credentials(), ...env } });
}

async function doctor(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Document & { readonly code: number | null }> {
  const { code, stdout, stderr } = await runDoctor([...args, "--json"], env);
  expect(stderr).toBe("");
  expect(stdout).not.toContain(SECRET);
  return { code, ...(JSON.parse(stdout) as Document) };
}

function credentials(): Record<string, string> {
  return { AWS_ACCESS_KEY_ID: bucket.accessKeyId, AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey };
}

function s3(name = bucket.bucket, endpoint = bucket.endpoint, more = ""): string {
  return `s3://${name}/${bucket.prefix}?endpoint=${endpoint}&region=${bucket.region}${more}`;
}

/** The finding of this check, as part and outcome, and what it says. */
function found({ findings }: Document, part: string, check: string): string {
  const finding = findings.find((one) => one.part === part && one.check === check);
  return finding === undefined ? "none" : `${finding.outcome}: ${finding.detail} → ${finding.fix ?? ""}`;
}

test("a whole installation: what is there, what is missing by choice, nothing failing, nothing left behind", async () => {
  await migrate({ url: database.url });
  const fleet = await startFleet({ replicas: 1, args: ["--blob", "blobs"] });
  try {
    const args = ["--db", database.url, "--blob", s3(), "--queue", redis.url, "--public-url", fleet.url];
    const document = await doctor(args);
    const failing = document.findings.filter(({ outcome }) => outcome === "failing");
    // The tests' own database does not sync, and is told so.
    expect(failing.map(({ part, check }) => `${part} ${check}`)).toEqual(["store durability"]);
    expect({ code: document.code, healthy: document.healthy }).toEqual({ code: 1, healthy: false });
    expect(document.findings.map(({ part, check }) => `${part} ${check}`)).toEqual([
      ...["connect", "version", "encoding", "writing", "extensions", "schema"].map(
        (check) => `store ${check}`,
      ),
      ...["durability", "connections", "clock"].map((check) => `store ${check}`),
      ...["read and write", "addressing", "clock", "checksums"].map((check) => `blobs ${check}`),
      ...["conditional put", "copy", "multipart", "signed URLs", "CORS"].map((one) => `blobs ${one}`),
      ...["connect", "version", "eviction", "scripting", "clock"].map((check) => `queue ${check}`),
      ...["reach", "version", "secrecy", "clock"].map((check) => `public url ${check}`),
    ]);
    expect(found(document, "store", "schema")).toContain("up to date");
    expect(found(document, "blobs", "copy")).toMatch(/^ok/);
    expect(found(document, "blobs", "signed URLs")).toMatch(/^ok/);
    expect(found(document, "blobs", "CORS")).toMatch(/^warning/);
    expect(await bucket.keys()).toEqual([]);
    expect(await bucket.openUploads()).toEqual([]);
    for (const { outcome, fix } of document.findings) expect(fix === undefined).toBe(outcome === "ok");
  } finally {
    await fleet.close();
  }
});

test("without options: one process on its own disk is healthy before its first start, and stays untouched", async () => {
  const { code, stdout } = await runDoctor([]);
  expect(stdout).toContain("0 failing");
  expect(code).toBe(0);
  expect(await readdir(cwd)).toEqual([]);
});

describe("each fault has its name and its remedy", () => {
  test("what does not answer", async () => {
    const document = await doctor([
      "--db",
      `postgres://docyard:${SECRET}@127.0.0.1:9/x`,
      "--blob",
      s3(bucket.bucket, "http://127.0.0.1:9"),
      "--queue",
      `redis://:${SECRET}@127.0.0.1:9`,
      "--public-url",
      "http://127.0.0.1:1026",
    ]);
    expect(document.code).toBe(1);
    expect(found(document, "store", "connect")).toMatch(/^failing: nothing listens.*→ start it/);
    expect(found(document, "blobs", "read and write")).toMatch(
      /^failing: ECONNREFUSED.*→ nothing answers there/,
    );
    expect(found(document, "queue", "connect")).toMatch(/^failing: ECONNREFUSED.*→ nothing listens/);
    expect(found(document, "public url", "reach")).toMatch(/^failing: .*does not answer.*→ start the server/);
  });

  test("an unknown bucket, a wrong key, a wrong secret, none at all", async () => {
    const check = async (blob: string, env: Record<string, string> = {}): Promise<string> =>
      found(await doctor(["--blob", blob], env), "blobs", "read and write");
    expect(await check(s3("docyard-no-such-bucket"))).toMatch(/→ make the bucket/);
    expect(await check(s3(), { AWS_ACCESS_KEY_ID: "unknown" })).toMatch(/→ the server does not know/);
    expect(await check(s3(), { AWS_SECRET_ACCESS_KEY: SECRET })).toMatch(/→ AWS_SECRET_ACCESS_KEY/);
    const none = { AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "", AWS_EC2_METADATA_DISABLED: "true" };
    expect(await check(s3(), none)).toMatch(/→ set AWS_ACCESS_KEY_ID/);
  });

  test("an address for clients that leads nowhere", async () => {
    const document = await doctor(["--blob", s3(undefined, undefined, "&publicEndpoint=http://127.0.0.1:9")]);
    expect(found(document, "blobs", "read and write")).toMatch(/^ok/);
    expect(found(document, "blobs", "signed URLs")).toMatch(/^failing: .*→ set publicEndpoint=/);
  });

  test("a database of a later version", async () => {
    const later = await freshDatabase();
    const client = new Client({ connectionString: later.url });
    try {
      await migrate({ url: later.url });
      await client.connect();
      await client.query("insert into migration values (9999, 'later', 0)");
      expect(found(await doctor(["--db", later.url]), "store", "schema")).toMatch(
        /^failing: 9999.*→ upgrade/,
      );
    } finally {
      await client.end();
      await later.remove();
    }
  });

  test("files that are none, and folders that are files", async () => {
    const file = join(cwd, "notes.txt");
    await writeFile(file, "These are no rows and columns.");
    const document = await doctor(["--db", `sqlite:${file}`, "--blob", file]);
    expect(found(document, "store", "file")).toMatch(/^failing: .*no SQLite database/);
    expect(found(document, "blobs", "folder")).toMatch(/^failing: .*is a file/);
    const missing = await doctor(["--db", "sqlite:/no/such/folder/docyard.db"]);
    expect(found(missing, "store", "file")).toMatch(/^failing: .*does not exist/);
  });

  test("another program, or a proxy with a limit, at the public URL", async () => {
    let isDocyard = false;
    const server = createServer((request, response) => {
      request.resume();
      if (request.method === "PUT") response.writeHead(413).end();
      else response.end(isDocyard ? '{"status":"ok","version":"0.0.1"}' : "<h1>It works</h1>");
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      expect(found(await doctor(["--public-url", url]), "public url", "reach")).toMatch(
        /^failing: .*something else/,
      );
      isDocyard = true;
      const document = await doctor(["--public-url", url]);
      expect(found(document, "public url", "uploads")).toMatch(/^failing: .*→ let the proxy/);
      expect(found(document, "public url", "version")).toMatch(/^warning: 0.0.1/);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  test("drivers that do not exist", async () => {
    const document = await doctor(["--db", "mysql://x", "--queue", "kafka"]);
    expect(found(document, "store", "option")).toMatch(/^failing/);
    expect(found(document, "queue", "option")).toMatch(/^failing/);
  });
});

test("clocks: what was shown on the way is right, whatever the way took; beyond it, skew", () => {
  const now = 1_000_000_000;
  expect(clockFinding(now, now - 10, now + 10).outcome).toBe("ok");
  expect(clockFinding(now - 999, now, now + 1, 1_000).outcome).toBe("ok");
  expect(clockFinding(now + 8_000, now, now + 3_001).outcome).toBe("ok");
  const ahead = clockFinding(now + 60_000, now, now);
  expect([ahead.outcome, ahead.detail]).toEqual(["warning", "60 s ahead of this machine's"]);
  expect(clockFinding(now - 3_600_000, now, now)).toMatchObject({ outcome: "failing" });
});
