/**
 * Laws for input nobody meant to send: whatever comes in bodies, queries, headers, paths and tokens, the answer is a
 * 4xx in the envelope (or a success where the input happens to be good), never a 5xx and never silence.
 */

import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Harness } from "./harness.ts";
import { openHarness, PUBLIC_URL } from "./harness.ts";
import type { ErrorJson, World } from "./target.ts";
import { openWorld } from "./target.ts";

/** An answer that takes longer is a hang. */
const HANG_MS = 5_000;
const REASONS: Record<number, string> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  413: "Payload Too Large",
  422: "Unprocessable Entity",
  429: "Too Many Requests",
};

let harness: Harness;
let world: World;

beforeAll(async () => {
  // No rate limits: the fuzz must reach what lies behind them.
  const none = { max: 0, windowMs: 1_000 };
  harness = await openHarness({ settings: { limits: { list: none, download: none, token: none } } });
  world = await openWorld(harness);
});
afterAll(() => harness.close());

/** Sends it and checks the law; resolves to the status. */
async function lawful(path: string, init: RequestInit = {}): Promise<number> {
  const response = await Promise.race([
    harness.app.request(PUBLIC_URL + path, init),
    new Promise<never>((_resolve, reject) => {
      setTimeout(() => {
        reject(new Error(`no answer within ${HANG_MS} ms`));
      }, HANG_MS).unref();
    }),
  ]);
  const text = await response.text();
  if (response.status < 400) return response.status;
  expect(response.status).toBeLessThan(500);
  const body = JSON.parse(text) as ErrorJson;
  expect(Object.keys(body)).toEqual(["statusCode", "message", "error"]);
  expect(body.statusCode).toBe(response.status);
  expect(body.error).toBe(REASONS[response.status]);
  const messages = [body.message].flat();
  expect(messages.length).toBeGreaterThan(0);
  for (const message of messages) {
    expect(typeof message).toBe("string");
    expect(message).not.toBe("");
  }
  return response.status;
}

