/**
 * Presigned URLs: what a client may PUT or GET, where, and until when.
 * Endpoint and addressing come from the vendor's client, once; each URL then costs a few HMACs.
 */

import { DocyardError, type SignedUrl, type SignGetOptions, type SignPutOptions } from "@docyard/core";
import { contentDisposition, safeContentType } from "./http.ts";
import type { Bucket } from "../s3-bucket.ts";
import type { S3BlobsOptions } from "./s3.ts";

export interface Presigner {
  signPut(key: string, options: SignPutOptions): Promise<SignedUrl>;
  signGet(key: string, options: SignGetOptions): Promise<SignedUrl>;
}

/** Most bytes of one PUT, by S3's rules. */
const PUT_BYTES_MAX = 5 * 1024 ** 3;
/** Seconds; the longest that a signature of version 4 may last. */
const EXPIRES_MAX_S = 7 * 24 * 60 * 60;
const DIGEST_HEADER = "x-amz-checksum-sha256";
/** The URL is a credential with an expiry: no cache is to keep what it answers (as the other stores say). */
const CACHE_CONTROL = "private, no-store";

interface Target {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly host: string;
  /** Before the key; ends in a slash. */
  readonly path: string;
}

interface Request {
  readonly method: "PUT" | "GET";
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Lower-case names: the client has to send exactly these. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly expiresAt: number;
}

export function createPresigner(bucket: Bucket, options: S3BlobsOptions): Presigner {
  const { signDigest = "query", now = Date.now } = options;
  let prepared: Promise<(request: Request) => Promise<{ url: string; expiresAt: number }>> | undefined;
  const sign = async (request: Request): Promise<{ url: string; expiresAt: number }> => {
    prepared ??= prepare(bucket, now);
    try {
      return await (
        await prepared
      )(request);
    } catch (error) {
      // No credentials yet, perhaps: the next call looks again.
      prepared = undefined;
      throw error;
    }
  };

  return {
    async signPut(key, { expiresAt, size, digest }) {
      if (size !== undefined && size > PUT_BYTES_MAX) {
        throw new DocyardError("too_large", `S3 takes at most ${PUT_BYTES_MAX} bytes in one upload`);
      }
      const checksum = digest === undefined ? undefined : Buffer.from(digest, "hex").toString("base64");
      const bound = checksum === undefined ? {} : { [DIGEST_HEADER]: checksum };
      const headers = signDigest === "header" ? bound : {};
      const query = signDigest === "query" ? bound : {};
      const signed = await sign({
        method: "PUT",
        key,
        query: { "x-id": "PutObject", ...query },
        headers: { ...headers, ...(size === undefined ? {} : { "content-length": `${size}` }) },
        expiresAt,
      });
      // Content-Length is every client's own to send; browsers even forbid to set it.
      return { ...signed, method: "PUT", headers };
    },

    async signGet(key, { expiresAt, filename, contentType }) {
      const query = {
        "response-cache-control": CACHE_CONTROL,
        "response-content-disposition": contentDisposition(filename),
        "response-content-type": safeContentType(contentType),
        "x-id": "GetObject",
      };
      return { ...(await sign({ method: "GET", key, query, expiresAt })), method: "GET", headers: {} };
    },
  };
}

async function prepare(
  bucket: Bucket,
  now: () => number,
): Promise<(request: Request) => Promise<{ url: string; expiresAt: number }>> {
  const [{ GetObjectCommand }, { getSignedUrl, S3RequestPresigner }] = await Promise.all([
    import("@aws-sdk/client-s3"),
    import("@aws-sdk/s3-request-presigner"),
  ]);
  const { signing } = bucket;
  // One URL the vendor's way tells host and path for all: going through its whole stack costs 1 ms for each.
  const sample = new URL(
    await getSignedUrl(signing, new GetObjectCommand({ Bucket: bucket.name, Key: "key" })),
  );
  const target: Target = {
    protocol: sample.protocol,
    hostname: sample.hostname,
    ...(sample.port === "" ? {} : { port: Number(sample.port) }),
    host: sample.host,
    path: sample.pathname.slice(0, -"key".length),
  };
  const presigner = new S3RequestPresigner({
    ...signing.config,
    region: await signing.config.region(),
    service: "s3",
  });

  return async ({ method, key, query = {}, headers = {}, expiresAt }) => {
    const { signingDate, expiresIn } = validity(expiresAt, now());
    const presigned = await presigner.presign(
      {
        method,
        protocol: target.protocol,
        hostname: target.hostname,
        ...(target.port === undefined ? {} : { port: target.port }),
        path: target.path + key,
        query: { ...query },
        headers: { host: target.host, ...headers },
      },
      {
        signingDate,
        expiresIn,
        // Left to itself, the vendor signs the size only sometimes and moves the digest where few servers look.
        signableHeaders: new Set(["host", ...Object.keys(headers)]),
        unhoistableHeaders: new Set(Object.keys(headers)),
      },
    );
    const search = Object.entries(presigned.query ?? {})
      .map(([name, value]) => `${encode(name)}=${encode(String(value))}`)
      .join("&");
    const url = `${target.protocol}//${target.host}${bucket.publicPath}${presigned.path}?${search}`;
    return { url, expiresAt: Math.min(expiresAt, signingDate.getTime() + expiresIn * 1000) };
  };
}

/**
 * A signature counts whole seconds from a whole second, so a URL may live on for part of a second, and ends after a
 * week at most. One that has ended already is signed as of an earlier time.
 */
export function validity(expiresAt: number, now: number): { signingDate: Date; expiresIn: number } {
  const end = expiresAt > now ? Math.ceil(expiresAt / 1000) : Math.floor(expiresAt / 1000);
  const start = Math.min(Math.floor(now / 1000), end - 1);
  return { signingDate: new Date(start * 1000), expiresIn: Math.min(end - start, EXPIRES_MAX_S) };
}

/** Percent-encoding as signatures count it (RFC 3986): of everything but unreserved characters. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
