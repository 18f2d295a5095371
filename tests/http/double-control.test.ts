/**
 * The control routes of `--seed`: each does what it says, bad requests are told why, and no other server has them. That
 * the executable refuses to have them on a store that lasts is in the end-to-end tests.
 */

import type { DoubleServer } from "../../packages/cli/src/control.ts";
import { CONTROL_ROUTES, openDouble } from "../../packages/cli/src/control.ts";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fakeIngest } from "../core/studio-parts.ts";
import { openHarness } from "./harness.ts";

const URL_BASE = "http://127.0.0.1:8080";
const ARTIFACTS = "/v1/machine/docks/dock_default/artifacts";

let server: DoubleServer;
/** Connections that were cut. */
let cut: number;

beforeEach(async () => {
  cut = 0;
  server = await open("7");
});
afterEach(() => server.close());

function open(seed: string): Promise<DoubleServer> {
  const ingest = fakeIngest(new Map([["https://cdn.example.com/a.mp4", "video:3000:x"]]));
  return openDouble({ seed, url: URL_BASE, settings: {}, ingest, app: {}, log: { info() {}, warn() {} } });
}

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

async function ask(method: string, path: string, body?: unknown, token?: string): Promise<Answer> {
  const request = new Request(URL_BASE + path, {
    method,
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
  });
  const response = await server.fetch(request, { incoming: undefined, outgoing: { destroy: () => cut++ } });
  const text = await response.text();
  return { status: response.status, body: (text === "" ? {} : JSON.parse(text)) as Record<string, unknown> };
}

async function token(): Promise<string> {
  const { clientId, clientSecret } = server.first.client;
  const { body } = await ask("POST", "/v1/oauth/token", {
    grant_type: "client_credentials",
    client_id: clientId,
    client_secret: clientSecret,
  });
  return String(body["access_token"]);
}

/** The control routes and every other one that a test double has and a server has not. */
const EXPECTED = [
  ["GET", "/v1/test/clock"],
  ["POST", "/v1/test/advance"],
  ["GET", "/v1/test/faults"],
  ["POST", "/v1/test/faults"],
  ["DELETE", "/v1/test/faults"],
  ["POST", "/v1/test/power-cut"],
  ["POST", "/v1/test/restart"],
  ["POST", "/v1/test/reset"],
  ["POST", "/v1/test/seed"],
] as const;

test("the control routes are these, and no other server has any of them", async () => {
  expect(CONTROL_ROUTES.map(String).sort()).toEqual(EXPECTED.map(String).sort());
  const harness = await openHarness();
  for (const [method, path] of EXPECTED) {
    expect((await harness.fetch(path, { method })).status, `${method} ${path} of a server`).toBe(404);
    const { status } = await ask(method, path, method === "GET" ? undefined : { ms: 0, artifacts: 0 });
    expect([200, 400], `${method} ${path} of a double`).toContain(status);
  }
  await harness.close();
});

test("other methods and other paths below are refused as everywhere", async () => {
  expect(await ask("PUT", "/v1/test/advance")).toMatchObject({ status: 405 });
  for (const path of ["/v1/test/", "/v1/test/nothing", "/v1/test/constructor", "/v1/test/clock/"])
    expect(await ask("POST", path)).toMatchObject({ status: 404 });
});

test("a seed decides the credentials, another seed decides others", async () => {
  const { first } = server;
  const [same, other] = [await open("7"), await open("8")];
  for (const pick of [
    (one: typeof first) => one.client.clientId,
    (one: typeof first) => one.client.clientSecret,
    (one: typeof first) => one.key.apiKey,
    (one: typeof first) => one.client.id,
  ]) {
    expect(pick(same.first)).toBe(pick(first));
    expect(pick(other.first)).not.toBe(pick(first));
  }
  await Promise.all([same.close(), other.close()]);
});

