/**
 * The executable as an HTTPS server: the whole job with real clients over TLS, certificates that change under traffic,
 * and how it starts, reads again and stops. Single refusals and odd certificate files are in http/listen.test.ts.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { rename, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, getCACertificates, setDefaultCACertificates } from "node:tls";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Authority, createAuthority, type TestPair } from "../certificates.ts";
import { download, exchange, machineClient, type MachineClient } from "./client.ts";
import { build, run, type Server, startServer, tempFolder } from "./program.ts";

const execFileAsync = promisify(execFile);

const MIB = 1024 * 1024;
const IS_FULL = process.env["DOCYARD_TEST_FULL"] === "1";
const LARGE_BYTES = (IS_FULL ? 1024 : 64) * MIB;
const DAY_MS = 24 * 3_600_000;

let authority: Authority;
let folder: Awaited<ReturnType<typeof tempFolder>>;
let servers: Server[];

beforeAll(async () => {
  await build();
  authority = await createAuthority();
  // This process is the client: it trusts whom the tests trust.
  setDefaultCACertificates([...getCACertificates("default"), authority.cert]);
});

beforeEach(async () => {
  folder = await tempFolder();
  servers = [];
});

afterEach(async () => {
  await Promise.all(servers.map((server) => server.kill()));
  await folder.remove();
});

const file = (name: string): string => join(folder.path, name);
const TLS = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"] as const;

/** As certbot and others do: each file whole, by rename. */
async function install({ cert, key }: Pick<TestPair, "cert" | "key">): Promise<void> {
  for (const [name, text] of [
    ["cert.pem", cert],
    ["key.pem", key],
  ] as const) {
    await writeFile(file(`${name}.new`), text);
    await rename(file(`${name}.new`), file(name));
  }
}

async function serve(...args: readonly string[]): Promise<Server> {
  // By name: certificates are for names, and the default public URL has the host as it was said.
  const server = await startServer(["--host", "localhost", ...TLS, ...args], { cwd: folder.path });
  servers.push(server);
  return server;
}

async function serveNew(
  ...args: readonly string[]
): Promise<{ readonly server: Server; readonly pair: TestPair }> {
  const pair = await authority.issue();
  await install(pair);
  return { server: await serve(...args), pair };
}

const clientOf = (server: Server): MachineClient =>
  machineClient(server.url, server.firstRun!.client, server.firstRun!.dock.id);

/** Bytes that do not repeat within a piece of any size in use here, without keeping them. */
function* noise(total: number): Generator<Buffer> {
  for (let sent = 0, i = 0; sent < total; i++) {
    const piece = Buffer.alloc(Math.min(MIB, total - sent), `${i} docyard `);
    sent += piece.length;
    yield piece;
  }
}

