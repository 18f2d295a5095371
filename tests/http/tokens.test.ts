/** Access tokens: what is accepted, and above all what is not. Forgeries are made with jose, as an attacker would. */

import type { RotateOptions, ServerKey } from "@docyard/core";
import { SIGNING_KEYS_AGE_MAX_MS, SIGNING_KEYS_STALE_MAX_MS } from "@docyard/core";
import * as fc from "fast-check";
import type { JWK, JWTPayload } from "jose";
import { createLocalJWKSet, exportJWK, generateKeyPair, importJWK, jwtVerify, SignJWT } from "jose";
import * as oauth from "oauth4webapi";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Harness } from "./harness.ts";
import { openHarness, PUBLIC_URL } from "./harness.ts";
import type { World } from "./target.ts";
import { answer, dockClient, openWorld, requestToken } from "./target.ts";

const PREFIX = "dyt_live_";
const AUDIENCE = `${PUBLIC_URL}/v1/machine`;
const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;

let harness: Harness;
let world: World;

beforeEach(async () => {
  harness = await openHarness();
  onTestFinished(() => harness.close());
  world = await openWorld(harness);
});

/** What a list with this token answers. */
async function statusWith(token: string): Promise<number> {
  return (await dockClient(harness, world.dockId, token).list()).status;
}

async function serverKeys(): Promise<readonly ServerKey[]> {
  return harness.provisioning.serverKeys("token");
}

/** What differs from good claims; undefined leaves one out. */
type ClaimsChange = { readonly [name: string]: unknown };

function claims(change: ClaimsChange = {}): JWTPayload {
  const now = Math.floor(harness.clock.now() / SECOND_MS);
  return {
    iss: PUBLIC_URL,
    aud: AUDIENCE,
    sub: world.client.id,
    scope: "artifacts:read",
    iat: now,
    exp: now + 60,
    jti: "some-id",
    ...change,
  };
}

/** A token signed with the server's own key: whatever is wrong with it is not the signature. */
async function forge(change: ClaimsChange = {}, header: Record<string, unknown> = {}): Promise<string> {
  const [{ id, secret }] = (await serverKeys()) as [ServerKey];
  const key = await importJWK(JSON.parse(secret) as JWK, "EdDSA");
  const jwt = await new SignJWT(claims(change))
    .setProtectedHeader({ alg: "EdDSA", typ: "at+jwt", kid: id, ...header })
    .sign(key);
  return PREFIX + jwt;
}

function base64url(value: object | string): string {
  return Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
}

/** As an operator does, a moment later. */
async function rotate(options: RotateOptions = {}): Promise<void> {
  harness.clock.advance(1);
  await harness.provisioning.rotateServerKeys(options);
}

/** The key that a token names. */
function kidOf(token: string): unknown {
  const [head = ""] = token.slice(PREFIX.length).split(".");
  return (JSON.parse(Buffer.from(head, "base64url").toString()) as { readonly kid?: unknown }).kid;
}

/** The keys that are published. */
async function published(): Promise<unknown[]> {
  const { body } = await answer<{ keys: JWK[] }>(harness.fetch("/.well-known/jwks.json"));
  return body.keys.map(({ kid }) => kid);
}

