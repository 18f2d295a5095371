/**
 * The page at `/docs`: it may ask nothing of any other host, and works below a proxy's path and without its script.
 * What it looks like in a browser is Scalar's affair; that Scalar still knows the settings given to it is checked here.
 */

import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Harness } from "./harness.ts";
import { openHarness } from "./harness.ts";

const SCRIPT = 'console.log("reference");'.repeat(100);
const packed = new Uint8Array(gzipSync(SCRIPT));

describe("with its script", () => {
  let harness: Harness;
  let reads = 0;
  beforeAll(async () => {
    harness = await openHarness({
      app: {
        version: '1.0 "&<x>',
        docsAsset: async () => {
          reads++;
          if (reads === 1) throw new Error("the disk is away");
          return packed;
        },
      },
    });
  });
  afterAll(() => harness.close());

  async function page(): Promise<{ readonly text: string; readonly headers: Headers }> {
    const response = await harness.fetch("/docs");
    expect(response.status).toBe(200);
    return { text: await response.text(), headers: response.headers };
  }

  /** Each script, link, image, frame or form of the page. */
  function addresses(text: string): string[] {
    return Array.from(text.matchAll(/\b(?:src|href|action|data-url)="([^"]*)"/g), ([, address]) => address!);
  }

  test("names nothing outside, and nothing from the root: a proxy may have put it below a path", async () => {
    const { text } = await page();
    expect(text).not.toMatch(/https?:|\/\/[a-z]/i);
    expect(addresses(text)).toEqual(["data:,", "docs/reference.js?v=1.0%20%22%26%3Cx%3E"]);
    for (const base of ["https://a.example/docs", "https://a.example/yard/docs"]) {
      const script = new URL(addresses(text)[1]!, base).pathname;
      expect(script).toBe(new URL(base).pathname + "/reference.js");
    }
  });

  test("has no script and no handler in the page itself", async () => {
    const { text } = await page();
    expect(text).not.toMatch(/<script(?![^>]*\bsrc=)/);
    expect(text).not.toMatch(/\son\w+=|javascript:/i);
  });

  test("may connect to nobody else, be framed by nobody, and frame nothing", async () => {
    const { headers } = await page();
    const policy = new Map(
      headers
        .get("content-security-policy")!
        .split("; ")
        .map((directive) => {
          const [name, ...sources] = directive.split(" ");
          return [name!, sources] as const;
        }),
    );
    expect(policy.get("default-src")).toEqual(["'none'"]);
    expect(policy.get("script-src")).toEqual(["'self'"]);
    expect(policy.get("connect-src")).toEqual(["'self'"]);
    expect(policy.get("frame-ancestors")).toEqual(["'none'"]);
    for (const name of ["frame-src", "object-src", "worker-src"]) expect(policy.has(name)).toBe(false);
    const outside = [...policy.values()].flat().filter((source) => /[.*]|https?:/.test(source));
    expect(outside).toEqual([]);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("x-frame-options")).toBe("DENY");
    expect(headers.get("referrer-policy")).toBe("no-referrer");
  });

  test("has its settings whole: everything that would call out is off", async () => {
    const { text } = await page();
    const attribute = /data-configuration="([^"]*)"/.exec(text)![1]!;
    const settings = JSON.parse(attribute.replaceAll("&quot;", '"').replaceAll("&amp;", "&")) as object;
    expect(settings).toMatchObject({
      url: "openapi.json",
      withDefaultFonts: false,
      telemetry: false,
      agent: { disabled: true },
      mcp: { disabled: true },
      showDeveloperTools: "never",
    });
    // By another name they would do nothing: an update of Scalar that renames one is to be noticed.
    const script = await readFile(
      new URL(
        "../../packages/cli/node_modules/@scalar/api-reference/dist/browser/standalone.js",
        import.meta.url,
      ),
      "utf8",
    );
    expect(script).toContain("#api-reference[data-configuration]");
    for (const name of Object.keys(settings)) expect(script).toMatch(new RegExp(`\\b${name}\\b`));
  });

  test("its script is packed for those who take it so, and plain for others", async () => {
    const first = await harness.fetch("/docs/reference.js");
    expect(first.status).toBe(500);
    for (const accepted of ["gzip", "br, gzip;q=0.5", "deflate, GZIP"]) {
      const response = await harness.fetch("/docs/reference.js?v=1", {
        headers: { "Accept-Encoding": accepted },
      });
      expect(response.headers.get("content-encoding")).toBe("gzip");
      expect(response.headers.get("content-type")).toBe("text/javascript; charset=utf-8");
      expect(response.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
      expect(response.headers.get("vary")).toBe("Accept-Encoding");
    }
    for (const accepted of [null, "br", "gzip;q=0", "gzip;q=0.0, br", "identity"]) {
      const response = await harness.fetch("/docs/reference.js", {
        headers: accepted === null ? {} : { "Accept-Encoding": accepted },
      });
      expect(response.headers.get("content-encoding")).toBeNull();
      expect(await response.text()).toBe(SCRIPT);
    }
    // A failure is not kept, what was read is.
    expect(reads).toBe(2);
  });
});

test("without its script it is a page that links the document, under the strictest policy", async () => {
  // Not held: the document that others are held against has the script.
  const harness = await openHarness({ isHeld: false });
  const response = await harness.fetch("/docs");
  expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(response.headers.get("content-security-policy")).toBe("default-src 'none'; frame-ancestors 'none'");
  const text = await response.text();
  expect(text).toContain('<a href="openapi.json">');
  expect(text).not.toContain("<script");
  expect((await harness.fetch("/docs/reference.js")).status).toBe(404);
  await harness.close();
});

test("a browser that opens the bare address is sent to the page, and nothing else is", async () => {
  // Not held: to the document there is nothing there.
  const harness = await openHarness({ isHeld: false });
  const open = (path: string, init: RequestInit) => harness.fetch(path, { redirect: "manual", ...init });
  const asBrowsersDo = { Accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" };
  for (const method of ["GET", "HEAD"]) {
    const sent = await open("/", { method, headers: asBrowsersDo });
    expect([sent.status, await sent.text()]).toEqual([302, ""]);
    expect(new URL(sent.headers.get("location")!).pathname).toBe("/docs");
    expect(sent.headers.get("x-request-id")).toBeTruthy();
  }
  expect((await open("/", { headers: { Accept: "*/*" } })).status).toBe(404);
  expect((await open("/", { method: "POST", headers: asBrowsersDo })).status).toBe(404);
  expect((await open("/v2", { headers: asBrowsersDo })).status).toBe(404);
  await harness.close();
});

test("other methods are refused in the envelope", async () => {
  const harness = await openHarness();
  for (const path of ["/docs", "/openapi.json"]) {
    const response = await harness.fetch(path, { method: "POST" });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("GET, HEAD");
    const head = await harness.fetch(path, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  }
  await harness.close();
});

test("the script that the program carries is Scalar's, whole", async () => {
  const { packedReference } = (await import(
    new URL("../../packages/cli/reference.mjs", import.meta.url).href
  )) as { readonly packedReference: () => Promise<{ readonly bytes: Uint8Array }> };
  const { bytes } = await packedReference();
  const script = await new Response(
    new Blob([new Uint8Array(bytes)]).stream().pipeThrough(new DecompressionStream("gzip")),
  ).text();
  expect(script).toContain("scalar");
  expect(script.length).toBeGreaterThan(1_000_000);
});
