/**
 * One bucket and the vendor's clients for it: timeouts, retries, checksum mode, and what a HEAD can be trusted with.
 * What to read and write in it is left to the store.
 */

import { randomBytes, randomUUID } from "node:crypto";
import type { S3, S3ClientConfig } from "@aws-sdk/client-s3";
import { DocyardError } from "@docyard/core";
import { checkKey } from "./blob/key.ts";
import type { S3BlobsOptions } from "./blob/s3.ts";

export interface Bucket {
  readonly name: string;
  /** Empty, or ends in a slash. */
  readonly prefix: string;
  /** Bytes of each part of a stream, and the most parts. */
  readonly parts: { readonly size: number; readonly max: number };
  /** Sends a request; rejects with the signal's reason when it, or the store's end, cut the request short. */
  call<T>(
    signal: AbortSignal | undefined,
    send: (s3: S3, options: { abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T>;
  /** The same for requests during which a server may be silent for minutes: copies, completed uploads. */
  callSlow<T>(
    signal: AbortSignal | undefined,
    send: (s3: S3, options: { abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T>;
  /** Aborts with the given signal or when the store closes. */
  stop(signal: AbortSignal | undefined): AbortSignal;
  /** Whether this server, which says what the SHA-256 of an object is, has also refused bytes that do not match one. */
  attests(): Promise<boolean>;
  /** Client for signing: reaches nothing, and points at the public endpoint. */
  readonly signing: S3;
  /** What stands before every path of a signed URL; empty, or begins with a slash. */
  readonly publicPath: string;
  destroy(): void;
}

export interface ObjectFacts {
  readonly size: number;
  /** SHA-256 as 64 hex digits where the server attests it for the whole object, else null. */
  readonly digest: string | null;
  readonly etag: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
}

const MIB = 1024 ** 2;
/** Fewest bytes of a part but the last, by S3's rules. */
const PART_SIZE_MIN = 5 * MIB;
const PART_SIZE = 8 * MIB;
/** Most parts of an upload, by S3's rules. */
const PARTS_MAX = 10_000;
const ATTEMPTS = 4;
/** A server that does not even accept is tried again sooner. */
const CONNECT_TIMEOUT_MS = 3_000;
const IDLE_TIMEOUT_MS = 20_000;
/** AWS warns that completing an upload may take minutes; copying 5 GiB within a server does, too. */
const SLOW_TIMEOUT_MS = 10 * 60_000;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/;

export async function openBucket(options: S3BlobsOptions, closing: AbortSignal): Promise<Bucket> {
  const { bucket: name, region, endpoint, credentials, idleTimeoutMs = IDLE_TIMEOUT_MS } = options;
  if (!NAME.test(name)) throw new TypeError(`${JSON.stringify(name)} is not the name of a bucket`);
  const checksums = options.checksums === "supported" ? "WHEN_SUPPORTED" : "WHEN_REQUIRED";
  // Imported here, for the 75 ms and 31 MiB it costs are wasted on those who keep bytes elsewhere.
  const { S3 } = await import("@aws-sdk/client-s3");
  const common: S3ClientConfig = {
    forcePathStyle: options.forcePathStyle ?? endpoint !== undefined,
    maxAttempts: options.attempts ?? ATTEMPTS,
    requestChecksumCalculation: checksums,
    responseChecksumValidation: checksums,
    ...(endpoint === undefined ? {} : { endpoint: checkEndpoint(endpoint).href }),
    ...(region === undefined ? (endpoint === undefined ? {} : { region: "us-east-1" }) : { region }),
    ...(credentials === undefined ? {} : { credentials: { ...credentials } }),
  };
  const client = (socketTimeout: number, config: S3ClientConfig = {}): S3 =>
    new S3({
      ...common,
      ...config,
      requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, socketTimeout },
    });
  const quick = client(idleTimeoutMs);
  const slow = client(Math.max(SLOW_TIMEOUT_MS, idleTimeoutMs));

  const publicUrl = checkEndpoint(options.publicEndpoint ?? endpoint);
  // What differs from the endpoint in its path alone is a proxy's prefix; without one, the vendor's way with paths.
  const isProxied = options.publicEndpoint !== undefined && publicUrl !== undefined;
  const signing = client(idleTimeoutMs, {
    // A checksum of the empty body would be signed into every upload URL (lesson R-01).
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    region: () => quick.config.region(),
    credentials: () => quick.config.credentials(),
    ...(isProxied ? { endpoint: publicUrl.origin } : {}),
  });

  const stop = (signal: AbortSignal | undefined): AbortSignal =>
    signal === undefined ? closing : AbortSignal.any([signal, closing]);
  const caller =
    (s3: S3): Bucket["call"] =>
    async (signal, send) => {
      const abortSignal = stop(signal);
      abortSignal.throwIfAborted();
      try {
        return await send(s3, { abortSignal });
      } catch (error) {
        abortSignal.throwIfAborted();
        throw isOutage(error)
          ? new DocyardError("upstream_failed", "The object storage does not answer: try again", {
              cause: error,
            })
          : worded(error);
      }
    };

  let attested: Promise<boolean> | undefined;
  const bucket: Bucket = {
    name,
    prefix: checkPrefix(options.prefix ?? ""),
    parts: checkParts(options.partSize ?? PART_SIZE, options.partsMax ?? PARTS_MAX),
    call: caller(quick),
    callSlow: caller(slow),
    stop,
    async attests() {
      attested ??= refusesWrongDigest(bucket);
      try {
        return await attested;
      } catch {
        // Not answered this time: believe nothing, ask again next time.
        attested = undefined;
        return false;
      }
    },
    signing,
    publicPath: isProxied ? publicUrl.pathname.replace(/\/+$/, "") : "",
    destroy() {
      for (const s3 of [quick, slow, signing]) s3.destroy();
    },
  };
  return bucket;
}

/** Facts of an object, or null where there is none. */
export async function statObject(
  bucket: Bucket,
  key: string,
  signal?: AbortSignal,
): Promise<ObjectFacts | null> {
  try {
    const head = await bucket.call(signal, (s3, options) =>
      s3.headObject({ Bucket: bucket.name, Key: key, ChecksumMode: "ENABLED" }, options),
    );
    if (head.ContentLength === undefined) throw new Error("S3 did not say how long the object is");
    return {
      size: head.ContentLength,
      digest: await attestedDigest(bucket, head),
      etag: head.ETag,
      metadata: head.Metadata ?? {},
    };
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/**
 * A server's word for the SHA-256 of a whole object, or null. That of a multipart upload is a digest of digests (type
 * COMPOSITE, or a number of parts after it); a server that stores what clients claim attests nothing.
 */
export async function attestedDigest(
  bucket: Bucket,
  claim: { readonly ChecksumSHA256?: string | undefined; readonly ChecksumType?: string | undefined },
): Promise<string | null> {
  if (claim.ChecksumSHA256 === undefined || claim.ChecksumType === "COMPOSITE") return null;
  if (!/^[A-Za-z0-9+/]{43}=$/.test(claim.ChecksumSHA256)) return null;
  if (!(await bucket.attests())) return null;
  return Buffer.from(claim.ChecksumSHA256, "base64").toString("hex");
}

/** What passes, though it has the status of a request that should not be repeated. */
const PASSING: ReadonlySet<string | undefined> = new Set(["RequestTimeout", "OperationAborted"]);

/** The server is unreachable, overloaded or broken: nothing is known of the object, and trying again may help. */
function isOutage(error: unknown): boolean {
  const {
    name,
    code,
    $metadata: metadata,
  } = error as {
    readonly name?: string;
    readonly code?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  const status = metadata?.httpStatusCode;
  if (status !== undefined) return status >= 500 || status === 429 || PASSING.has(name);
  // Of the system (ECONNREFUSED, ENOTFOUND …) or of the vendor's own clock.
  return typeof code === "string" || name === "TimeoutError";
}

/** A refusal of HEAD has no body, and the vendor's client then says "UnknownError": the same error, with its status. */
function worded(error: unknown): unknown {
  const { $metadata: metadata } = error as { readonly $metadata?: { readonly httpStatusCode?: number } };
  const status = metadata?.httpStatusCode;
  if (error instanceof Error && error.message === "UnknownError" && status !== undefined) {
    error.message = `the object storage answered ${status} and no more${status === 403 ? ": check the credentials and what they may do" : ""}`;
  }
  return error;
}

/** Any 404 is alike: servers name them differently. */
export function isMissing(error: unknown): boolean {
  const { name, $metadata: metadata } = error as {
    readonly name?: string;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  return metadata?.httpStatusCode === 404 && name !== "NoSuchBucket";
}

/** Sends bytes with another's digest. Whoever stores those would also attest whatever a client claimed. */
async function refusesWrongDigest(bucket: Bucket): Promise<boolean> {
  const at = { Bucket: bucket.name, Key: `${bucket.prefix}.docyard/attest-${randomUUID()}` };
  try {
    await bucket.call(undefined, (s3, options) =>
      s3.putObject(
        { ...at, Body: "these bytes", ChecksumSHA256: randomBytes(32).toString("base64") },
        options,
      ),
    );
  } catch (error) {
    const { $metadata: metadata } = error as { readonly $metadata?: { readonly httpStatusCode?: number } };
    if (metadata?.httpStatusCode === 400) return true;
    throw error;
  }
  await bucket.call(undefined, (s3, options) => s3.deleteObject(at, options));
  return false;
}

function checkEndpoint(endpoint: string): URL;
function checkEndpoint(endpoint: string | undefined): URL | undefined;
function checkEndpoint(endpoint: string | undefined): URL | undefined {
  if (endpoint === undefined) return undefined;
  const url = URL.parse(endpoint);
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") {
    // Not quoted: it may hold a password.
    throw new TypeError("An S3 endpoint must be an http or https URL without query or fragment");
  }
  if (url.username !== "" || url.password !== "") {
    throw new TypeError("An S3 endpoint must not hold credentials: give them as options");
  }
  return url;
}

function checkPrefix(prefix: string): string {
  const trimmed = prefix.replace(/^\/+|\/+$/g, "");
  return trimmed === "" ? "" : `${checkKey(trimmed)}/`;
}

function checkParts(size: number, max: number): { size: number; max: number } {
  if (!Number.isInteger(size) || size < PART_SIZE_MIN) {
    throw new TypeError(`partSize must be a whole number of at least ${PART_SIZE_MIN} bytes`);
  }
  if (!Number.isInteger(max) || max < 1 || max > PARTS_MAX) {
    throw new TypeError(`partsMax must be a whole number from 1 to ${PARTS_MAX}`);
  }
  return { size, max };
}