describe("an issued token", () => {
  test("is a JWT behind the vendor's prefix that anyone can check with the published keys", async () => {
    const token = await requestToken(harness, world.client, "artifacts:read");
    expect(token.startsWith(PREFIX)).toBe(true);
    const { body } = await answer<{ keys: JWK[] }>(harness.fetch("/.well-known/jwks.json"));
    const { payload, protectedHeader } = await jwtVerify(
      token.slice(PREFIX.length),
      createLocalJWKSet(body),
      {
        issuer: PUBLIC_URL,
        audience: AUDIENCE,
        typ: "at+jwt",
        currentDate: new Date(harness.clock.now()),
      },
    );
    expect(protectedHeader).toEqual({ alg: "EdDSA", typ: "at+jwt", kid: "token-1" });
    expect(payload).toMatchObject({ sub: world.client.id, scope: "artifacts:read" });
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(3_600);
    expect(payload.jti).toMatch(/./);
  });

  test("has every claim of RFC 9068: a library for such tokens takes it", async () => {
    const token = await requestToken(harness, world.client, "artifacts:read");
    const { body: server } = await answer<oauth.AuthorizationServer>(
      harness.fetch("/.well-known/oauth-authorization-server"),
    );
    const request = new Request(PUBLIC_URL, {
      headers: { Authorization: `Bearer ${token.slice(PREFIX.length)}` },
    });
    const found = await oauth.validateJwtAccessToken(server, request, AUDIENCE, {
      [oauth.allowInsecureRequests]: true,
      [oauth.clockSkew]: (harness.clock.now() - Date.now()) / SECOND_MS,
      [oauth.customFetch]: (url: string) => harness.fetch(url),
    });
    expect(found).toMatchObject({ sub: world.client.id, client_id: world.client.clientId });
  });

  test("published keys have no private part", async () => {
    await rotate();
    const text = await (await harness.fetch("/.well-known/jwks.json")).text();
    for (const { secret } of await serverKeys()) {
      expect(text).not.toContain((JSON.parse(secret) as { d: string }).d);
    }
    expect(Object.keys((JSON.parse(text) as { keys: [object] }).keys[0]).sort()).toEqual(
      ["alg", "crv", "kid", "kty", "use", "x"].sort(),
    );
  });

  test("is another one each time", async () => {
    const tokens = await Promise.all([1, 2, 3].map(() => requestToken(harness, world.client)));
    expect(new Set(tokens).size).toBe(3);
  });

  test("lives for as long as it says, to the millisecond", async () => {
    const start = harness.clock.now();
    expect(start % SECOND_MS).toBe(0);
    const token = await requestToken(harness, world.client);
    harness.clock.advance(HOUR_MS - 1);
    expect(await statusWith(token)).toBe(200);
    harness.clock.advance(1);
    expect(await statusWith(token)).toBe(401);
    expect(await statusWith(token)).toBe(401);
  });

  test("lives for tokenTtlMs", async () => {
    const short = await openHarness({ app: { tokenTtlMs: 5 * SECOND_MS } });
    onTestFinished(() => short.close());
    const { r } = await openWorld(short);
    short.clock.advance(4_999);
    expect((await r.list()).status).toBe(200);
    short.clock.advance(1);
    expect((await r.list()).status).toBe(401);
  });
});

