/**
 * Nothing secret is ever written down: the main flow and its failures, with every log line and every error body
 * searched for everything that would let a reader in.
 */

import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { Harness, LogLine } from "./harness.ts";
import { openHarness } from "./harness.ts";
import { openNodeHarness } from "./node-harness.ts";
import { dockClient, openWorld, requestToken, someBytes } from "./target.ts";

/** What was secret in a run, and what was written about it. */
interface Evidence {
  readonly secrets: ReadonlySet<string>;
  readonly errorBodies: readonly string[];
  readonly lines: readonly LogLine[];
}

/** Every secret of a signed URL: the whole, its query, and its signature. */
function partsOf(url: string): string[] {
  const { search, searchParams } = new URL(url);
  const signature = searchParams.get("signature") ?? "";
  expect(signature).toMatch(/^[0-9a-f]{64}$/);
  return [url, search, signature];
}

/** The main flow with everything that goes wrong on the way. */
async function run(harness: Harness): Promise<Evidence> {
  const secrets = new Set<string>();
  const errorBodies: string[] = [];
  const send = async (path: string, init: RequestInit = {}): Promise<Response> => {
    const response = await harness.fetch(path, init);
    if (response.status >= 400) errorBodies.push(await response.clone().text());
    return response;
  };

  const world = await openWorld(harness);
  const { client, rw, r, w, org, x, other } = world;
  secrets.add(client.clientSecret);
  for (const { token } of [rw, r, w, org, x, other]) {
    secrets.add(token).add(token.slice("dyt_live_".length));
    // Not the header: it says only how, and every token has the same.
    for (const part of token.split(".").slice(1)) secrets.add(part);
  }
  for (const key of await harness.provisioning.serverKeys("token")) {
    secrets.add((JSON.parse(key.secret) as { d: string }).d);
  }

  // Token endpoint: good and bad, in each form.
  const token = (body: string, headers: Record<string, string> = {}) =>
    send("/v1/oauth/token", { method: "POST", body, headers });
  const basic = Buffer.from(`${client.clientId}:${client.clientSecret}`).toString("base64");
  secrets.add(basic);
  await token(
    `grant_type=client_credentials&client_id=${client.clientId}&client_secret=${client.clientSecret}`,
  );
  await token("grant_type=client_credentials", { Authorization: `Basic ${basic}` });
  await token(`grant_type=password&client_secret=${client.clientSecret}`);
  await token(`{"client_secret":"${client.clientSecret}"`);
  await token(`"${client.clientSecret}`);
  await token(`{"client_secret":${client.clientSecret}}`);
  await token(`{"grant_type":"client_credentials","client_id":"x","client_secret":"${client.clientSecret}"}`);
  await token(`{"client_secret":"${client.clientSecret}","client_secret":"${client.clientSecret}"}`);
  await token(`client_secret=${client.clientSecret}&client_secret=${client.clientSecret}`);
  await send(`/v1/oauth/token?client_secret=${client.clientSecret}`);

  // Create, upload, complete, list, download; then each in a way that fails.
  const bytes = someBytes();
  const { body: created } = await rw.create({
    filename: "a.pdf",
    metadata: { note: "a-private-note-of-a-patient" },
  });
  for (const part of partsOf(created.uploadUrl)) secrets.add(part);
  secrets.add("a-private-note-of-a-patient");
  await send(`${created.uploadUrl}x`, { method: "PUT", body: bytes.slice() });
  await send(created.uploadUrl, { method: "POST" });
  await rw.put(created.uploadUrl, bytes);
  await rw.complete({ uploadId: created.uploadId });
  await send(created.uploadUrl, { method: "PUT", body: bytes.slice() });
  const { downloadUrl } = (await rw.list('?metadata={"note":"a-private-note-of-a-patient"}')).body
    .data[0] ?? {
    downloadUrl: "",
  };
  for (const part of partsOf(downloadUrl)) secrets.add(part);
  await (await send(downloadUrl)).arrayBuffer();
  await (
    await send(downloadUrl, { headers: { Range: "bytes=0-9", Authorization: `Bearer ${rw.token}` } })
  ).arrayBuffer();
  await send(downloadUrl, { method: "HEAD" });
  await send(downloadUrl, { headers: { Range: "bytes=900-" } });
  await send(`${downloadUrl}0`);
  await send(downloadUrl, { method: "PUT", body: "x" });

  // Tokens and secrets in places where they do not belong.
  await send(r.path, { headers: { Authorization: rw.token } });
  await send(`${r.path}?access_token=${rw.token}`);
  await send(`${r.path}?limit=${rw.token}`, { headers: { Authorization: `Bearer ${rw.token}` } });
  await send(r.path, {
    headers: { Authorization: `Bearer ${rw.token}x`, "X-Request-Id": client.clientSecret },
  });
  await send(r.path, { headers: { "X-Request-Id": rw.token.slice(0, 100) } });
  await send(`/${rw.token}`);
  for (const method of ["GET", "DELETE"]) {
    const headers = { Authorization: `Bearer ${rw.token}` };
    await harness.fetch(`${rw.path}/${client.clientSecret}`, { method, headers });
    await harness.fetch(`/v1/machine/docks/${client.clientSecret}/artifacts`, { method, headers });
  }
  await send(`/v1/machine/docks/${client.clientSecret}`, { method: "DELETE" });
  await dockClient(harness, world.otherDockId, rw.token).create({ filename: "a" });
  await r.create({ filename: "a" });
  await rw.create({ filename: "" });

  // Parts that fail, with messages that say too much.
  const leak = new Error(
    `cannot run "${downloadUrl}" as ${client.clientSecret} with Authorization: Bearer ${rw.token}`,
    {
      cause: new Error(`PUT ${created.uploadUrl} Basic ${basic}`),
    },
  );
  vi.spyOn(harness.store.artifacts, "find").mockRejectedValueOnce(leak);
  vi.spyOn(harness.store.artifacts, "insert").mockRejectedValueOnce(leak);
  vi.spyOn(harness.store.accounts, "find").mockRejectedValueOnce(leak);
  vi.spyOn(harness.store.artifacts, "get").mockRejectedValueOnce(leak);
  await send(r.path, { headers: { Authorization: `Bearer ${rw.token}` } });
  await send(r.path, { headers: { Authorization: `Bearer ${rw.token}` } });
  await send(rw.path, {
    method: "POST",
    body: '{"filename":"a"}',
    headers: { Authorization: `Bearer ${rw.token}` },
  });
  await send(downloadUrl);
  await harness.fetch("/v1/readyz");
  vi.restoreAllMocks();
  return { secrets, errorBodies, lines: harness.lines };
}

