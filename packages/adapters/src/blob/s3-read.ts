/**
 * Downloads: an object or a range of it as a stream that survives broken connections, and its real digest.
 * Who may read, and what is done with the bytes, is left to the callers.
 */

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import type { ByteRange } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { checkRange } from "./body.ts";
import type { Bucket } from "../s3-bucket.ts";
import { isMissing, statObject } from "../s3-bucket.ts";

/** How often a download that broke off is taken up again before a byte must have arrived. */
const RESUMES_MAX = 4;
const RESUME_DELAY_MS = 200;

/** See `BlobStore.get`. */
export async function readObject(
  bucket: Bucket,
  key: string,
  range: ByteRange | undefined,
  signal: AbortSignal | undefined,
): Promise<{ size: number; body: AsyncIterable<Uint8Array> }> {
  signal?.throwIfAborted();
  // S3 has no empty ranges, and an empty object has no ranges at all.
  if (range !== undefined && range.start >= range.end) {
    const found = await statObject(bucket, key, signal);
    if (found === null) throw notFound();
    checkRange(range, found.size);
    return { size: found.size, body: nothing() };
  }
  const Range = range === undefined ? undefined : rangeHeader(range.start, range.end);
  const first = await bucket
    .call(signal, (s3, options) =>
      s3.getObject({ Bucket: bucket.name, Key: key, ...(Range === undefined ? {} : { Range }) }, options),
    )
    .catch(async (error: unknown) => {
      if (isMissing(error)) throw notFound();
      // Out of range: say so in the port's words.
      const found = hasStatus(error, 416) ? await statObject(bucket, key, signal) : null;
      if (found !== null) checkRange(range, found.size);
      throw error;
    });
  const total = sizeOf(first);
  try {
    const { start, end } = checkRange(range, total);
    return { size: total, body: resumable(bucket, key, first, start, end, signal) };
  } catch (error) {
    streamOf(first).destroy();
    throw error;
  }
}

/**
 * The bytes of an object; where the connection breaks, taken up again from the next byte, as long as it is the same
 * object by its ETag. Ends only when every byte has been handed on.
 */
async function* resumable(
  bucket: Bucket,
  key: string,
  first: GetObjectCommandOutput,
  start: number,
  end: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  let at = start;
  let failures = 0;
  let response = first;
  const stop = bucket.stop(signal);
  for (;;) {
    const stream = streamOf(response);
    const onAbort = (): void => stream.destroy();
    stop.addEventListener("abort", onAbort, { once: true });
    try {
      for await (const chunk of stream as AsyncIterable<Uint8Array>) {
        stop.throwIfAborted();
        at += chunk.byteLength;
        failures = 0;
        yield chunk;
      }
      stop.throwIfAborted();
      if (at === end) return;
      throw new Error(`S3 sent ${at - start} of ${end - start} bytes`);
    } catch (error) {
      stop.throwIfAborted();
      if (at > end || ++failures > RESUMES_MAX) throw error;
    } finally {
      stop.removeEventListener("abort", onAbort);
      stream.destroy();
    }
    await sleep(RESUME_DELAY_MS * 2 ** (failures - 1), undefined, { signal: stop });
    response = await resumeAt(bucket, key, { start: at, end }, first.ETag, signal);
  }
}

async function resumeAt(
  bucket: Bucket,
  key: string,
  { start, end }: ByteRange,
  etag: string | undefined,
  signal: AbortSignal | undefined,
): Promise<GetObjectCommandOutput> {
  const asked = { Bucket: bucket.name, Key: key, Range: rangeHeader(start, end) };
  const response = await bucket
    .call(signal, (s3, options) =>
      s3.getObject({ ...asked, ...(etag === undefined ? {} : { IfMatch: etag }) }, options),
    )
    .catch((error: unknown) => {
      if (isMissing(error) || hasStatus(error, 412) || hasStatus(error, 416)) throw replaced(error);
      throw error;
    });
  // Not every server honours If-Match.
  if (response.ETag !== etag) {
    streamOf(response).destroy();
    throw replaced();
  }
  return response;
}

function replaced(cause?: unknown): Error {
  return new Error("The object was replaced or removed while it was being read", { cause });
}

async function* nothing(): AsyncGenerator<Uint8Array, void, void> {}

/** Half-open here, inclusive in HTTP. */
function rangeHeader(start: number, end: number): string {
  return `bytes=${start}-${end - 1}`;
}

/** Of the whole object, whatever part of it this answer holds. */
function sizeOf(response: GetObjectCommandOutput): number {
  const total = response.ContentRange?.split("/")[1] ?? response.ContentLength;
  const size = Number(total);
  if (total === undefined || !Number.isSafeInteger(size))
    throw new Error("S3 did not say how long the object is");
  return size;
}

/** On Node, the vendor's bodies are Node's streams. */
function streamOf(response: GetObjectCommandOutput): NodeJS.ReadableStream & { destroy(): void } {
  return response.Body as NodeJS.ReadableStream & { destroy(): void };
}

/** See `BlobStore.digest`. */
export async function digestObject(
  bucket: Bucket,
  key: string,
  signal?: AbortSignal,
): Promise<{ size: number; digest: string } | null> {
  const hash = createHash("sha256");
  let size = 0;
  try {
    const { body } = await readObject(bucket, key, undefined, signal);
    for await (const chunk of body) {
      hash.update(chunk);
      size += chunk.byteLength;
    }
  } catch (error) {
    if (error instanceof DocyardError && error.code === "not_found") return null;
    throw error;
  }
  return { size, digest: hash.digest("hex") };
}

function hasStatus(error: unknown, status: number): boolean {
  const metadata = (error as { readonly $metadata?: { readonly httpStatusCode?: number } }).$metadata;
  return metadata?.httpStatusCode === status;
}

function notFound(): DocyardError {
  return new DocyardError("not_found", "No such blob");
}
