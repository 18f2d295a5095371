/**
 * `--seed` from outside: the executable as a test double for other languages. What each control route does is in
 * tests/http/double-control.test.ts; here are processes, sockets, and the stores that it must never meet.
 */

import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { build, run, type Server, startServer, tempFolder } from "./program.ts";

let folder: Awaited<ReturnType<typeof tempFolder>>;
const servers: Server[] = [];

beforeAll(async () => {
  await build();
  folder = await tempFolder();
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.kill()));
  await folder.remove();
});

const MEMORY = ["--db", "memory", "--blob", "memory"];

async function start(...args: readonly string[]): Promise<Server> {
  const server = await startServer([...MEMORY, ...args], { cwd: folder.path });
  servers.push(server);
  return server;
}

async function ask(url: string, init: RequestInit = {}): Promise<Record<string, unknown>> {
  const response = await fetch(url, init);
  return { status: response.status, ...((await response.json()) as object) };
}

const post = (body: object, token?: string): RequestInit => ({
  method: "POST",
  body: JSON.stringify(body),
  headers: {
    "Content-Type": "application/json",
    ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
  },
});

async function tokenOf({ url, firstRun }: Server): Promise<string> {
  const { clientId, clientSecret } = firstRun!.client;
  const credentials = { grant_type: "client_credentials", client_id: clientId, client_secret: clientSecret };
  return String((await ask(`${url}/v1/oauth/token`, post(credentials)))["access_token"]);
}

test.each([
  ["a database", ["--db", "sqlite:./rows.db", "--blob", "memory", "--seed", "1"], {}],
  ["a folder of blobs", ["--db", "memory", "--blob", "./bytes", "--seed", "1"], {}],
  ["a bucket", ["--db", "memory", "--blob", "s3://bucket", "--seed", "1"], {}],
  ["a shared queue", [...MEMORY, "--queue", "redis://127.0.0.1:1", "--seed", "1"], {}],
  ["what it takes by default, the seed from the environment", [], { DOCYARD_SEED: "1" }],
  ["a worker's store", ["worker", "--db", "sqlite:./rows.db", "--seed", "1"], {}],
])("a seed is refused beside %s, and nothing is made", async (_name, args, env) => {
  const before = await readdir(folder.path);
  const { code, stderr } = await run([...args, "--port", "0"], {
    cwd: folder.path,
    env,
  });
  expect([code, stderr]).toEqual([2, expect.stringMatching(/--seed makes the server a test double/)]);
  expect(await readdir(folder.path)).toEqual(before);
});

test("the same word makes the same credentials, in another process and at another time", async () => {
  const [one, two, other] = [
    await start("--seed", "ci"),
    await start("--seed", "ci"),
    await start("--seed", "x"),
  ];
  const known = ({ firstRun }: Server): unknown[] => [
    firstRun!.client.id,
    firstRun!.client.clientId,
    firstRun!.client.clientSecret,
    firstRun!.key.apiKey,
  ];
  expect(known(two)).toEqual(known(one));
  for (const [index, value] of known(other).entries()) expect(value).not.toBe(known(one)[index]);
  // The keys are the same too: what one has signed, the other takes for its own if it is asked at the same address.
  expect((await ask(`${one.url}/.well-known/jwks.json`))["keys"]).toEqual(
    (await ask(`${two.url}/.well-known/jwks.json`))["keys"],
  );
});

test("a server in memory without a seed has no control routes, and secrets of its own", async () => {
  const server = await start();
  for (const name of ["clock", "advance", "faults", "reset", "seed", "restart", "power-cut"]) {
    expect(await ask(`${server.url}/v1/test/${name}`, post({ ms: 1 }))).toMatchObject({ status: 404 });
  }
  expect(servers[0]?.firstRun?.client.clientSecret).not.toBe(server.firstRun!.client.clientSecret);
});

test("over a socket: a file in and out, a crash that cuts the connection, an hour that passes", async () => {
  const server = await start("--seed", "ci");
  const artifacts = `${server.url}/v1/machine/docks/dock_default/artifacts`;
  const token = await tokenOf(server);
  const bearer = { Authorization: `Bearer ${token}` };
  const bytes = new Uint8Array(3_000_000).map((_, index) => index);

  const { uploadUrl, uploadId } = await ask(artifacts, post({ filename: "a.bin" }, token));
  expect((await fetch(String(uploadUrl), { method: "PUT", body: bytes })).status).toBe(200);

  await ask(`${server.url}/v1/test/faults`, post({ call: "artifacts.update", kind: "crash", when: "after" }));
  await expect(
    fetch(`${artifacts}/upload/complete`, post({ uploadId: String(uploadId) }, token)),
  ).rejects.toThrow(TypeError);
  // It was done, and nobody heard: the client asks again, and the server is there.
  expect(
    await ask(`${artifacts}/upload/complete`, post({ uploadId: String(uploadId) }, token)),
  ).toMatchObject({
    status: 200,
    size: bytes.length,
  });

  const { data } = (await ask(artifacts, { headers: bearer })) as { data?: { downloadUrl: string }[] };
  const url = data![0]!.downloadUrl;
  expect(new Uint8Array(await (await fetch(url)).arrayBuffer())).toEqual(bytes);
  await ask(`${server.url}/v1/test/advance`, post({ time: "1h1s" }));
  expect((await fetch(url)).status).toBe(403);
  expect(await ask(artifacts, { headers: bearer })).toMatchObject({ status: 401 });

  const { code, signal } = await server.stop();
  expect([code, signal]).toEqual([0, null]);
  const secrets = [token, server.firstRun!.client.clientSecret, server.firstRun!.key.apiKey, "signature="];
  for (const secret of secrets) expect(server.log()).not.toContain(secret);
});
