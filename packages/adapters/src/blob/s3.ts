/**
 * Blobs in a bucket of any S3-compatible server; clients talk to that server themselves through presigned URLs.
 * How it reads, uploads, copies and signs is left to the `s3-*.ts` beside it; there is nothing to serve.
 */

import { randomUUID } from "node:crypto";
import type { S3 } from "@aws-sdk/client-s3";
import { DocyardError } from "@docyard/core";
import type { BlobStore } from "@docyard/core";
import { checkKey, keyFault } from "./key.ts";
import type { Bucket } from "../s3-bucket.ts";
import { isMissing, openBucket, statObject } from "../s3-bucket.ts";
import { copyVerified } from "./s3-copy.ts";
import { putStream } from "./s3-put.ts";
import { digestObject, readObject } from "./s3-read.ts";
import { createPresigner } from "./s3-sign.ts";

export interface S3BlobsOptions {
  /** Name of the bucket, which must exist. */
  readonly bucket: string;
  /** Keys begin with it; segments of `A-Z a-z 0-9 _ . -` joined by `/`. Default: none, the bucket is docyard's own. */
  readonly prefix?: string;
  /** Where this process reaches the server. Default: AWS in `region`. */
  readonly endpoint?: string;
  /**
   * Where clients reach the same bucket, for the URLs handed out (lesson R-09). Default: `endpoint`. Its proxy keeps
   * the Host header; a path in it is put in front of every URL and is the proxy's to strip, so it is not signed.
   */
  readonly publicEndpoint?: string;
  /** Default: `us-east-1` where there is an endpoint, else what AWS's own configuration says. */
  readonly region?: string;
  /** `https://host/bucket/key` instead of `https://bucket.host/key`. Default: true where there is an endpoint. */
  readonly forcePathStyle?: boolean;
  /** Default: AWS's own chain (environment, shared files, roles). Temporary ones end the URLs they signed with them. */
  readonly credentials?: S3Credentials;
  /**
   * `required` (default) sends and checks no CRC of its own, which servers other than AWS refuse or store as content
   * (lesson R-01); `supported` is the vendor's default. Presigned URLs never carry one.
   */
  readonly checksums?: "required" | "supported";
  /**
   * How a declared SHA-256 binds a presigned upload (lesson R-12). `query` (default): it is in the URL, so that the
   * vendors' plain `curl -X PUT` works; AWS holds uploads to it, many others ignore it. `header`: the client sends it in
   * the returned header, else 403; for clients that are told to. `off`: it is not bound, for servers that refuse the
   * parameter. The bytes are verified on complete in every case.
   */
  readonly signDigest?: "query" | "header" | "off";
  /** Bytes of each part of an uploaded stream, all but the last alike (lesson R-02). Default 8 MiB, at least 5 MiB. */
  readonly partSize?: number;
  /** Most parts of an upload: 10,000 (default), on some servers 1,000. Parts grow to fit (lesson R-03). */
  readonly partsMax?: number;
  /** Tries of each request, with backoff in between. Default 4. */
  readonly attempts?: number;
  /** Milliseconds without a byte after which a request is given up and tried again. Default 20,000. */
  readonly idleTimeoutMs?: number;
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
}

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** A crash leaves the parts of multipart uploads behind, invisible and paid for: `dropUnfinished` aborts these. */
export type S3Blobs = BlobStore & Required<Pick<BlobStore, "dropUnfinished">>;

/** How long `ready` waits for its three small requests. */
const READY_TIMEOUT_MS = 5_000;
/** The most keys S3 lists at once. */
const LIST_PAGE_MAX = 1_000;

/** @throws TypeError for options that cannot work; whether the server can be reached is `ready`'s to say. */
export async function s3Blobs(options: S3BlobsOptions): Promise<S3Blobs> {
  const closing = new AbortController();
  const bucket = await openBucket(options, closing.signal);
  const presigner = createPresigner(bucket, options);
  const open = (key: string): string => {
    closing.signal.throwIfAborted();
    return bucket.prefix + checkKey(key);
  };

  const store: S3Blobs = {
    put: async (key, body, put) => putStream(bucket, open(key), body, put),

    async get(key, { range, signal } = {}) {
      return readObject(bucket, open(key), range, signal);
    },

    async stat(key) {
      const found = await statObject(bucket, open(key));
      return found === null ? null : { size: found.size, digest: found.digest };
    },

    async digest(key, { signal } = {}) {
      return digestObject(bucket, open(key), signal);
    },

    copy: async (from, to, expected) => copyVerified(bucket, { from: open(from), to: open(to), expected }),

    async delete(key) {
      await deleteObject(bucket, open(key));
    },

    async list(prefix, { after = "", limit }) {
      closing.signal.throwIfAborted();
      return listObjects(bucket, prefix, after, limit);
    },

    signPut: async (key, sign) => presigner.signPut(open(key), sign),
    signGet: async (key, sign) => presigner.signGet(open(key), sign),

    async dropUnfinished(before) {
      closing.signal.throwIfAborted();
      return abortUploads(bucket, before);
    },

    async ready() {
      closing.signal.throwIfAborted();
      await proveReadWrite(bucket);
    },

    async close() {
      if (closing.signal.aborted) return;
      closing.abort(new Error("the blob store is closed"));
      bucket.destroy();
    },
  };
  return store;
}

