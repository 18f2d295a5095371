/** Who gets in where: every route of the machine face against every kind of caller, in the order of contract 24. */

import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { documentOf, fullApp } from "./contract.ts";
import type { Harness } from "./harness.ts";
import { openHarness } from "./harness.ts";
import type { ErrorJson, World } from "./target.ts";
import { answer, openWorld, READ, requestToken, someBytes, WRITE } from "./target.ts";

let harness: Harness;
let world: World;
/** A token that was good until its client was deactivated; one that has expired. */
let disabled: string;
let expired: string;

beforeAll(async () => {
  harness = await openHarness();
  const dockId = await harness.operator.createDock();
  expired = await requestToken(harness, await harness.operator.createClient({ dockId }));
  harness.clock.advance(3_600_000);
  world = await openWorld(harness);
  const client = await harness.operator.createClient({ dockId: world.dockId });
  disabled = await requestToken(harness, client);
  await harness.operator.disableClient(client.id);
});
afterAll(() => harness.close());

interface Route {
  readonly method: string;
  readonly path: (dockId: string) => string;
  readonly scope: typeof READ | typeof WRITE;
  /** What an authorised caller gets for a body that is no JSON, an id that does not exist, or nothing at all. */
  readonly inside: number;
}

const ROUTES: Record<string, Route> = {
  create: {
    method: "POST",
    path: (dock) => `/v1/machine/docks/${dock}/artifacts`,
    scope: WRITE,
    inside: 400,
  },
  complete: {
    method: "POST",
    path: (dock) => `/v1/machine/docks/${dock}/artifacts/upload/complete`,
    scope: WRITE,
    inside: 400,
  },
  list: {
    method: "GET",
    path: (dock) => `/v1/machine/docks/${dock}/artifacts?limit=x`,
    scope: READ,
    inside: 400,
  },
  get: {
    method: "GET",
    path: (dock) => `/v1/machine/docks/${dock}/artifacts/art_X`,
    scope: READ,
    inside: 404,
  },
  remove: {
    method: "DELETE",
    path: (dock) => `/v1/machine/docks/${dock}/artifacts/art_X`,
    scope: WRITE,
    inside: 404,
  },
};

/** What RFC 6750 section 3 asks for where a good token does not do. */
const FORBIDDEN = 'Bearer realm="docyard", error="insufficient_scope"';

/** Requests are malformed on purpose: what they are refused for must be who sends them, not what is in them. */
function call({ method, path }: Route, dockId: string, authorization?: string) {
  return answer<ErrorJson>(
    harness.fetch(path(dockId), {
      method,
      headers: authorization === undefined ? {} : { Authorization: authorization },
      ...(method === "POST" ? { body: "{not json" } : {}),
    }),
  );
}

