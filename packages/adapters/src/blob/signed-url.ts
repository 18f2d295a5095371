/**
 * Signs blob URLs with one key and redeems them: HMAC-SHA256 over method class, key and every parameter, all readable in
 * the query. Which keys there are is left to `urls.ts`; what the URL then does to `serve.ts`.
 */

import { timingSafeEqual } from "node:crypto";
import type { BlobGrant, SignedUrl, SignGetOptions, SignPutOptions } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { checkKey, keyFault } from "./key.ts";
import { createMac } from "./mac.ts";

/** Path prefix of every blob URL, below the public URL. */
export const BLOB_PATH = "/v1/blobs/";
/** Fewest bytes of a signing secret: half of SHA-256's output, the floor that RFC 2104 advises against going below. */
const SECRET_BYTES_MIN = 16;

export interface UrlSignerOptions {
  /** The public URL, path prefix included; a function where the port is known late. */
  readonly baseUrl: string | (() => string);
  /** At least `SECRET_BYTES_MIN` bytes; all replicas share it, or they refuse each other's URLs. */
  readonly secret: Uint8Array;
  /** Milliseconds since 1970 UTC. */
  readonly now: () => number;
}

export interface PutTicket {
  readonly grant: BlobGrant & { readonly method: "PUT" };
  /** Bytes. */
  readonly sizeMax: number;
}

export interface GetTicket {
  readonly grant: BlobGrant & { readonly method: "GET" | "HEAD" };
  readonly filename: string;
  readonly contentType: string;
  readonly size: number;
  readonly digest: string;
}

export interface UrlSigner {
  signPut(key: string, options: SignPutOptions): SignedUrl;
  signGet(key: string, options: SignGetOptions): SignedUrl;
  /**
   * What a request's method and target (path and query, or an absolute URL) prove to be for; null unless it is exactly
   * a URL signed here.
   * @throws DocyardError `permission_denied` when it has expired.
   */
  redeem(method: string, target: string): PutTicket | GetTicket | null;
}

/** The parameters of each class of URL, in canonical order. Each occurs exactly once, and no other does. */
const PARAMETERS = {
  PUT: ["artifact", "expires", "max"],
  GET: ["artifact", "digest", "expires", "for", "name", "size", "type"],
} as const;

type MethodClass = keyof typeof PARAMETERS;
/** A number stands in a query as its digits. */
type Value = string | number;
type Parameters<M extends MethodClass> = Record<(typeof PARAMETERS)[M][number], Value>;

/** As they stand in a query, decoded. */
type Values = Readonly<Record<string, string>>;

const SIGNATURE = /^[0-9a-f]{64}$/;
/** A query of characters that `canonical` writes, and its signature. */
const AS_WRITTEN = /^([\w.~%=&-]*)&signature=([0-9a-f]{64})$/;

export function createUrlSigner({ baseUrl, secret, now }: UrlSignerOptions): UrlSigner {
  if (secret.byteLength < SECRET_BYTES_MIN) {
    throw new TypeError(`the secret of blob URLs needs at least ${SECRET_BYTES_MIN} bytes`);
  }
  const macOf = createMac(secret);
  const fixed = typeof baseUrl === "function" ? null : trimmed(baseUrl);
  const base = (): string => fixed ?? trimmed((baseUrl as () => string)());
  const paths = createPaths();

  /** A key and a query that `canonical` wrote are ASCII. */
  const mac = (method: MethodClass, key: string, query: string): string =>
    macOf(`docyard blob url 1\n${method}\n${key}\n${query}`);

  const sign = <M extends MethodClass>(
    method: M,
    key: string,
    values: Parameters<M>,
    expiresAt: number,
  ): SignedUrl => {
    if (!Number.isSafeInteger(expiresAt)) throw new TypeError("expiresAt must be whole milliseconds");
    const query = canonical(method, values);
    const signature = mac(method, checkKey(key), query);
    return {
      url: `${base()}${BLOB_PATH}${key}?${query}&signature=${signature}`,
      method,
      headers: {},
      expiresAt,
    };
  };

  const isSigned = (method: MethodClass, key: string, query: string, presented: string): boolean => {
    const expected = mac(method, key, query);
    return SIGNATURE.test(presented) && timingSafeEqual(Buffer.from(presented), Buffer.from(expected));
  };

  /** The parameters of a query that was signed here, else null. */
  const proven = (method: MethodClass, key: string, query: string): Values | null => {
    // Nearly every query comes as it was written, and need not be parsed before it is known to be ours.
    const written = AS_WRITTEN.exec(query);
    if (written !== null && isSigned(method, key, written[1]!, written[2]!)) return readWritten(written[1]!);
    const values = exactParameters(method, query);
    return values !== null && isSigned(method, key, canonical(method, values), values["signature"]!)
      ? values
      : null;
  };

  return {
    signPut: (key, { artifactId, expiresAt, sizeMax }) =>
      sign("PUT", key, { artifact: artifactId, expires: expiresAt, max: sizeMax }, expiresAt),

    signGet: (key, options) =>
      sign(
        "GET",
        key,
        {
          artifact: options.artifactId,
          digest: options.digest,
          expires: options.expiresAt,
          for: options.principalId,
          name: options.filename,
          size: options.size,
          type: options.contentType,
        },
        options.expiresAt,
      ),

    redeem(method, target) {
      const methodClass = method === "PUT" ? "PUT" : method === "GET" || method === "HEAD" ? "GET" : null;
      const { path, query } = split(target);
      const key = keyOf(path, paths(base()));
      const values = methodClass === null || key === null ? null : proven(methodClass, key, query);
      if (methodClass === null || key === null || values === null) return null;
      const { artifact: artifactId, expires } = values as Record<"artifact" | "expires", string>;
      // Only now: a forger learns nothing about expiry. What follows was written by `sign`, so it parses.
      if (!(now() < Number(expires))) throw expired(methodClass);
      return methodClass === "PUT"
        ? { grant: { method: "PUT", key, artifactId, principalId: null }, sizeMax: Number(values["max"]) }
        : {
            grant: { method: method as "GET" | "HEAD", key, artifactId, principalId: values["for"]! },
            filename: values["name"]!,
            contentType: values["type"]!,
            size: Number(values["size"]),
            digest: values["digest"]!,
          };
    },
  };
}