const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` });

/** Any JSON, seasoned with the names and values that mean something here. */
const seasoned = fc.dictionary(
  fc.oneof(
    fc.constantFrom(
      "filename",
      "contentType",
      "size",
      "metadata",
      "hash",
      "uploadId",
      "s3Key",
      "grant_type",
      "client_id",
      "client_secret",
      "scope",
      "__proto__",
      "constructor",
      "toString",
    ),
    fc.string(),
  ),
  fc.oneof(
    { weight: 3, arbitrary: fc.jsonValue({ stringUnit: "binary" }) },
    fc.constantFrom<unknown>(
      "a.pdf",
      "",
      "\0",
      "\ud800",
      "../../etc/passwd",
      -1,
      1e308,
      0.1,
      2 ** 53,
      null,
      "client_credentials",
      "upload_x",
      "a".repeat(64),
    ),
  ),
);

/** Bodies from good JSON to noise. */
const body: fc.Arbitrary<string | Uint8Array<ArrayBuffer>> = fc.oneof(
  seasoned.map((value) => JSON.stringify(value)),
  fc.json({ stringUnit: "binary" }),
  // Good JSON with a piece missing.
  fc.tuple(seasoned, fc.nat(), fc.nat(8)).map(([value, at, length]) => {
    const text = JSON.stringify(value);
    return text.slice(0, at % text.length) + text.slice((at % text.length) + length);
  }),
  fc.string({ unit: "binary" }),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => new Uint8Array(bytes)),
  fc.webQueryParameters(),
  fc.constantFrom(
    "",
    " ",
    "null",
    "0",
    '"',
    "{",
    "[",
    "{}",
    "[]",
    "\ufeff{}",
    "{}{}",
    '{"filename":}',
    "NaN",
  ),
);

/** Header values Fetch lets through. */
const headerValue = fc
  .oneof(
    fc.string({ unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)) }),
    fc.constantFrom(
      "application/json",
      "text/plain",
      "multipart/form-data",
      "",
      "a".repeat(4_000),
      "0",
      "-1",
    ),
  )
  .map((text) => text.trim());

const headers = fc.dictionary(
  fc.constantFrom(
    "content-type",
    "accept",
    "x-request-id",
    "range",
    "if-none-match",
    "if-modified-since",
    "x-forwarded-host",
    "x-forwarded-proto",
    "forwarded",
    "expect",
    "x-http-method-override",
    "cookie",
  ),
  headerValue,
);

const authorization = fc.oneof(
  headerValue,
  fc
    .tuple(fc.constantFrom("Bearer", "Basic", "bearer", "Digest"), headerValue)
    .map((parts) => parts.join(" ")),
  fc.base64String().map((text) => `Basic ${text}`),
  fc
    .array(fc.oneof(fc.base64String(), fc.json().map(base64url)), { minLength: 1, maxLength: 5 })
    .map((parts) => `Bearer dyt_live_${parts.join(".")}`),
  // A JWT of a plausible shape with an odd header.
  fc
    .tuple(
      fc.record(
        {
          alg: fc.constantFrom<unknown>("EdDSA", "none", "HS256", 7, null, "RS256"),
          kid: fc.constantFrom<unknown>("token-1", "", 0, "__proto__", "x".repeat(2_000)),
          typ: fc.constantFrom<unknown>("at+jwt", "JWT", {}, []),
          crit: fc.constantFrom<unknown>([], ["exp"], "b64", ["b64"]),
          b64: fc.boolean(),
          zip: fc.constant("DEF"),
          jwk: fc.constant({ kty: "oct", k: "AA" }),
        },
        { requiredKeys: [] },
      ),
      fc.json(),
    )
    .map(
      ([header, payload]) =>
        `Bearer dyt_live_${base64url(JSON.stringify(header))}.${base64url(payload)}.AAAA`,
    ),
);

function base64url(text: string): string {
  return Buffer.from(text).toString("base64url");
}

/** Path segments: percent-encoded noise, dots, ids that look right. */
const segment = fc.oneof(
  fc.string({ unit: "binary" }).map((text) => encodeURIComponent(text.toWellFormed())),
  fc.constantFrom(
    "%00",
    "%ff",
    "%",
    "%zz",
    "%2F",
    "%5C..",
    "..",
    ".",
    "",
    "art_1",
    "upload",
    "complete",
    "*",
    ":dockId",
    "a".repeat(5_000),
    "%F0%9F%98%80",
    "__proto__",
  ),
);

/** Query values as they stand in a URL, encoded or not. */
const queryValue = fc.oneof(
  fc.string({ unit: "binary" }).map((text) => encodeURIComponent(text.toWellFormed())),
  fc.json().map(encodeURIComponent),
  seasoned.map((value) => encodeURIComponent(JSON.stringify(value))),
  fc.integer().map(String),
  fc.double().map(String),
  fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
  fc.constantFrom(
    '{"a":1}',
    '"a":1',
    "{",
    "%7B",
    "%",
    "%00",
    "%ff",
    "+",
    "",
    "0",
    "-0",
    "0x10",
    "1e3",
    "Infinity",
    "NaN",
    "9".repeat(400),
    "created",
    "created,upload_completed",
    "MTox",
    "[".repeat(3_000),
    '{"a":'.repeat(1_000),
  ),
);
const query = fc
  .array(
    fc.tuple(
      fc.constantFrom(
        "limit",
        "offset",
        "cursor",
        "search",
        "metadata",
        "createdAfter",
        "createdBefore",
        "status",
        "x",
      ),
      queryValue,
    ),
    { maxLength: 6 },
  )
  .map((pairs) => pairs.map((pair) => pair.join("=")).join("&"));

const RUNS = { numRuns: 400 };

describe("never a 5xx, always the envelope", () => {
  test("create", async () => {
    await fc.assert(
      fc.asyncProperty(body, headers, async (sent, extra) => {
        const status = await lawful(world.w.path, {
          method: "POST",
          headers: { ...extra, ...bearer(world.w.token) },
          body: sent,
        });
        expect([200, 201, 400, 409]).toContain(status);
      }),
      RUNS,
    );
  });

  test("complete", async () => {
    await fc.assert(
      fc.asyncProperty(body, headers, async (sent, extra) => {
        const status = await lawful(`${world.w.path}/upload/complete`, {
          method: "POST",
          headers: { ...extra, ...bearer(world.w.token) },
          body: sent,
        });
        expect([400, 404]).toContain(status);
      }),
      RUNS,
    );
  });

  test("token", async () => {
    await fc.assert(
      fc.asyncProperty(body, headers, fc.option(authorization), async (sent, extra, credential) => {
        const status = await lawful("/v1/oauth/token", {
          method: "POST",
          headers: { ...extra, ...(credential === null ? {} : { Authorization: credential }) },
          body: sent,
        });
        expect([400, 401]).toContain(status);
      }),
      RUNS,
    );
  });

  test("list", async () => {
    await fc.assert(
      fc.asyncProperty(query, headers, async (sent, extra) => {
        const init = { headers: { ...extra, ...bearer(world.r.token) } };
        expect([200, 400]).toContain(await lawful(`${world.r.path}?${sent}`, init));
      }),
      { numRuns: 800 },
    );
  });

  test("tokens", async () => {
    await fc.assert(
      fc.asyncProperty(authorization, async (credential) => {
        expect(await lawful(world.r.path, { headers: { Authorization: credential } })).toBe(401);
      }),
      RUNS,
    );
  });

  test("paths and methods", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "FOO"),
        fc.oneof(
          fc.array(segment, { maxLength: 8 }).map((parts) => `/${parts.join("/")}`),
          segment.map((dock) => `/v1/machine/docks/${dock}/artifacts`),
          segment.map((id) => `${world.rw.path}/${id}`),
          segment.map((dock) => `/v1/machine/docks/${dock}/artifacts/upload/complete`),
        ),
        fc.boolean(),
        async (method, path, isOrganizationWide) => {
          const { token } = isOrganizationWide ? world.org : world.rw;
          const status = await lawful(path, { method, headers: bearer(token) });
          expect([200, 201, 204, 400, 403, 404, 405]).toContain(status);
        },
      ),
      { numRuns: 800 },
    );
  });

  test("blob URLs", async () => {
    const { body: created } = await world.w.create({ filename: "a" });
    const real = created.uploadUrl.slice(PUBLIC_URL.length);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("GET", "PUT", "POST", "DELETE"),
        fc.oneof(
          segment.map((part) => `/v1/blobs/${part}`),
          fc.tuple(segment, query).map(([part, search]) => `/v1/blobs/${part}?${search}`),
          fc.tuple(fc.nat(), fc.string({ minLength: 1, maxLength: 1 })).map(([at, char]) => {
            const place = 10 + (at % (real.length - 10));
            return real.slice(0, place) + encodeURIComponent(char) + real.slice(place + 1);
          }),
        ),
        headers,
        async (method, path, extra) => {
          fc.pre(path !== real);
          const status = await lawful(path, {
            method,
            headers: extra,
            ...(method === "PUT" ? { body: "x" } : {}),
          });
          expect(status).toBeGreaterThanOrEqual(400);
        },
      ),
      RUNS,
    );
  });

  test("large and deep bodies, quickly", async () => {
    const post = (sent: string) =>
      lawful(world.w.path, { method: "POST", headers: bearer(world.w.token), body: sent });
    const mib = 1024 * 1024;
    expect(await post("[".repeat(mib))).toBe(400);
    expect(await post(`${"[".repeat(mib / 2)}${"]".repeat(mib / 2)}`)).toBe(400);
    expect(await post('{"a":'.repeat(mib / 5))).toBe(400);
    expect(await post(`{"metadata":${'{"a":'.repeat(mib / 7)}1${"}".repeat(mib / 7)}}`)).toBe(400);
    expect(await post(`{"filename":"${"x".repeat(mib - 20)}"}`)).toBe(400);
    expect(await post(`{"filename":"a","x":[${"0,".repeat(mib / 2 - 30)}0]}`)).toBe(201);
    expect(await post(" ".repeat(mib))).toBe(400);
    expect(await post(" ".repeat(mib + 1))).toBe(413);
    expect(await post(`{"filename":"a","size":${"9".repeat(mib - 100)}}`)).toBe(400);
    expect(await post(`{${Array.from({ length: 50_000 }, (_, i) => `"k${i}":0`).join()}}`)).toBe(400);
    expect(
      await post(
        `{"filename":"a","metadata":{${Array.from({ length: 50_000 }, (_, i) => `"k${i}":0`).join()}}}`,
      ),
    ).toBe(400);
  });
});
