/** Who may use the Studio face and how often: every way a key can be wrong, and the two limits, by a clock that is turned. */

import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { HarnessOptions } from "./harness.ts";
import type { StudioHarness } from "./studio-harness.ts";
import { openStudioWorld, UNLIMITED } from "./studio-harness.ts";
import type { StudioClient, StudioErrorJson } from "./studio-target.ts";
import { ARTIFACTS, bearer, CREATE, openStudio } from "./studio-target.ts";
import { answer, dockClient, requestToken } from "./target.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

let target: StudioHarness;
let client: StudioClient;

async function open(options?: HarnessOptions): Promise<void> {
  ({ target, client } = await openStudioWorld(options));
  onTestFinished(() => target.close());
}

const ROUTES = [
  ["POST", CREATE, '{"name":1}'],
  ["GET", `${CREATE}?fileName=a.mp4`, null],
  ["GET", ARTIFACTS, null],
  ["GET", `${ARTIFACTS}/67a8f9b0c1d2e3f405060708`, null],
  ["DELETE", `${ARTIFACTS}/67a8f9b0c1d2e3f405060708`, null],
] as const;

describe.each(ROUTES)("%s %s", (method, path, body) => {
  beforeEach(() => open({ settings: UNLIMITED }));

  const ask = (headers: Record<string, string>) =>
    answer<StudioErrorJson>(target.fetch(path, { method, headers, body }));

  test.each<[string, (key: string) => string]>([
    ["no scheme", (key) => key],
    ["no key", () => "Bearer"],
    ["an empty key", () => "Bearer "],
    ["Basic", (key) => `Basic ${btoa(`${key}:`)}`],
    ["a key that is none", () => "Bearer garbage"],
    ["a key that does not exist", () => `Bearer dk_live_${"x".repeat(43)}`],
    ["a shortened key", (key) => `Bearer ${key.slice(0, -1)}`],
    ["a lengthened key", (key) => `Bearer ${key}0`],
    ["a key in capitals", (key) => `Bearer ${key.toUpperCase()}`],
    ["a key twice", (key) => `Bearer ${key} ${key}`],
    ["two headers in one", (key) => `Bearer ${key}, Bearer ${key}`],
    ["a long key", () => `Bearer ${"k".repeat(8_000)}`],
    ["odd characters", () => "Bearer dk_live_é'\";--"],
  ])("%s is 401", async (_name, header) => {
    const { apiKey } = client.key;
    const refused = await ask({ Authorization: header(apiKey) });
    expect(refused.status).toBe(401);
    const message = "Missing or invalid API key";
    expect(refused.body).toEqual({ error: message, message, status: 401 });
    expect(refused.headers.get("www-authenticate")).toBe('Bearer realm="docyard", error="invalid_token"');
  });

  test("no header is 401, and told what to send", async () => {
    const { status, body, headers } = await ask({});
    expect(status).toBe(401);
    expect(body.message).toMatch(/^Missing API key: send Authorization: Bearer dk_live_/);
    expect(headers.get("www-authenticate")).toBe('Bearer realm="docyard"');
  });

  test.each(["Bearer", "bearer", "BEARER  "])("the key is taken after %j", async (scheme) => {
    const { status } = await ask({ Authorization: `${scheme} ${client.key.apiKey}` });
    expect(status).not.toBe(401);
  });

  test("a deactivated key is 401 at once", async () => {
    await target.store.accounts.update("key", client.key.id, { isActive: false });
    expect((await ask(bearer(client.key.apiKey))).status).toBe(401);
  });

  test("a machine client's token is no API key", async () => {
    const dockId = await target.operator.createDock();
    const token = await requestToken(target, await target.operator.createClient({ dockId }));
    expect((await ask(bearer(token))).status).toBe(401);
  });
});

test("an API key is no machine token", async () => {
  await open();
  const { dock } = await target.docyard.openStudio(client.key.apiKey);
  expect(await dockClient(target, dock.id, client.key.apiKey).list()).toMatchObject({
    status: 401,
    body: { statusCode: 401, error: "Unauthorized" },
  });
});

describe("limits", () => {
  const look = async (from: StudioClient = client) => from.list("?limit=1");

  test("the 61st request within a minute is 429 and says when to come back; other keys go on", async () => {
    await open();
    const other = await openStudio(target);
    for (let i = 0; i < 59; i++) expect((await look()).status).toBe(200);
    target.clock.advance(MINUTE_MS / 2 + 1);
    expect((await look()).status).toBe(200);
    const refused = await answer<StudioErrorJson>(client.send(ARTIFACTS));
    const message = "Rate limit exceeded: 60 requests per minute";
    expect(refused).toMatchObject({ status: 429, body: { error: message, message, status: 429 } });
    // Whole seconds, never too early.
    expect(refused.headers.get("retry-after")).toBe("30");
    expect((await look(other)).status).toBe(200);
    target.clock.advance(30_000);
    expect((await look()).status).toBe(200);
  });

  test("every route takes from the same limit, also when it refuses the request", async () => {
    await open();
    const requests = [
      () => client.create({ name: "n", type: "video", url: "https://e.com/a.mp4" }),
      () => client.create({}),
      () => client.presign("a.mp4"),
      () => client.presign(""),
      () => client.get("unknown"),
      () => client.list("?page=0"),
    ];
    for (let i = 0; i < 60; i++) expect((await requests[i % requests.length]!()).status).not.toBe(429);
    for (const request of requests) expect((await request()).status).toBe(429);
    expect(target.rings).toHaveLength(10);
  });

  test("who has no key uses up nobody's limit", async () => {
    await open();
    for (let i = 0; i < 100; i++) await target.fetch(ARTIFACTS, { headers: bearer("dk_live_wrong") });
    expect((await look()).status).toBe(200);
  });

  test("the 1001st request within a day is 429", async () => {
    await open();
    const start = target.clock.now();
    for (let i = 0; i < 1_000; i++) {
      if (i > 0 && i % 60 === 0) target.clock.advance(MINUTE_MS);
      expect((await look()).status).toBe(200);
    }
    const refused = await answer<StudioErrorJson>(client.send(ARTIFACTS));
    expect(refused).toMatchObject({
      status: 429,
      body: { message: "Rate limit exceeded: 1000 requests per day" },
    });
    const left = start + DAY_MS - target.clock.now();
    expect(refused.headers.get("retry-after")).toBe(String(left / 1_000));
    target.clock.advance(left - 1);
    expect((await look()).status).toBe(429);
    target.clock.advance(1);
    expect((await look()).status).toBe(200);
  });

  test("a limit of 0 is none", async () => {
    await open({ settings: UNLIMITED });
    for (let i = 0; i < 200; i++) expect((await look()).status).toBe(200);
  });
});