describe.each([
  ["through the app", openHarness],
  ["on a socket", openNodeHarness],
])("%s", (_name, open) => {
  test("no secret is in any line of the log or any error body", async () => {
    const harness = await open();
    onTestFinished(() => harness.close());
    const { secrets, errorBodies, lines } = await run(harness);
    expect(secrets.size).toBeGreaterThan(20);
    expect(lines.length).toBeGreaterThan(30);
    expect(errorBodies.length).toBeGreaterThan(20);
    expect(lines.filter(({ level }) => level === "error").length).toBeGreaterThanOrEqual(3);
    const log = lines.map((line) => JSON.stringify(line)).join("\n");
    const bodies = errorBodies.join("\n");
    // Lists, so that a leak is named without a page of log around it.
    expect([...secrets].filter((secret) => log.includes(secret))).toEqual([]);
    expect([...secrets].filter((secret) => bodies.includes(secret))).toEqual([]);
    expect(log).not.toMatch(/dyt_live_\w|dys_live_\w|dk_live_\w|Bearer [\w.]/);
    expect(bodies).not.toMatch(/dyt_live_\w|dys_live_\w|dk_live_\w/);
  });

  test("a line says what an operator needs, and only that", async () => {
    const harness = await open();
    onTestFinished(() => harness.close());
    const { w, r, client } = await openWorld(harness);
    const bytes = someBytes(1_234);
    const { id } = await w.upload(bytes);
    const { downloadUrl } = (await r.list()).body.data[0] ?? { downloadUrl: "" };
    await (await harness.fetch(downloadUrl)).arrayBuffer();
    await harness.fetch("/v1/healthz");
    // The line of a response on a socket may be written after its client has it.
    await vi.waitFor(() => expect(harness.lines.at(-1)?.level).toBe("debug"));

    const requests = harness.lines.filter(({ message }) => message === "request").map(({ fields }) => fields);
    const allowed = "requestId method route status ms principalId artifactId bytesIn bytesOut aborted".split(
      " ",
    );
    for (const fields of requests) {
      for (const name of Object.keys(fields)) expect(allowed).toContain(name);
    }
    const [create, put, complete, list, get] = requests.slice(-6);
    const common = { requestId: expect.stringMatching(/^[0-9a-f-]{36}$/), ms: expect.any(Number) };
    const artifacts = "/v1/machine/docks/:dockId/artifacts";
    expect(create).toMatchObject({
      ...common,
      method: "POST",
      route: artifacts,
      status: 201,
      principalId: client.id,
    });
    expect(put).toMatchObject({
      ...common,
      method: "PUT",
      route: "/v1/blobs/*",
      status: 200,
      artifactId: id,
      bytesIn: 1_234,
    });
    expect(complete).toMatchObject({ route: `${artifacts}/upload/complete`, status: 200, artifactId: id });
    expect(list).toMatchObject({ method: "GET", route: artifacts, status: 200, principalId: client.id });
    expect(get).toMatchObject({
      method: "GET",
      route: "/v1/blobs/*",
      status: 200,
      principalId: client.id,
      artifactId: id,
    });
    expect(get?.["bytesOut"]).toBe(1_234);
  });

  test("whoever is over a limit is named, also where the limit comes before anything else", async () => {
    const once = { max: 1, windowMs: 60_000 };
    const harness = await open({ settings: { limits: { token: once, studio: once } } });
    onTestFinished(() => harness.close());
    const dockId = await harness.operator.createDock();
    const client = await harness.operator.createClient({ dockId });
    const { key, apiKey } = await harness.provisioning.createKey({ name: "busy", dockId });
    for (let i = 0; i < 2; i++) {
      await requestToken(harness, client).catch(() => {});
      await harness.fetch("/api/v1/artifacts/x", { headers: { Authorization: `Bearer ${apiKey}` } });
    }
    const refused = harness.lines
      .filter(({ fields }) => fields["status"] === 429)
      .map(({ fields }) => fields);
    expect(refused).toMatchObject([{ principalId: client.id }, { principalId: key.id }]);
  });

  test("token issuance is noted with client and scopes", async () => {
    const harness = await open();
    onTestFinished(() => harness.close());
    const dockId = await harness.operator.createDock();
    const client = await harness.operator.createClient({ dockId });
    await requestToken(harness, client, "artifacts:read");
    expect(harness.lines.find(({ message }) => message === "token issued")?.fields).toEqual({
      requestId: expect.any(String),
      principalId: client.id,
      scopes: ["artifacts:read"],
    });
  });
});