describe("refused", () => {
  test("the forging itself works: an unchanged forgery passes", async () => {
    expect(await statusWith(await forge())).toBe(200);
  });

  test.each<[string, ClaimsChange]>([
    ["another issuer", { iss: "http://elsewhere.test" }],
    ["another audience", { aud: `${PUBLIC_URL}/v1/other` }],
    ["expired this second", { exp: Date.UTC(2026, 2, 1, 12) / SECOND_MS }],
    ["not valid yet", { nbf: Date.UTC(2026, 2, 1, 13) / SECOND_MS }],
    ["an unknown client", { sub: "mc_unknown" }],
    ["no expiry", { exp: undefined }],
    ["no subject", { sub: undefined }],
    ["no scope", { scope: undefined }],
    ["a scope that is no text", { scope: 7 }],
    ["no id", { jti: undefined }],
    ["no time of issue", { iat: undefined }],
    ["no issuer", { iss: undefined }],
    ["no audience", { aud: undefined }],
  ])("%s", async (_name, change) => {
    expect(await statusWith(await forge(change))).toBe(401);
  });

  test("another type of JWT signed with the same key", async () => {
    expect(await statusWith(await forge({}, { typ: "JWT" }))).toBe(401);
    expect(await statusWith(await forge({}, { typ: undefined }))).toBe(401);
  });

  test("an unknown critical header", async () => {
    expect(await statusWith(await forge({}, { kid: undefined }))).toBe(401);
    const [head, body, signature] = (await forge()).slice(PREFIX.length).split(".") as [
      string,
      string,
      string,
    ];
    const header = JSON.parse(Buffer.from(head, "base64url").toString()) as object;
    const critical = base64url({ ...header, crit: ["b64"], b64: false });
    expect(await statusWith(`${PREFIX}${critical}.${body}.${signature}`)).toBe(401);
  });

  test("alg none, in every spelling, signed and unsigned", async () => {
    const [, , signature] = (await forge()).slice(PREFIX.length).split(".") as [string, string, string];
    for (const alg of ["none", "None", "NONE", "nOnE", ""]) {
      const unsigned = `${base64url({ alg, typ: "at+jwt", kid: "token-1" })}.${base64url(claims())}.`;
      expect(await statusWith(PREFIX + unsigned)).toBe(401);
      expect(await statusWith(PREFIX + unsigned + signature)).toBe(401);
    }
  });

  test("HS256 with the public key as its secret", async () => {
    const { body } = await answer<{ keys: [JWK] }>(harness.fetch("/.well-known/jwks.json"));
    for (const secret of [body.keys[0].x ?? "", JSON.stringify(body.keys[0])]) {
      const jwt = await new SignJWT(claims())
        .setProtectedHeader({ alg: "HS256", typ: "at+jwt", kid: "token-1" })
        .sign(new TextEncoder().encode(secret.padEnd(32)));
      expect(await statusWith(PREFIX + jwt)).toBe(401);
    }
  });

  test("a stranger's key under our kid, and a key that travels in the header", async () => {
    const { privateKey, publicKey } = await generateKeyPair("EdDSA", { extractable: true });
    const jwk = await exportJWK(publicKey);
    for (const header of [
      { kid: "token-1" },
      { kid: "token-1", jwk },
      { kid: "x", jwk, jku: "http://evil.test" },
    ]) {
      const jwt = await new SignJWT(claims())
        .setProtectedHeader({ alg: "EdDSA", typ: "at+jwt", ...header })
        .sign(privateKey);
      expect(await statusWith(PREFIX + jwt)).toBe(401);
    }
  });

  test("the bare JWT without its prefix, another prefix, two prefixes", async () => {
    const token = await forge();
    const jwt = token.slice(PREFIX.length);
    for (const wrong of [jwt, `dyt_test_${jwt}`, PREFIX + token, `${PREFIX} ${jwt}`, token.toUpperCase()]) {
      expect(await statusWith(wrong)).toBe(401);
    }
  });

  test("a token changed in any one character (but for the signature's unused bits)", async () => {
    const token = await forge();
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: token.length - 2 }),
        fc.constantFrom("A", "B", "x", "z", "0", "9", "-", "_", "."),
        async (at, char) => {
          fc.pre(token[at] !== char);
          expect(await statusWith(token.slice(0, at) + char + token.slice(at + 1))).toBe(401);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("header, claims and signature of different tokens put together", async () => {
    const [one, two] = [await forge(), await forge({ scope: "artifacts:read artifacts:write" })];
    const [a, b] = [one.split("."), two.split(".")];
    expect(await statusWith([a[0], b[1], a[2]].join("."))).toBe(401);
    expect(await statusWith([a[0], a[1], b[2]].join("."))).toBe(401);
  });

  test("a token that was accepted before, once its last character differs", async () => {
    const token = await forge();
    expect(await statusWith(token)).toBe(200);
    expect(await statusWith(`${token}A`)).toBe(401);
    expect(await statusWith(token)).toBe(200);
  });

  test("endless ones", async () => {
    expect(await statusWith(PREFIX + "a".repeat(100_000))).toBe(401);
  });
});

describe("what a client may today is asked each time", () => {
  test("a deactivated client is refused at once, with tokens that were good", async () => {
    expect((await world.r.list()).status).toBe(200);
    await harness.operator.disableClient(world.client.id);
    expect((await world.r.list()).status).toBe(401);
  });

  test("a scope taken from the client is gone from its tokens", async () => {
    expect((await world.rw.create({ filename: "a" })).status).toBe(201);
    await harness.store.accounts.update("client", world.client.id, { scopes: ["artifacts:read"] });
    expect((await world.rw.create({ filename: "a" })).status).toBe(403);
    expect((await world.rw.list()).status).toBe(200);
  });

  test("a scope given to the client is not in tokens that were issued without it", async () => {
    expect((await world.r.create({ filename: "a" })).status).toBe(403);
  });

  test("a token with a scope that the client never had does not get it", async () => {
    const { id } = await harness.operator.createClient({ dockId: world.dockId, scopes: ["artifacts:read"] });
    const token = await forge({ sub: id, scope: "artifacts:read artifacts:write" });
    expect((await dockClient(harness, world.dockId, token).create({ filename: "a" })).status).toBe(403);
  });
});

describe("rotation", () => {
  test("old tokens go on, new ones are signed with the new key within half a minute, and both keys are published", async () => {
    const old = await requestToken(harness, world.client);
    await rotate();
    harness.clock.advance(SIGNING_KEYS_AGE_MAX_MS);
    const fresh = await requestToken(harness, world.client);
    expect([kidOf(old), kidOf(fresh)]).toEqual(["token-1", "token-2"]);
    expect(await statusWith(old)).toBe(200);
    expect(await statusWith(fresh)).toBe(200);
    expect(await published()).toEqual(["token-2", "token-1"]);
  });

  test("a replica that has not read the new key accepts what another signed with it", async () => {
    expect(await statusWith(world.r.token)).toBe(200);
    await rotate();
    const replica = await openHarness({ store: harness.store, clock: harness.clock });
    const fresh = await requestToken(replica, world.client);
    expect(kidOf(fresh)).toBe("token-2");
    const answers = await Promise.all([statusWith(fresh), statusWith(fresh), statusWith(world.r.token)]);
    expect(answers).toEqual([200, 200, 200]);
  });

  test("a revoked key ends its tokens within half a minute, remembered ones too, and is not published", async () => {
    const [remembered, unseen] = [await requestToken(harness, world.client), await forge()];
    expect(await statusWith(remembered)).toBe(200);
    await rotate({ revoke: true });
    expect(await statusWith(remembered)).toBe(200);
    harness.clock.advance(SIGNING_KEYS_AGE_MAX_MS);
    expect(await statusWith(remembered)).toBe(401);
    expect(await statusWith(unseen)).toBe(401);
    expect(await statusWith(remembered)).toBe(401);
    expect(await statusWith(await requestToken(harness, world.client))).toBe(200);
    expect(await published()).toEqual(["token-2"]);
  });

  test("a server that was idle signs with a key that is in force", async () => {
    await rotate({ revoke: true });
    harness.clock.advance(HOUR_MS);
    const token = await requestToken(harness, world.client);
    expect(kidOf(token)).toBe("token-2");
    expect(await statusWith(token)).toBe(200);
  });

  test("a remembered token causes one read of the keys in half a minute", async () => {
    const token = await requestToken(harness, world.client);
    await statusWith(token);
    const read = vi.spyOn(harness.provisioning, "serverKeys");
    for (let i = 0; i < 90; i++) {
      harness.clock.advance(SECOND_MS);
      expect(await statusWith(token)).toBe(200);
    }
    expect(read).toHaveBeenCalledTimes(3);
  });

  test("invented kids cause one read of the keys a second, not one each", async () => {
    const read = vi.spyOn(harness.provisioning, "serverKeys");
    for (let i = 0; i < 50; i++)
      expect(await statusWith(await forge({}, { kid: `invented-${i}` }))).toBe(401);
    // `forge` reads them, too.
    expect(read.mock.calls.length - 50).toBe(1);
    harness.clock.advance(SECOND_MS);
    expect(await statusWith(await forge({}, { kid: "invented" }))).toBe(401);
    expect(read.mock.calls.length - 51).toBe(2);
  });

  test("a store that fails while keys are read is 500, not 401, and does not stick", async () => {
    await rotate();
    const token = await forge();
    vi.spyOn(harness.store.accounts, "list").mockRejectedValueOnce(new Error("down"));
    expect(await statusWith(token)).toBe(500);
    harness.clock.advance(SECOND_MS);
    expect(await statusWith(token)).toBe(200);
  });

  test("known keys go on for five minutes while reading them fails", async () => {
    const token = await requestToken(harness, world.client);
    const list = vi.spyOn(harness.store.accounts, "list").mockRejectedValue(new Error("down"));
    harness.clock.advance(SIGNING_KEYS_STALE_MAX_MS - 1);
    expect(await statusWith(token)).toBe(200);
    harness.clock.advance(1);
    expect(await statusWith(token)).toBe(500);
    list.mockRestore();
    expect(await statusWith(token)).toBe(200);
  });
});

test("tokens of one server are worth nothing at another with another public URL", async () => {
  const token = await requestToken(harness, world.client);
  const elsewhere = await openHarness({ store: harness.store, publicUrl: () => "http://other.test" });
  const response = await elsewhere.app.request(`http://other.test${world.r.path}`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  expect(response.status).toBe(401);
});
