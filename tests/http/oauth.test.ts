/** The token endpoint (contract 1E, RFC 6749): the three ways to send credentials, and every way to get it wrong. */

import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { Harness } from "./harness.ts";
import { openHarness } from "./harness.ts";
import type { Answer, ClientCredentials, ErrorJson } from "./target.ts";
import { answer } from "./target.ts";

const PATH = "/v1/oauth/token";

interface TokenJson {
  readonly access_token: string;
  readonly token_type: string;
  readonly expires_in: number;
  readonly scope: string;
}

let harness: Harness;
let client: ClientCredentials;

beforeEach(async () => {
  harness = await openHarness();
  onTestFinished(() => harness.close());
  const dockId = await harness.operator.createDock();
  client = await harness.operator.createClient({ dockId, scopes: ["artifacts:read", "artifacts:write"] });
});

function send<T = ErrorJson>(body: string, headers: Record<string, string> = {}): Promise<Answer<T>> {
  return answer<T>(harness.fetch(PATH, { method: "POST", headers, body }));
}

function json(change: object = {}): string {
  return JSON.stringify({
    grant_type: "client_credentials",
    client_id: client.clientId,
    client_secret: client.clientSecret,
    ...change,
  });
}

function form(change: Record<string, string> = {}): string {
  return new URLSearchParams({
    grant_type: "client_credentials",
    client_id: client.clientId,
    client_secret: client.clientSecret,
    ...change,
  }).toString();
}

