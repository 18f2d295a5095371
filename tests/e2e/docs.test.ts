/**
 * The built program shows its API by itself: the document, the page, and the page's script, which the build put beside
 * it. What they say and allow is in http/openapi.test.ts and http/docs.test.ts.
 */

import { afterAll, beforeAll, expect, test } from "vitest";
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