async function deleteObject(bucket: Bucket, key: string): Promise<void> {
  try {
    await bucket.call(undefined, (s3, options) =>
      s3.deleteObject({ Bucket: bucket.name, Key: key }, options),
    );
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

async function listObjects(
  bucket: Bucket,
  prefix: string,
  after: string,
  limit: number,
): Promise<{ key: string; size: number; modifiedAt: number }[]> {
  const found: { key: string; size: number; modifiedAt: number }[] = [];
  let last = after;
  let token: string | undefined;
  while (found.length < limit) {
    // S3 sorts by UTF-8 bytes, which for keys of ASCII is code unit order.
    const start = last === "" ? {} : { StartAfter: bucket.prefix + last };
    const page = await bucket.call(undefined, (s3, options) =>
      s3.listObjectsV2(
        {
          Bucket: bucket.name,
          Prefix: bucket.prefix + prefix,
          MaxKeys: Math.min(LIST_PAGE_MAX, limit - found.length),
          ...(token === undefined ? start : { ContinuationToken: token }),
        },
        options,
      ),
    );
    for (const { Key, Size, LastModified } of page.Contents ?? []) {
      const key = Key?.slice(bucket.prefix.length) ?? "";
      if (key <= last) throw new Error("S3 listed keys out of order");
      last = key;
      // What is no key of docyard's is someone else's, or a probe of `ready`.
      if (keyFault(key) !== null) continue;
      if (Size === undefined || LastModified === undefined)
        throw new Error("S3 listed a key without its facts");
      found.push({ key, size: Size, modifiedAt: LastModified.getTime() });
    }
    if (page.IsTruncated !== true) break;
    // Not the last key: a page may have none, where the server passed over what is no object (any more).
    token = page.NextContinuationToken;
    if (token === undefined) throw new Error("S3 listed a part of the keys and not where the rest begins");
  }
  return found;
}

async function abortUploads(bucket: Bucket, before: number): Promise<number> {
  let aborted = 0;
  let markers: { KeyMarker?: string; UploadIdMarker?: string } = {};
  for (;;) {
    const page = await bucket.call(undefined, (s3, options) =>
      s3.listMultipartUploads({ Bucket: bucket.name, Prefix: bucket.prefix, ...markers }, options),
    );
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (Initiated === undefined || Initiated.getTime() >= before) continue;
      await abortUpload(bucket, Key, UploadId);
      aborted++;
    }
    if (page.IsTruncated !== true || page.NextKeyMarker === undefined) return aborted;
    markers = {
      KeyMarker: page.NextKeyMarker,
      ...(page.NextUploadIdMarker === undefined ? {} : { UploadIdMarker: page.NextUploadIdMarker }),
    };
  }
}

async function abortUpload(
  bucket: Bucket,
  Key: string | undefined,
  UploadId: string | undefined,
): Promise<void> {
  try {
    await bucket.call(undefined, (s3, options) =>
      s3.abortMultipartUpload({ Bucket: bucket.name, Key, UploadId }, options),
    );
  } catch (error) {
    // Completed or aborted by another process meanwhile.
    if (!isMissing(error)) throw error;
  }
}

/** Writes, reads and removes a few bytes under a name that is no docyard key. */
async function proveReadWrite(bucket: Bucket): Promise<void> {
  const probe = randomUUID();
  const at = { Bucket: bucket.name, Key: `${bucket.prefix}.docyard/ready-${probe}` };
  const deadline = AbortSignal.timeout(READY_TIMEOUT_MS);
  const call = <T>(send: (s3: S3, options: { abortSignal: AbortSignal }) => Promise<T>) =>
    bucket.call(deadline, send);
  try {
    await call((s3, options) => s3.putObject({ ...at, Body: probe }, options));
    const read = await call(async (s3, options) => {
      const response = await s3.getObject(at, options);
      return response.Body?.transformToString();
    });
    if (read !== probe) throw new Error("other bytes came back than were written");
    await call((s3, options) => s3.deleteObject(at, options));
  } catch (cause) {
    const reason = deadline.aborted ? `no answer in ${READY_TIMEOUT_MS} ms` : describe(cause);
    throw new Error(`Bucket ${bucket.name} cannot be written and read: ${reason}`, { cause });
  }
}

/** The vendor's errors often have a telling name and an empty or useless message. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return "unknown reason";
  if (error instanceof DocyardError && error.cause !== undefined) return describe(error.cause);
  const code = (error as NodeJS.ErrnoException).code;
  return [error.name === "Error" ? (code ?? "") : error.name, error.message].filter(Boolean).join(": ");
}
