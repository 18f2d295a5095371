/**
 * The client package as one file, as a browser or a worker gets it: small, importing nothing, and at work where there is
 * nothing but web standards.
 */

import { join } from "node:path";
import { createContext, runInContext } from "node:vm";
import { gzipSync } from "node:zlib";
import type * as docyard from "@docyard/client";
import { build } from "esbuild";
import { expect, onTestFinished, test } from "vitest";
import { FREE } from "./client-kit.ts";
import { openHarness, PUBLIC_URL } from "./harness.ts";
import { sha256, someBytes } from "./target.ts";

/** Bytes of everything the package has, minified and compressed: what a page pays at most. */
const SIZE_MAX = 10_240;
const ENTRY = join(import.meta.dirname, "../../packages/client/src/index.ts");

async function bundle(contents: string, options: object = {}): Promise<string> {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: import.meta.dirname, loader: "ts" },
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    platform: "browser",
    target: "es2022",
    alias: { "@docyard/client": ENTRY },
    ...options,
  });
  const outside = Object.values(metafile.outputs).flatMap(({ imports }) => imports);
  expect(outside).toEqual([]);
  return outputFiles[0]!.text;
}

test("all of it fits, and a page that only sends bytes takes half", async () => {
  const size = (text: string): number => gzipSync(text, { level: 9 }).length;
  const all = size(await bundle(`export * from "@docyard/client";`, { format: "esm" }));
  expect(all).toBeLessThanOrEqual(SIZE_MAX);
  const sender = size(await bundle(`export { sendBytes } from "@docyard/client";`, { format: "esm" }));
  expect(sender).toBeLessThan(all / 2);
});

/** All that the bundle may know beside the language itself. */
const WEB = {
  AbortController,
  AbortSignal,
  Blob,
  Headers,
  ReadableStream,
  Request,
  Response,
  TextDecoder,
  TextEncoder,
  URL,
  URLSearchParams,
  clearTimeout,
  crypto,
  setTimeout,
};

test.each([
  ["only web standards", WEB],
  ["no WebCrypto either, as in pages over plain HTTP", { ...WEB, crypto: {} }],
])("it works where there are %s", async (_name, globals) => {
  const harness = await openHarness({ settings: FREE });
  onTestFinished(() => harness.close());
  const dockId = await harness.operator.createDock();
  const { clientId, clientSecret } = await harness.operator.createClient({ dockId });
  const code = await bundle(`export * from "@docyard/client";`, { format: "iife", globalName: "docyard" });
  // The runtime's own `fetch`, looked up when it is called.
  const sandbox = createContext({ ...globals, fetch: (request: Request) => harness.app.fetch(request) });
  runInContext(code, sandbox);
  const { createClient } = (sandbox as { docyard: typeof docyard }).docyard;
  const dock = createClient({ baseUrl: PUBLIC_URL, clientId, clientSecret }).dock(dockId);
  const bytes = someBytes(5_000);
  for (const source of [bytes, bytes.slice(1).buffer, new Blob([bytes.slice(2)])]) {
    const stored = await dock.upload(source, { filename: "a.bin" });
    const got = await (await dock.download(stored.id)).bytes();
    expect(`sha256:${sha256(got)}`).toBe(stored.hash);
  }
  expect((await dock.list()).meta.total).toBe(3);
  await expect(dock.get("art_none")).rejects.toMatchObject({ name: "DocyardApiError", status: 404 });
});
