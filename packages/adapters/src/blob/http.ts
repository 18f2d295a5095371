/**
 * The HTTP of blobs as pure functions: conditional requests, ranges and headers (RFC 9110, 6266, 8187; ruling 7).
 * Reads no bytes and knows no transport: `serve.ts` and `serve-node.ts` act on what is decided here.
 */

import type { ByteRange } from "@docyard/core";

/** A request header by its lower-case name. */
export type HeaderLookup = (name: string) => string | undefined;

export interface Download {
  readonly filename: string;
  readonly contentType: string;
  /** Bytes. */
  readonly size: number;
  readonly digest: string;
}

export interface Answer {
  readonly status: 200 | 206 | 304 | 412 | 416;
  readonly headers: Readonly<Record<string, string>>;
  /** The bytes to send, or null for an answer without a body. */
  readonly range: ByteRange | null;
}

/** Signed URLs need no cookie and no credential, so any page that holds one may use it. */
export const CORS_HEADERS: Readonly<Record<string, string>> = { "Access-Control-Allow-Origin": "*" };

/** The answer to OPTIONS. The wildcard does not cover Authorization, which some clients send to everything. */
export const PREFLIGHT_HEADERS: Readonly<Record<string, string>> = {
  ...CORS_HEADERS,
  Allow: "GET, HEAD, PUT, OPTIONS",
  "Access-Control-Allow-Methods": "GET, HEAD, PUT",
  "Access-Control-Allow-Headers": "*, Authorization, Content-Type, Range, If-Match, If-None-Match, If-Range",
  "Access-Control-Max-Age": "600",
};

const EXPOSED_HEADERS = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag";

/** A strong entity tag: the digest as the API writes it (ruling 7). */
export function etagOf(digest: string): string {
  return `"sha256:${digest}"`;
}

/** Decides what a GET or HEAD of this blob is answered (RFC 9110, 13.2.2 and 14.2). */
export function planDownload(method: "GET" | "HEAD", header: HeaderLookup, blob: Download): Answer {
  const etag = etagOf(blob.digest);
  const common = { ...CORS_HEADERS, "Access-Control-Expose-Headers": EXPOSED_HEADERS, ETag: etag };
  const ifMatch = header("if-match");
  // There is no Last-Modified: a moved or restored file's time says nothing about its content. So conditions on
  // dates are ignored, as RFC 9110 asks of a server without one.
  if (ifMatch !== undefined && !listsTag(ifMatch, etag, "strong")) {
    return { status: 412, headers: { ...common, "Content-Length": "0" }, range: null };
  }
  const headers = { ...common, ...downloadHeaders(blob) };
  const ifNoneMatch = header("if-none-match");
  if (ifNoneMatch !== undefined && listsTag(ifNoneMatch, etag, "weak")) {
    return { status: 304, headers: { ...common, "Cache-Control": CACHE_CONTROL }, range: null };
  }
  const ifRange = header("if-range");
  const asked =
    method === "GET" && (ifRange === undefined || ifRange.trim() === etag) ? header("range") : undefined;
  const range = asked === undefined ? "whole" : parseRange(asked, blob.size);
  if (range === "unsatisfiable") {
    return {
      status: 416,
      headers: { ...common, "Content-Range": `bytes */${blob.size}`, "Content-Length": "0" },
      range: null,
    };
  }
  if (range === "whole") {
    return {
      status: 200,
      headers: { ...headers, "Content-Length": `${blob.size}` },
      range: method === "GET" ? { start: 0, end: blob.size } : null,
    };
  }
  return {
    status: 206,
    headers: {
      ...headers,
      "Content-Length": `${range.end - range.start}`,
      "Content-Range": `bytes ${range.start}-${range.end - 1}/${blob.size}`,
    },
    range,
  };
}

/**
 * No cache may keep it: the URL is a credential with an expiry, and every use is to be admitted, counted and verified
 * again. Clients that keep their own copy still save the transfer by If-None-Match.
 */
const CACHE_CONTROL = "private, no-store";

function downloadHeaders(blob: Download): Record<string, string> {
  return {
    "Accept-Ranges": "bytes",
    "Cache-Control": CACHE_CONTROL,
    "Content-Disposition": contentDisposition(blob.filename),
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Type": safeContentType(blob.contentType),
    "X-Content-Type-Options": "nosniff",
  };
}

/**
 * A single range within `size`, `unsatisfiable`, or `whole` for everything that RFC 9110 lets a server ignore: another
 * unit, bad syntax, several ranges.
 */
export function parseRange(header: string, size: number): ByteRange | "whole" | "unsatisfiable" {
  const match = /^bytes=[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*$/i.exec(header.trim());
  if (match === null) return "whole";
  const [, first, last, suffix] = match;
  if (suffix !== undefined) {
    const length = Number(suffix);
    if (length === 0) return "unsatisfiable";
    // An empty blob has no last bytes, and Content-Range cannot say so: the whole of it is the honest answer.
    return size === 0 ? "whole" : { start: Math.max(0, size - length), end: size };
  }
  const start = Number(first);
  const end = last === "" ? size : Math.min(size, Number(last) + 1);
  if (last !== "" && Number(last) < start) return "whole";
  return start >= size ? "unsatisfiable" : { start, end };
}

/** Whether a list of entity tags (or `*`) names this strong one. */
function listsTag(header: string, etag: string, comparison: "strong" | "weak"): boolean {
  if (header.trim() === "*") return true;
  for (const [, weak, tag] of header.matchAll(/(W\/)?("[^"]*")/g)) {
    if (tag === etag && (comparison === "weak" || weak === undefined)) return true;
  }
  return false;
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const MEDIA_TYPE = new RegExp(
  `^${TOKEN}/${TOKEN}(?:[ \\t]*;[ \\t]*${TOKEN}=(?:${TOKEN}|"[\\x20\\x21\\x23-\\x5b\\x5d-\\x7e]*"))*$`,
);
/** Bytes; longer ones are no media type that anyone registered. */
const CONTENT_TYPE_MAX = 255;

/** The type if it is one by RFC 9110, else `application/octet-stream`: nothing in it can end or split a header. */
export function safeContentType(contentType: string): string {
  return contentType.length <= CONTENT_TYPE_MAX && MEDIA_TYPE.test(contentType)
    ? contentType
    : "application/octet-stream";
}

/** `attachment` with an ASCII fallback and the exact name beside it (RFC 6266; lesson R-28). */
export function contentDisposition(filename: string): string {
  // Quotes and backslashes would need escapes that clients get wrong; some decode %xx in the fallback.
  const fallback = filename.toWellFormed().replace(/[^\x20-\x7e]|["\\%/]/gu, "_");
  return `attachment; filename="${fallback}"; filename*=UTF-8''${encodeExtended(filename)}`;
}

/** Percent-encoded UTF-8 of everything but `attr-char` (RFC 8187). */
function encodeExtended(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
