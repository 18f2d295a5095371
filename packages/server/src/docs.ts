/**
 * The API's document at `/openapi.json`, and a page to read it at `/docs` that asks nothing of any other host. What the
 * document says is in `openapi/`, which is loaded when it is first asked for: most servers never are.
 */

import type { Hono } from "hono";
import type { AppContext, AppEnv } from "./exchange.ts";
import { commonHeaders, replyText } from "./exchange.ts";
import type { Served } from "./openapi/operation.ts";

export interface DocsOptions {
  readonly served: Omit<Served, "prefix" | "hasReference">;
  readonly publicUrl: () => string;
  /** The page's script, gzipped. */
  readonly asset?: () => Promise<Uint8Array>;
}

const DOCUMENT_PATH = "/openapi.json";
const DOCS_PATH = "/docs";
const SCRIPT_PATH = `${DOCS_PATH}/reference.js`;

/** It changes with the server's version and settings only, and both ask for a restart: 5 min. */
const DOCUMENT_HEADERS = { "Cache-Control": "public, max-age=300" };
/** Its URL names the server's version. */
const SCRIPT_CACHING = "public, max-age=31536000, immutable";

/**
 * The page may load from here and from nowhere else, and send its trial requests here only. Styles are inline because
 * Scalar makes them so; scripts are not. No frames: what is shown in one may be a page that somebody uploaded.
 */
const PAGE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** All that would call out is off: fonts, telemetry, the vendor's proxy, agent and tool servers. */
const PAGE_SETTINGS = {
  url: DOCUMENT_PATH.slice(1),
  withDefaultFonts: false,
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: "never",
  hideClientButton: true,
  persistAuth: false,
  documentDownloadType: "json",
};

export function mountDocs(app: Hono<AppEnv>, { served, publicUrl, asset }: DocsOptions): void {
  const document = once(async () => {
    const { buildDocument } = await import("./openapi/document.ts");
    const prefix = new URL(publicUrl()).pathname.replace(/\/+$/, "");
    return JSON.stringify(buildDocument({ ...served, prefix, hasReference: asset !== undefined }));
  });
  app.get(DOCUMENT_PATH, async (c) =>
    replyText(c, await document(), "application/json; charset=utf-8", { headers: DOCUMENT_HEADERS }),
  );
  if (asset === undefined) {
    app.get(DOCS_PATH, (c) => replyText(c, page(LINK), HTML));
    return;
  }
  const body = page(scriptElement(served.version));
  const script = once(asset);
  app.get(DOCS_PATH, (c) =>
    replyText(c, body, HTML, { headers: { "Content-Security-Policy": PAGE_POLICY } }),
  );
  app.get(SCRIPT_PATH, async (c) => replyScript(c, await script()));
}

/**
 * Sends whoever opens the server's bare address in a browser to the page; null for everyone else, since to programs there
 * is nothing there, and no route.
 */
export function redirectBrowser(c: AppContext, publicUrl: () => string): Response | null {
  if (c.req.path !== "/" || !["GET", "HEAD"].includes(c.req.method)) return null;
  if (!/\btext\/html\b/i.test(c.req.header("accept") ?? "")) return null;
  const headers = { ...commonHeaders(c.get("exchange").id), Location: publicUrl() + DOCS_PATH };
  return new Response(null, { status: 302, headers });
}

const HTML = "text/html; charset=utf-8";

/** Addresses are relative: a proxy may serve all of this below a path of its own. */
const LINK = `<h1>docyard</h1>
<p>The API as an OpenAPI 3.1 document: <a href="${DOCUMENT_PATH.slice(1)}">${DOCUMENT_PATH.slice(1)}</a></p>`;

function scriptElement(version: string): string {
  const settings = JSON.stringify(PAGE_SETTINGS).replaceAll("&", "&amp;").replaceAll('"', "&quot;");
  const source = `${SCRIPT_PATH.slice(1)}?v=${encodeURIComponent(version)}`;
  return `<div id="api-reference" data-configuration="${settings}"></div>
<script src="${source}"></script>`;
}

function page(content: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>docyard API</title>
</head>
<body>
${content}
</body>
</html>
`;
}

/** As it is kept to whoever takes gzip, which every browser does; unpacked to others. */
function replyScript(c: AppContext, gzipped: Uint8Array): Response {
  const isTaken = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/i.test(c.req.header("accept-encoding") ?? "");
  const bytes = new Uint8Array(gzipped);
  const exchange = c.get("exchange");
  exchange.bytesOut = bytes.length;
  const body = isTaken ? bytes : new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(body, {
    headers: {
      "Content-Type": "text/javascript; charset=utf-8",
      ...(isTaken ? { "Content-Encoding": "gzip" } : {}),
      Vary: "Accept-Encoding",
      "Cache-Control": SCRIPT_CACHING,
      ...commonHeaders(exchange.id),
    },
  });
}

/** Made when first asked for, and kept; a failure is not. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = null;
      throw error;
    });
    return made;
  };
}
