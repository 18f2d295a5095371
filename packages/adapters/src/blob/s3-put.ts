/**
 * Uploads a stream of unknown length: one PUT where it is short, else parts of one size, completed in one step.
 * Either the whole object appears under its key or nothing has changed there.
 */

import { createHash } from "node:crypto";
import { DocyardError } from "@docyard/core";
import { eachChunk } from "./body.ts";
import type { Bucket } from "../s3-bucket.ts";
import { beginMultipart } from "./s3-multipart.ts";

const MIB = 1024 ** 2;
/** Most bytes of one object, by S3's rules. */
const OBJECT_BYTES_MAX = 5 * 1024 ** 4;
/** Parts of one upload in flight while the next is being filled: at most four part sizes of memory. */
const PARTS_IN_FLIGHT = 3;
/** First size of the buffer, which doubles up to a part: most bodies are short. */
const BUFFER_BYTES = 64 * 1024;

/**
 * One size for all parts but the last (lesson R-02), such that the longest body allowed fits (lesson R-03).
 * @returns bytes
 */
export function partSizeFor(sizeMax: number, parts: { readonly size: number; readonly max: number }): number {
  const needed = Math.ceil(Math.min(sizeMax, OBJECT_BYTES_MAX) / parts.max);
  return Math.max(parts.size, Math.ceil(needed / MIB) * MIB);
}

/** See `BlobStore.put`. */
export async function putStream(
  bucket: Bucket,
  key: string,
  body: AsyncIterable<Uint8Array>,
  { sizeMax, signal }: { readonly sizeMax: number; readonly signal?: AbortSignal },
): Promise<{ size: number; digest: string }> {
  const at = { Bucket: bucket.name, Key: key };
  const partSize = partSizeFor(sizeMax, bucket.parts);
  const hash = createHash("sha256");
  const part = createPart(partSize);
  /** Ends this upload's own requests when one of them fails. */
  const failing = new AbortController();
  const stop = signal === undefined ? failing.signal : AbortSignal.any([signal, failing.signal]);
  let size = 0;
  let upload: Multipart | undefined;

  try {
    await eachChunk(body, bucket.stop(stop), async (chunk) => {
      size += chunk.byteLength;
      if (size > sizeMax) throw new DocyardError("too_large", `The body is longer than ${sizeMax} bytes`);
      hash.update(chunk);
      for (let offset = 0; offset < chunk.byteLength;) {
        // A full part is sent when more follows: the last one may be short, and a body of one part needs no upload.
        if (part.isFull()) {
          upload ??= await beginUpload(bucket, at, stop, (error) => failing.abort(error));
          await upload.send(part.take());
        }
        offset += part.add(chunk.subarray(offset));
      }
    });
    if (upload === undefined) {
      await bucket.call(stop, (s3, options) => s3.putObject({ ...at, Body: part.take() }, options));
    } else {
      await upload.send(part.take());
      await upload.complete(size);
    }
  } catch (error) {
    failing.abort(error);
    await upload?.abort();
    throw error;
  }
  return { size, digest: hash.digest("hex") };
}

interface Part {
  isFull(): boolean;
  /** Copies as much as fits; returns how much that was. */
  add(bytes: Uint8Array): number;
  /** What was added, which is the caller's from here on. */
  take(): Buffer;
}

function createPart(partSize: number): Part {
  let buffer = Buffer.alloc(0);
  let length = 0;
  return {
    isFull: () => length === partSize,
    add(bytes) {
      const fitting = bytes.subarray(0, partSize - length);
      if (length + fitting.length > buffer.length) {
        const room = Math.max(BUFFER_BYTES, 2 * buffer.length, length + fitting.length);
        const grown = Buffer.allocUnsafeSlow(Math.min(partSize, room));
        buffer.copy(grown, 0, 0, length);
        buffer = grown;
      }
      buffer.set(fitting, length);
      length += fitting.length;
      return fitting.length;
    },
    take() {
      const taken = buffer.subarray(0, length);
      buffer = Buffer.alloc(0);
      length = 0;
      return taken;
    },
  };
}

interface Multipart {
  /** Resolves when there is room for another; a part that fails ends the whole upload through `onFailure`. */
  send(bytes: Buffer): Promise<void>;
  complete(size: number): Promise<void>;
  /** Best effort: what it leaves is `dropUnfinished`'s to find. */
  abort(): Promise<void>;
}

async function beginUpload(
  bucket: Bucket,
  at: { readonly Bucket: string; readonly Key: string },
  stop: AbortSignal,
  onFailure: (error: unknown) => void,
): Promise<Multipart> {
  const multipart = await beginMultipart(bucket, at, stop);
  const { UploadId } = multipart;
  const tags: string[] = [];
  const inFlight = new Set<Promise<void>>();

  const sendPart = async (index: number, bytes: Buffer): Promise<void> => {
    const { ETag } = await bucket.call(stop, (s3, options) =>
      s3.uploadPart({ ...at, UploadId, PartNumber: index + 1, Body: bytes }, options),
    );
    if (ETag === undefined) throw new Error("S3 took a part without an ETag");
    tags[index] = ETag;
  };

  return {
    async send(bytes) {
      const index = tags.push("") - 1;
      const sending = sendPart(index, bytes)
        .catch(onFailure)
        .finally(() => inFlight.delete(sending));
      inFlight.add(sending);
      while (inFlight.size >= PARTS_IN_FLIGHT) await Promise.race(inFlight);
      stop.throwIfAborted();
    },
    async complete(size) {
      await Promise.all(inFlight);
      stop.throwIfAborted();
      await multipart.complete(tags, size);
    },
    async abort() {
      await Promise.all(inFlight);
      await multipart.abort();
    },
  };
}