function basic(id: string, secret: string): Record<string, string> {
  return { Authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}` };
}

const FORM = { "Content-Type": "application/x-www-form-urlencoded" };
const JSON_TYPE = { "Content-Type": "application/json" };

describe("issues a token", () => {
  test("with everything RFC 6749 section 5.1 asks for", async () => {
    const { status, headers, body } = await send<TokenJson>(json(), JSON_TYPE);
    expect(status).toBe(200);
    expect(body).toEqual({
      access_token: expect.stringMatching(/^dyt_live_/),
      token_type: "Bearer",
      expires_in: 3_600,
      scope: "artifacts:read artifacts:write",
    });
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("pragma")).toBe("no-cache");
    expect(headers.get("content-type")).toMatch(/^application\/json/);
  });

  test("for JSON whatever it is called, and for a form whatever it is called", async () => {
    for (const headers of [{}, FORM, JSON_TYPE, { "Content-Type": "text/plain" }]) {
      expect((await send(json(), headers)).status).toBe(200);
      expect((await send(form(), headers)).status).toBe(200);
    }
  });

  test("for HTTP Basic, plain and percent-encoded, with and without the client_id beside it", async () => {
    const encoded = client.clientId.replaceAll(/./g, (char) => `%${char.charCodeAt(0).toString(16)}`);
    const grant = "grant_type=client_credentials";
    expect((await send(grant, basic(client.clientId, client.clientSecret))).status).toBe(200);
    expect((await send(grant, basic(encoded, client.clientSecret))).status).toBe(200);
    expect(
      (await send(`${grant}&client_id=${client.clientId}`, basic(client.clientId, client.clientSecret)))
        .status,
    ).toBe(200);
    expect(
      (await send('{"grant_type":"client_credentials"}', basic(client.clientId, client.clientSecret))).status,
    ).toBe(200);
    const { Authorization: header = "" } = basic(client.clientId, client.clientSecret);
    expect((await send(grant, { Authorization: header.replace("Basic", "bAsIc") })).status).toBe(200);
  });

  test("with the scopes asked for; null and empty mean all", async () => {
    const scope = async (asked: unknown) => (await send<TokenJson>(json({ scope: asked }))).body.scope;
    expect(await scope("artifacts:read")).toBe("artifacts:read");
    expect(await scope("artifacts:write  artifacts:read ")).toBe("artifacts:read artifacts:write");
    expect(await scope("")).toBe("artifacts:read artifacts:write");
    expect(await scope(null)).toBe("artifacts:read artifacts:write");
  });

  test("where a form names what it has no value for, as if it did not (RFC 6749 section 3.2)", async () => {
    const body = "grant_type=client_credentials&client_id=&client_secret=&scope=";
    const issued = await send<TokenJson>(body, { ...FORM, ...basic(client.clientId, client.clientSecret) });
    expect(issued).toMatchObject({ status: 200, body: { scope: "artifacts:read artifacts:write" } });
  });

  test("beside a stray bearer token, which is no client credential", async () => {
    expect((await send(json(), { Authorization: "Bearer dyt_live_old" })).status).toBe(200);
  });
});

const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);

describe("refuses with 400", () => {
  test.each<[string, () => [string, Record<string, string>?], unknown]>([
    ["no body", () => [""], matching(/empty/)],
    [
      "malformed JSON, without repeating it",
      () => ['{"client_secret":"dys_live_x'],
      matching(/not valid JSON/),
    ],
    ["an array", () => ["[]"], matching(/JSON object/)],
    ["no grant_type", () => [json({ grant_type: undefined })], ["grant_type must be a string"]],
    ["another grant_type", () => [json({ grant_type: "password" })], matching(/^Invalid grant_type/)],
    ["no client_id", () => [json({ client_id: undefined })], ["client_id should not be empty"]],
    ["an empty secret", () => [json({ client_secret: "" })], ["client_secret should not be empty"]],
    ["a numeric secret", () => [json({ client_secret: 1 })], ["client_secret must be a string"]],
    [
      "a scope the client lacks",
      () => [json({ scope: "audit:read" })],
      matching(/^Invalid scope: audit:read/),
    ],
    ["an invented scope", () => [json({ scope: "artifacts:*" })], matching(/^Invalid scope/)],
    ["a scope list as JSON array", () => [json({ scope: ["artifacts:read"] })], ["scope must be a string"]],
    [
      "a form field given twice",
      () => [`${form()}&client_id=other`, FORM],
      matching(/client_id must be given once/),
    ],
    [
      "secret in body and header",
      () => [form(), basic(client.clientId, client.clientSecret)],
      matching(/^Several/),
    ],
    [
      "two different client ids",
      () => ["grant_type=client_credentials&client_id=x", basic(client.clientId, client.clientSecret)],
      matching(/^Several/),
    ],
  ])("%s", async (_name, request, message) => {
    const { status, body } = await send(...request());
    expect(status).toBe(400);
    expect(Object.keys(body).sort()).toEqual(["error", "message", "statusCode"]);
    expect(body).toMatchObject({ statusCode: 400, error: "Bad Request" });
    expect(body.message).toEqual(message);
    expect(JSON.stringify(body)).not.toContain("dys_live");
  });
});

describe("refuses with 401 and a challenge", () => {
  test.each<[string, () => [string, Record<string, string>?]]>([
    ["a wrong secret", () => [json({ client_secret: `${client.clientSecret}x` })]],
    ["an unknown client", () => [json({ client_id: "dyc_unknown" })]],
    ["a client id that cannot be one", () => [json({ client_id: "a\0b" })]],
    ["an endless client id", () => [json({ client_id: "x".repeat(10_000) })]],
    ["the id of the record instead", () => [json({ client_id: client.id })]],
    ["Basic with a wrong secret", () => ["grant_type=client_credentials", basic(client.clientId, "x")]],
    ["Basic that is no base64", () => ["grant_type=client_credentials", { Authorization: "Basic §$%" }]],
    ["Basic without a colon", () => ["grant_type=client_credentials", { Authorization: "Basic YWJj" }]],
    ["Basic with a broken escape", () => ["grant_type=client_credentials", basic("a%zz", "b")]],
    ["Basic that is not UTF-8", () => ["grant_type=client_credentials", { Authorization: "Basic /zr/" }]],
    ["Basic with nothing", () => ["grant_type=client_credentials", { Authorization: "Basic" }]],
  ])("%s", async (_name, request) => {
    const { status, body, headers } = await send(...request());
    expect(status).toBe(401);
    expect(body).toMatchObject({ statusCode: 401, error: "Unauthorized" });
    expect(headers.get("www-authenticate")).toMatch(/^Basic realm="docyard"/);
  });
});

test("a deactivated client is 403", async () => {
  await harness.operator.disableClient(client.id);
  expect(await send(json())).toMatchObject({
    status: 403,
    body: { statusCode: 403, message: "Client is deactivated", error: "Forbidden" },
  });
  expect((await send(json({ client_secret: "wrong" }))).status).toBe(401);
});

test("the eleventh token within a minute is 429; wrong secrets do not count", async () => {
  for (let i = 0; i < 20; i++) expect((await send(json({ client_secret: "wrong" }))).status).toBe(401);
  for (let i = 0; i < 10; i++) expect((await send(json())).status).toBe(200);
  const { status, headers, body } = await send(json());
  expect(status).toBe(429);
  expect(headers.get("retry-after")).toBe("60");
  expect(body).toMatchObject({ statusCode: 429, error: "Too Many Requests" });
  harness.clock.advance(60_000);
  expect((await send(json())).status).toBe(200);
});