function trimmed(url: string): string {
  return url.replace(/\/+$/, "");
}

/** `a=1&b=2` in the order of the table. Lone surrogates, which no URL can carry, become U+FFFD before signing. */
function canonical(method: MethodClass, values: Readonly<Record<string, Value>>): string {
  let text = "";
  for (const { name, written } of WRITERS[method]) text += written(values[name]!);
  return text;
}

/** How each parameter of the table is written behind the ones before it. */
const WRITERS = { PUT: PARAMETERS.PUT.map(writer), GET: PARAMETERS.GET.map(writer) };

/** Remembers the last value: half of what the URLs of a list's page say is the same for all of them. */
function writer(name: string, at: number) {
  let last: Value | null = null;
  let text = "";
  return {
    name,
    written: (value: Value): string => {
      if (value !== last) {
        text = `${at === 0 ? "" : "&"}${name}=${typeof value === "number" ? value : encodeValue(value)}`;
        last = value;
      }
      return text;
    },
  };
}

/** Also what `encodeURIComponent` leaves, but URL parsers rewrite and mail programs take for the end of a link. */
function encodeValue(value: string): string {
  if (/^[A-Za-z0-9_.~-]*$/.test(value)) return value;
  return encodeURIComponent(value.toWellFormed()).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** The parameters of a query that `canonical` is known to have written. */
function readWritten(query: string): Values {
  const values: Record<string, string> = {};
  for (const pair of query.split("&")) {
    const at = pair.indexOf("=");
    const value = pair.slice(at + 1);
    values[pair.slice(0, at)] = value.includes("%") ? decodeURIComponent(value) : value;
  }
  return values;
}

/**
 * The parameters if each expected one is there exactly once and no other, else null. Their order and how they are
 * percent-encoded are free: proxies rewrite both, and the signature is over the decoded values.
 */
function exactParameters(method: MethodClass, query: string): Values | null {
  const given = new URLSearchParams(query);
  const values = Object.fromEntries(given);
  const names = [...PARAMETERS[method], "signature"];
  return given.size === names.length && names.every((name) => Object.hasOwn(values, name)) ? values : null;
}

function split(target: string): { path: string; query: string } {
  let text = target;
  if (!text.startsWith("/")) {
    const url = URL.parse(text);
    text = url === null ? "" : url.pathname + url.search;
  }
  const at = text.indexOf("?");
  return at < 0 ? { path: text, query: "" } : { path: text.slice(0, at), query: text.slice(at + 1) };
}

/** How paths of blobs begin: with the public URL's own path prefix or without, since a proxy may have taken that off. */
function createPaths(): (base: string) => readonly string[] {
  let last: { readonly base: string; readonly starts: readonly string[] } | null = null;
  return (base) => {
    if (last?.base !== base) {
      const prefix = URL.parse(base)?.pathname.replace(/\/+$/, "") ?? "";
      last = { base, starts: prefix === "" ? [BLOB_PATH] : [prefix + BLOB_PATH, BLOB_PATH] };
    }
    return last.starts;
  };
}

function keyOf(path: string, starts: readonly string[]): string | null {
  for (const start of starts) {
    if (!path.startsWith(start)) continue;
    const key = path.slice(start.length);
    return keyFault(key) === null ? key : null;
  }
  return null;
}

function expired(method: MethodClass): DocyardError {
  return new DocyardError(
    "permission_denied",
    method === "PUT"
      ? "This upload URL has expired: create the artifact again for a fresh one"
      : "This download URL has expired: list again for a fresh one",
  );
}
