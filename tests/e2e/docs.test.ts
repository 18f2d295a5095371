/**
 * The built program shows its API by itself: the document, the page, the page's script, which the build put beside it, and
 * the metadata by which a standard OAuth client finds its way in. What the pages say and allow is in http/openapi.test.ts
 * and http/docs.test.ts, what tokens are in http/oauth.test.ts.
 */

import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { build, type Server, startServer, tempFolder } from "./program.ts";

let folder: Awaited<ReturnType<typeof tempFolder>>;
let server: Server;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  server = await startServer(["--db", "memory", "--blob", "memory"], { cwd: folder.path });
});
afterAll(async () => {
  await server.stop();
  await folder.remove();
});

test("the page brings its script along", async () => {
  const page = await (await fetch(`${server.url}/docs`)).text();
  const [, source] = /<script src="([^"]+)"/.exec(page)!;
  const response = await fetch(new URL(source!, `${server.url}/docs`));
  expect(response.headers.get("content-encoding")).toBe("gzip");
  const script = await response.text();
  expect(script.length).toBeGreaterThan(1_000_000);
  expect(script).toContain("#api-reference[data-configuration]");
});

test("the document is this server's, and asked for at once by many it is made once", async () => {
  const texts = await Promise.all(
    Array.from({ length: 20 }, async () => (await fetch(`${server.url}/openapi.json`)).text()),
  );
  expect(new Set(texts).size).toBe(1);
  const { openapi, info, paths } = JSON.parse(texts[0]!) as {
    readonly openapi: string;
    readonly info: { readonly version: string };
    readonly paths: object;
  };
  const health = (await (await fetch(`${server.url}/v1/healthz`)).json()) as { readonly version: string };
  expect([openapi, info.version]).toEqual(["3.1.0", health.version]);
  expect(Object.keys(paths)).toContain("/docs/reference.js");
});

describe("a standard OAuth client that is told the address alone", () => {
  const options = { [oauth.allowInsecureRequests]: true };

  async function discover(): Promise<oauth.AuthorizationServer> {
    const issuer = new URL(server.url);
    const answer = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...options });
    return oauth.processDiscoveryResponse(issuer, answer);
  }

  async function grant(
    authentication: oauth.ClientAuth,
    scope: string,
  ): Promise<oauth.TokenEndpointResponse> {
    const metadata = await discover();
    const client = { client_id: server.firstRun!.client.clientId };
    const answer = await oauth.clientCredentialsGrantRequest(
      metadata,
      client,
      authentication,
      new URLSearchParams({ scope }),
      options,
    );
    return oauth.processClientCredentialsResponse(metadata, client, answer);
  }

  async function call(token: string, method: string, body?: string): Promise<Response> {
    const url = new URL(`/v1/machine/docks/${server.firstRun!.dock.id}/artifacts`, server.url);
    return oauth.protectedResourceRequest(token, method, url, undefined, body, options);
  }

  test.each([
    ["client_secret_basic", oauth.ClientSecretBasic],
    ["client_secret_post", oauth.ClientSecretPost],
  ])("gets a token by %s and calls the API with it", async (method, authenticate) => {
    expect((await discover()).token_endpoint_auth_methods_supported).toContain(method);
    const token = await grant(
      authenticate(server.firstRun!.client.clientSecret),
      "artifacts:read artifacts:write",
    );
    expect(token).toMatchObject({
      token_type: "bearer",
      scope: "artifacts:read artifacts:write",
      expires_in: expect.any(Number),
    });
    const created = await call(token.access_token, "POST", '{"filename":"a.txt"}');
    expect([created.status, ((await created.json()) as { filename: string }).filename]).toEqual([
      201,
      "a.txt",
    ]);
    expect((await call(token.access_token, "GET")).status).toBe(200);
  });

  test("has the scopes that it asked for and no others", async () => {
    const { access_token: token } = await grant(
      oauth.ClientSecretBasic(server.firstRun!.client.clientSecret),
      "artifacts:read",
    );
    expect((await call(token, "GET")).status).toBe(200);
    await expect(call(token, "POST", '{"filename":"a.txt"}')).rejects.toMatchObject({
      status: 403,
      cause: [{ scheme: "bearer", parameters: { error: "insufficient_scope" } }],
    });
  });

  test("is refused with a wrong secret, and with a token that is none, by a challenge that it understands", async () => {
    await expect(grant(oauth.ClientSecretBasic("wrong"), "artifacts:read")).rejects.toThrow(
      oauth.WWWAuthenticateChallengeError,
    );
    await expect(call("dyt_live_none", "GET")).rejects.toThrow(oauth.WWWAuthenticateChallengeError);
  });
});