test("advance turns a clock that runs by itself", async () => {
  const now = async (): Promise<number> =>
    Date.parse(String((await ask("GET", "/v1/test/clock")).body["now"]));
  const before = await now();
  expect(Math.abs(before - Date.now())).toBeLessThan(60_000);
  const expired = await token();
  expect((await ask("GET", ARTIFACTS, undefined, expired)).status).toBe(200);
  const { status, body } = await ask("POST", "/v1/test/advance", { time: "1h30m" });
  expect(status).toBe(200);
  expect(Date.parse(String(body["now"])) - before).toBeGreaterThanOrEqual(5_400_000);
  expect((await ask("GET", ARTIFACTS, undefined, expired)).status).toBe(401);
  await ask("POST", "/v1/test/advance", { ms: 1_000 });
  expect(await now()).toBeGreaterThanOrEqual(before + 5_401_000);
});

test("seed adds artifacts: so many, or these", async () => {
  expect((await ask("POST", "/v1/test/seed", { artifacts: 3 })).body["artifacts"]).toHaveLength(3);
  const { body } = await ask("POST", "/v1/test/seed", {
    artifacts: [
      { filename: "a.txt", text: "hello", metadata: { ward: 7 } },
      { filename: "b.bin", contentType: "application/x-b", base64: "AAEC" },
    ],
  });
  expect(body["artifacts"]).toMatchObject([
    {
      filename: "a.txt",
      size: 5,
      hash: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    },
    { filename: "b.bin", size: 3 },
  ]);
  expect((await ask("GET", `${ARTIFACTS}?metadata={"ward":7}`, undefined, await token())).body).toMatchObject(
    {
      meta: { total: 1 },
    },
  );
});

describe("faults", () => {
  test("fail a call, are listed and are cleared", async () => {
    const bearer = await token();
    const create = (): Promise<Answer> => ask("POST", ARTIFACTS, { filename: "a.txt" }, bearer);
    const fault = { call: "artifacts.insert", kind: "fail", nth: 2, times: 5 };
    expect(await ask("POST", "/v1/test/faults", fault)).toEqual({
      status: 200,
      body: { call: "artifacts.insert", kind: "fail", seen: 0, fired: 0 },
    });
    expect([(await create()).status, (await create()).status]).toEqual([201, 500]);
    expect((await ask("GET", "/v1/test/faults")).body).toEqual({
      faults: [{ call: "artifacts.insert", kind: "fail", seen: 2, fired: 1 }],
    });
    expect((await ask("DELETE", "/v1/test/faults")).body).toEqual({ faults: [] });
    expect((await create()).status).toBe(201);
  });

  test("tear and delay", async () => {
    const bearer = await token();
    const { body } = await ask("POST", ARTIFACTS, { filename: "a.txt", size: 5 }, bearer);
    await ask("POST", "/v1/test/faults", { call: "blobs.serve", kind: "tear", bytes: 2 });
    const path = String(body["uploadUrl"]).slice(URL_BASE.length);
    expect((await ask("PUT", path, "hello")).status).toBe(200);
    await ask("POST", "/v1/test/faults", { call: "artifacts.get", kind: "delay", ms: 60_000 });
    const completing = ask("POST", `${ARTIFACTS}/upload/complete`, { uploadId: body["uploadId"] }, bearer);
    // Over a socket nobody knows how far a request is: the fault itself tells when it has been come by.
    for (;;) {
      const { faults } = (await ask("GET", "/v1/test/faults")).body as { faults: { fired: number }[] };
      if (faults[1]?.fired === 1) break;
    }
    await ask("POST", "/v1/test/advance", { time: "1m" });
    expect((await completing).status).toBe(422);
  });

  test("a crash cuts the connection, and the server is back with all that was durable", async () => {
    const bearer = await token();
    await ask("POST", "/v1/test/seed", { artifacts: 1 });
    await ask("POST", "/v1/test/faults", { call: "artifacts.insert", kind: "crash", when: "after" });
    await ask("POST", ARTIFACTS, { filename: "a.txt" }, bearer);
    expect(cut).toBe(1);
    expect((await ask("GET", `${ARTIFACTS}?status=created`, undefined, bearer)).body).toMatchObject({
      meta: { total: 1 },
    });
  });

  test("a power cut takes what was not completed", async () => {
    const { body } = await ask("POST", ARTIFACTS, { filename: "a.txt" }, await token());
    await ask("PUT", String(body["uploadUrl"]).slice(URL_BASE.length), "hello");
    expect((await ask("POST", "/v1/test/power-cut")).body).toEqual({ dropped: 1 });
    expect(
      (await ask("POST", `${ARTIFACTS}/upload/complete`, { uploadId: body["uploadId"] }, await token()))
        .status,
    ).toBe(409);
  });
});