function digestOf(pieces: Iterable<Buffer>): string {
  const hash = createHash("sha256");
  for (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}

/** The serial number of the certificate that new connections get. */
async function servedSerial(server: Server): Promise<string> {
  const socket = connect({ port: server.port, host: "localhost" });
  await once(socket, "secureConnect");
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

/** Resolves when the log has a message for the n-th time. */
async function logged(server: Server, message: string, times = 1): Promise<void> {
  while (server.log().split(`"msg":"${message}`).length <= times) await sleep(10);
}

describe("the job over TLS", () => {
  test("a large file goes in and comes back whole, in ranges too", async () => {
    const { server } = await serveNew();
    expect(server.url).toBe(`https://localhost:${server.port}`);
    const client = clientOf(server);
    const stored = await client.send({ filename: "large.bin" }, () => noise(LARGE_BYTES));
    const digest = digestOf(noise(LARGE_BYTES));
    expect(stored).toMatchObject({ size: LARGE_BYTES, hash: `sha256:${digest}` });

    const { downloadUrl } = (await client.list()).data[0]!;
    expect(downloadUrl).toMatch(/^https:\/\/localhost:/);
    expect(await download(downloadUrl)).toEqual({ status: 200, size: LARGE_BYTES, digest });

    const from = 3 * MIB - 5;
    const part = await exchange(downloadUrl, { headers: { range: `bytes=${from}-${from + 9}` } });
    expect(part.status).toBe(206);
    expect(part.headers["content-range"]).toBe(`bytes ${from}-${from + 9}/${LARGE_BYTES}`);
    const around = Buffer.concat([...noise(4 * MIB)]);
    expect(part.body).toEqual(around.subarray(from, from + 10));

    await server.stop();
    const lines = server
      .log()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    // Body bytes: no head, no records of TLS.
    const sent = lines.find(({ method, route }) => method === "GET" && route === "/v1/blobs/*");
    expect(Number(sent?.["bytesOut"])).toBe(LARGE_BYTES);
    expect(lines.find(({ method }) => method === "PUT")).toMatchObject({ status: 200, remoteAddress: /.*/ });
  }, 600_000);

  test("curl, with the authority's certificate and without", async () => {
    const { server } = await serveNew();
    await writeFile(file("ca.pem"), authority.cert);
    const curl = async (...args: readonly string[]): Promise<string> =>
      (
        await execFileAsync("curl", ["-sS", "--fail-with-body", "--cacert", "ca.pem", ...args], {
          cwd: folder.path,
        })
      ).stdout;
    expect(JSON.parse(await curl(`${server.url}/v1/healthz`))).toMatchObject({ status: "ok" });

    const client = clientOf(server);
    const created = await client.create({ filename: "curled.bin" });
    await writeFile(file("body"), Buffer.concat([...noise(2 * MIB + 1)]));
    await curl("-T", "body", created.uploadUrl!);
    const { hash } = await client.complete(created);
    expect(hash).toBe(`sha256:${digestOf(noise(2 * MIB + 1))}`);
    const { downloadUrl } = (await client.list()).data[0]!;
    expect(await curl("-r", "0-8", downloadUrl)).toBe("0 docyard");

    // 60: the peer's certificate is not trusted.
    await expect(execFileAsync("curl", ["-sS", `${server.url}/v1/healthz`])).rejects.toMatchObject({
      code: 60,
    });
  });

  test("Expect: 100-continue is answered before a body is sent, and refused before it is", async () => {
    const { server } = await serveNew();
    const { uploadUrl } = await clientOf(server).create({ filename: "expected.txt" });
    const ask = (url: string) => {
      const request = httpsRequest(url, {
        method: "PUT",
        agent: false,
        headers: { expect: "100-continue", "content-length": 5 },
      });
      request.flushHeaders();
      const answer = (once(request, "response") as Promise<[IncomingMessage]>).then(([response]) => {
        response.resume();
        return response.statusCode;
      });
      return { request, answer, first: Promise.race([once(request, "continue").then(() => 100), answer]) };
    };
    const wanted = ask(uploadUrl!);
    expect(await wanted.first).toBe(100);
    wanted.request.end("bytes");
    expect(await wanted.answer).toBe(200);
    expect(await ask(uploadUrl!.replace(/signature=..../, "signature=0000")).first).toBe(403);
  });

  test("metrics tell when the certificate expires; HSTS is for a name that is this server's alone", async () => {
    const { server, pair } = await serveNew();
    const metrics = await exchange(`${server.url}/metrics`);
    expect(metrics.body.toString()).toContain(
      `docyard_tls_certificate_expiry_timestamp_seconds ${pair.expiresAt / 1_000}\n`,
    );
    expect(metrics.headers).not.toHaveProperty("strict-transport-security");

    const direct = await serve(
      "--db",
      "memory",
      "--blob",
      "memory",
      "--public-url",
      "https://files.example.com",
    );
    const health = await exchange(`https://localhost:${direct.port}/v1/healthz`);
    expect(health.headers["strict-transport-security"]).toBe("max-age=31536000");
    const refused = await exchange(`https://localhost:${direct.port}/v1/blobs/x`);
    expect(refused.headers["strict-transport-security"]).toBe("max-age=31536000");
  });
});

describe("a certificate that changes", () => {
  test("under traffic, by rename and SIGHUP, no request fails", async () => {
    const { server, pair: first } = await serveNew();
    const client = clientOf(server);
    expect(await servedSerial(server)).toBe(first.serial);

    const created = await client.create({ filename: "slow.bin" });
    const slow = httpsRequest(created.uploadUrl!, {
      method: "PUT",
      agent: false,
      headers: { "content-length": 2_000 },
    });
    const answered = once(slow, "response") as Promise<[IncomingMessage]>;
    slow.write(Buffer.alloc(1_000, "a"));

    const over = new AbortController();
    const keepAlive = new Agent({ keepAlive: true, maxSockets: 2 });
    const ask = (agent: Agent | false): Promise<number> =>
      new Promise((resolve, reject) => {
        const request = httpsRequest(`${server.url}/v1/healthz`, { agent }, (response) => {
          response.resume().once("end", () => resolve(response.statusCode!));
        });
        request.once("error", reject).end();
      });
    const statuses: number[] = [];
    const traffic = [keepAlive, false, false, keepAlive].map(async (agent) => {
      while (!over.signal.aborted) statuses.push(await ask(agent as Agent | false));
    });

    const pairs = await Promise.all([
      authority.issue({ algorithm: "rsa" }),
      authority.issue(),
      authority.issue(),
    ]);
    for (const [i, pair] of pairs.entries()) {
      const before = statuses.length;
      await install(pair);
      server.signal("SIGHUP");
      await logged(server, "certificate reloaded", i + 1);
      expect(await servedSerial(server)).toBe(pair.serial);
      while (statuses.length < before + 8) await sleep(5);
    }
    over.abort();
    await Promise.all(traffic);
    keepAlive.destroy();
    expect(new Set(statuses)).toEqual(new Set([200]));

    slow.end(Buffer.alloc(1_000, "b"));
    const [response] = await answered;
    response.resume();
    expect(response.statusCode).toBe(200);
    expect(await client.complete(created)).toMatchObject({ size: 2_000 });
  });

  test("a pair that does not fit, and one that has expired, leave the old one in place", async () => {
    const { server, pair } = await serveNew();
    const other = await authority.issue();
    await install({ cert: pair.cert, key: other.key });
    server.signal("SIGHUP");
    await logged(server, "certificate not reloaded");
    expect(server.log()).toContain("--tls-key key.pem does not belong to");
    await install(await authority.issue({ to: -1_000 }));
    server.signal("SIGHUP");
    await logged(server, "certificate not reloaded", 2);
    expect(server.log()).toContain("--tls-cert cert.pem has expired on");
    expect(await servedSerial(server)).toBe(pair.serial);
    for (const line of other.key.split("\n").filter((one) => one !== ""))
      expect(server.log()).not.toContain(line);

    await install(other);
    server.signal("SIGHUP");
    await logged(server, "certificate reloaded");
    expect(await servedSerial(server)).toBe(other.serial);
  });

  test("one that is about to expire is warned about", async () => {
    await install(await authority.issue({ to: 3.5 * DAY_MS }));
    const server = await serve("--db", "memory", "--blob", "memory");
    await logged(server, "certificate expires soon");
    expect(server.log()).toMatch(/"level":"warn".*"days":3,"msg":"certificate expires soon"/);
  });
});

describe("starting and stopping", () => {
  test("SIGTERM lets an upload finish, and an idle connection does not hold it up", async () => {
    const { server } = await serveNew("--drain-timeout", "10m");
    const created = await clientOf(server).create({ filename: "slow.bin" });
    const upload = httpsRequest(created.uploadUrl!, {
      method: "PUT",
      agent: false,
      headers: { "content-length": 2_000, expect: "100-continue" },
    });
    upload.flushHeaders();
    // Being read, by then.
    await once(upload, "continue");
    upload.write(Buffer.alloc(1_000));
    const idle = connect({ port: server.port, host: "localhost" });
    await once(idle, "secureConnect");
    idle.on("error", () => {});
    server.signal("SIGTERM");
    await once(idle, "close");
    upload.end(Buffer.alloc(1_000));
    const [response] = (await once(upload, "response")) as [IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(200);
    expect(await server.exit).toEqual({ code: 0, signal: null });
    expect(server.log()).not.toContain("cut off");
  });

  test("what keeps a server from starting is said in one line", async () => {
    const pair = await authority.issue();
    await install(pair);
    await writeFile(file("other.pem"), (await authority.issue()).key);
    const expired = await authority.issue({ to: -1_000 });
    await writeFile(file("expired.pem"), expired.cert);
    await writeFile(file("expired.key"), expired.key);
    const refused = async (code: number, ...args: readonly string[]): Promise<string> => {
      const ran = await run(["--port", "0", ...args], { cwd: folder.path });
      expect({ code: ran.code, stdout: ran.stdout }).toEqual({ code, stdout: "" });
      expect(ran.stderr).toMatch(/^docyard-server: [^\n]+\n$/);
      expect(ran.stderr).not.toContain("PRIVATE KEY");
      return ran.stderr;
    };
    expect(await refused(2, "--tls-cert", "cert.pem")).toContain("--tls-cert needs --tls-key beside it");
    expect(await refused(1, "--tls-cert", "cert.pem", "--tls-key", "other.pem")).toContain(
      "does not belong to",
    );
    expect(await refused(1, "--tls-cert", "expired.pem", "--tls-key", "expired.key")).toContain(
      "has expired on",
    );
  });
});