describe.each(Object.entries(ROUTES))("%s", (_name, route) => {
  const refused = (status: number, message: string, error: string) => ({
    status,
    body: { statusCode: status, message, error },
  });
  const isRead = route.scope === READ;

  test("no token", async () => {
    const { status, headers, body } = await call(route, world.dockId);
    expect(status).toBe(401);
    expect(body).toMatchObject({ statusCode: 401, error: "Unauthorized" });
    expect(headers.get("www-authenticate")).toBe('Bearer realm="docyard"');
  });

  test.each([
    "Bearer garbage",
    "Bearer dyt_live_garbage",
    "Bearer dyt_live_a.b.c",
    "Bearer",
    "Bearer ",
    "garbage",
    "Basic YTpi",
    "Bearer a, Bearer b",
    "Bearer\tdyt_live_x",
  ])("garbage: %s", async (authorization) => {
    const { status, headers } = await call(route, world.dockId, authorization);
    expect(status).toBe(401);
    expect(headers.get("www-authenticate")).toContain('error="invalid_token"');
  });

  test("an expired token", async () => {
    expect(await call(route, world.dockId, `Bearer ${expired}`)).toMatchObject(
      refused(401, "Invalid or expired token", "Unauthorized"),
    );
  });

  test("a deactivated client", async () => {
    expect(await call(route, world.dockId, `Bearer ${disabled}`)).toMatchObject(
      refused(401, "Invalid or expired token", "Unauthorized"),
    );
  });

  test("the wrong scope, even for a dock that is not there", async () => {
    const { token } = isRead ? world.w : world.r;
    for (const dockId of [world.dockId, world.otherDockId, "dock_unknown", "a%00b"]) {
      const answered = await call(route, dockId, `Bearer ${token}`);
      expect(answered).toMatchObject(
        refused(403, `Insufficient scope. Required: ${route.scope}`, "Forbidden"),
      );
      expect(answered.headers.get("www-authenticate")).toBe(FORBIDDEN);
    }
  });

  test("another dock, whether it exists or not", async () => {
    const { token } = isRead ? world.r : world.w;
    for (const dockId of [world.otherDockId, "dock_unknown", "-"]) {
      const answered = await call(route, dockId, `Bearer ${token}`);
      expect(answered).toMatchObject(refused(403, `Access denied to dock ${dockId}`, "Forbidden"));
      expect(answered.headers.get("www-authenticate")).toBe(FORBIDDEN);
    }
  });

  test("an unknown dock, for an organisation-wide client", async () => {
    for (const dockId of ["dock_unknown", "-", "x".repeat(500), "a%00b", "a%2Fb", "%ff", "a b"]) {
      const { status, body } = await call(route, dockId, `Bearer ${world.org.token}`);
      expect([dockId, status]).toEqual([dockId, 404]);
      expect(body).toMatchObject({ statusCode: 404, error: "Not Found" });
    }
  });

  test("a dock of another organisation, as one that is not there", async () => {
    const other = await harness.provisioning.createOrganization("Other organisation");
    const dockId = `dock_${crypto.randomUUID().slice(0, 8)}`;
    await harness.provisioning.createDock(dockId, { organizationId: other.id });
    expect(await call(route, dockId, `Bearer ${world.org.token}`)).toMatchObject(
      refused(404, `Dock ${dockId} not found`, "Not Found"),
    );
  });

  test("those who may get in, in any spelling of the scheme", async () => {
    for (const { token } of [isRead ? world.r : world.w, world.rw, world.org]) {
      for (const scheme of ["Bearer", "bearer", "BEARER"]) {
        expect((await call(route, world.dockId, `${scheme} ${token}`)).status).toBe(route.inside);
      }
    }
  });
});

/** Open to everyone, beside the token endpoint, which takes credentials of its own, and signed URLs. */
const PUBLIC: readonly string[] = [
  "/.well-known/jwks.json",
  "/.well-known/oauth-authorization-server",
  "/docs",
  "/docs/reference.js",
  "/metrics",
  "/openapi.json",
  "/v1/healthz",
  "/v1/readyz",
];

describe("public routes", () => {
  test.each(PUBLIC)("%s asks for no credential, and a bad one does no harm", async (path) => {
    const open = await openHarness({ app: { docsAsset: async () => new Uint8Array(gzipSync("//")) } });
    for (const authorization of [null, "Bearer garbage", `Bearer ${expired}`, "Basic !"]) {
      const headers = authorization === null ? {} : { Authorization: authorization };
      expect((await open.fetch(path, { headers })).status).toBe(200);
    }
    await open.close();
  });

  test("are these, and every other route asks who is there", async () => {
    const { paths } = await documentOf(fullApp());
    const asking = Object.entries(paths).flatMap(([path, operations]) =>
      Object.values(operations).map(({ security }) => ({ path, isOpen: security.length === 0 })),
    );
    const open = new Set(asking.filter(({ isOpen }) => isOpen).map(({ path }) => path));
    open.delete("/v1/blobs/{key}");
    expect([...open].toSorted()).toEqual(PUBLIC);
  });
});

test("blob URLs ask for no token, and one too many does no harm", async () => {
  await world.w.upload(someBytes());
  const url = (await world.r.list()).body.data[0]?.downloadUrl ?? "";
  expect((await harness.fetch(url)).status).toBe(200);
  expect((await harness.fetch(url, { headers: { Authorization: "Bearer garbage" } })).status).toBe(200);
});

test("nothing of one dock can be had through another, not even by its id", async () => {
  const theirs = await world.other.upload(someBytes());
  const own = { Authorization: `Bearer ${world.rw.token}` };
  const path = `${world.rw.path}/${theirs.id}`;
  expect((await harness.fetch(path, { headers: own })).status).toBe(404);
  expect((await harness.fetch(path, { method: "DELETE", headers: own })).status).toBe(404);
  expect((await world.rw.complete({ uploadId: theirs.uploadId })).status).toBe(404);
  expect((await world.other.list()).body.meta.total).toBe(1);
});