test("reset begins anew: the same credentials, no artifacts, the real time", async () => {
  await ask("POST", "/v1/test/seed", { artifacts: 3 });
  await ask("POST", "/v1/test/advance", { time: "2h" });
  await ask("POST", "/v1/test/faults", { call: "artifacts.insert", kind: "fail" });
  const { body } = await ask("POST", "/v1/test/reset");
  expect(body).toMatchObject({
    client: { clientId: server.first.client.clientId, clientSecret: server.first.client.clientSecret },
  });
  expect((await ask("GET", ARTIFACTS, undefined, await token())).body).toMatchObject({ meta: { total: 0 } });
  expect((await ask("GET", "/v1/test/faults")).body).toEqual({ faults: [] });
  const now = Date.parse(String((await ask("GET", "/v1/test/clock")).body["now"]));
  expect(Math.abs(now - Date.now())).toBeLessThan(60_000);
});

test("background work goes on by itself", async () => {
  const background = server.run();
  const { apiKey } = server.first.key;
  const source = { name: "n", type: "video", url: "https://cdn.example.com/a.mp4" };
  const { body } = await ask("POST", "/api/v1/artifacts/create", source, apiKey);
  for (;;) {
    const { status } = (await ask("GET", `/api/v1/artifacts/${String(body["id"])}`, undefined, apiKey)).body;
    if (status === "upload_completed") break;
    expect(["created", "upload_started"]).toContain(status);
    await ask("POST", "/v1/test/advance", { time: "1m" });
  }
  await background.stop();
});

test.each([
  ["advance", "{", /not valid JSON/],
  ["advance", "[]", /must be a JSON object/],
  ["advance", {}, /how long/],
  ["advance", { ms: -1 }, /how long/],
  ["advance", { ms: 1.5 }, /how long/],
  ["advance", { ms: 1e15 }, /century/],
  ["advance", { time: "soon" }, /how long/],
  ["faults", {}, /call must be one of/],
  ["faults", { call: "blobs.move", kind: "fail" }, /call must be one of/],
  ["faults", { call: "blobs.copy" }, /kind must be one of/],
  ["faults", { call: "blobs.copy", kind: "fail", nth: 0 }, /nth is a whole number/],
  ["faults", { call: "blobs.copy", kind: "fail", times: "2" }, /must be numbers/],
  ["faults", { call: "blobs.copy", kind: "fail", when: "during" }, /before or after/],
  ["faults", { call: "blobs.copy", kind: "delay" }, /how long/],
  ["faults", { call: "blobs.get", kind: "tear", bytes: 1 }, /can be torn/],
  ["faults", { call: "blobs.put", kind: "tear" }, /how much is kept/],
  ["faults", { call: "blobs.put", kind: "tear", bytes: -1 }, /whole number/],
  ["seed", {}, /artifacts must be a number/],
  ["seed", { artifacts: 1e9 }, /artifacts must be a number/],
  ["seed", { artifacts: [1] }, /artifacts\[0\] must be an object/],
  ["seed", { artifacts: [{ filename: 1 }] }, /filename must be a string/],
  ["seed", { artifacts: [{ metadata: [] }] }, /metadata must be an object/],
  ["seed", { artifacts: [{ filename: "a/b" }] }, /filename/],
])("%s refuses %j", async (name, body, message) => {
  const answer = await ask("POST", `/v1/test/${name}`, body);
  expect(answer).toMatchObject({ status: 400, body: { statusCode: 400, error: "Bad Request" } });
  expect(answer.body["message"]).toMatch(message);
});
