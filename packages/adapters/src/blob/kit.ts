/**
 * What a blob store of one's own can be made of: keys and ranges that are checked, bodies that are read as the port
 * wants them, and signed URLs that it redeems itself. Where bytes lie is all that is left to write.
 */

import { createHash } from "node:crypto";
import type { BlobInfo, BlobService, BlobStore, ByteRange } from "@docyard/core";
import { eachChunk } from "./body.ts";
import type { OpenBlob, ServedBlobs } from "./serve.ts";
import { CorruptBlob, IDLE_TIMEOUT_MS, tooLarge } from "./serve.ts";
import { createBlobService } from "./service.ts";
import type { UrlSecret } from "./urls.ts";
import { createUrls } from "./urls.ts";

export { checkRange } from "./body.ts";
export { checkKey } from "./key.ts";
export type { OpenBlob, Piece, ServedBlobs } from "./serve.ts";
export { CorruptBlob } from "./serve.ts";
export type { UrlSecret } from "./urls.ts";

/**
 * Reads a body to its end as `BlobStore.put` must: bounded, stopped by the signal, closed whatever happens.
 * @param take is given each chunk and where it begins; never an empty one. A chunk is only valid until it resolves.
 * @throws DocyardError `too_large`, before `take` sees what is too much; and whatever the body or `take` reject with.
 */
export async function receive(
  body: AsyncIterable<Uint8Array>,
  { sizeMax, signal }: { readonly sizeMax: number; readonly signal?: AbortSignal },
  take: (chunk: Uint8Array, start: number) => Promise<void> | void,
): Promise<{ readonly size: number; readonly digest: string }> {
  const hash = createHash("sha256");
  let size = 0;
  await eachChunk(body, signal, async (chunk) => {
    if (size + chunk.byteLength > sizeMax) throw tooLarge(sizeMax);
    if (chunk.byteLength > 0) await take(chunk, size);
    hash.update(chunk);
    size += chunk.byteLength;
  });
  return { size, digest: hash.digest("hex") };
}

/** What `BlobStore.digest` says of these bytes. */
export function digestOf(
  body: AsyncIterable<Uint8Array>,
): Promise<{ readonly size: number; readonly digest: string }> {
  return receive(body, { sizeMax: Number.POSITIVE_INFINITY }, () => {});
}

export interface ServeOptions {
  /** The public URL, path prefix included; a function where the port is known late. */
  readonly baseUrl: string | (() => string);
  /**
   * Signs the URLs; at least 16 bytes, the same in every replica and after a restart. Or a function that reads all keys
   * in force, newest first, where they are rotated.
   */
  readonly secret: UrlSecret;
  /** Where the bytes come from and go to. */
  readonly blobs: ServedBlobs;
  /** Aborts when the store closes: transfers under way end. */
  readonly closing: AbortSignal;
  /** Milliseconds without a byte after which a transfer is given up. Default 60,000. */
  readonly idleTimeoutMs?: number;
  /** Milliseconds since 1970 UTC. Default `Date.now`. */
  readonly now?: () => number;
}

/** The part of a blob store that signs and redeems: to be spread into it. Keys are checked here, too. */
export function serveBlobs(
  options: ServeOptions,
): Pick<BlobStore, "signPut" | "signGet"> & { readonly serve: Required<BlobService> } {
  const { baseUrl, secret, blobs, closing, idleTimeoutMs = IDLE_TIMEOUT_MS, now = Date.now } = options;
  const urls = createUrls({ baseUrl, secret, now });
  return {
    async signPut(key, sign) {
      closing.throwIfAborted();
      return urls.signPut(key, sign);
    },
    async signGet(key, sign) {
      closing.throwIfAborted();
      return urls.signGet(key, sign);
    },
    serve: createBlobService({ urls, blobs, idleTimeoutMs, closing }),
  };
}

/**
 * What `ServedBlobs.open` gives for a blob whose digest is on record and whose chunks are the reader's to keep.
 * @param held what the store has under the key; undefined: nothing
 * @throws CorruptBlob if it is not what was announced.
 */
export function openRecorded(
  held: BlobInfo | undefined,
  announced: { readonly size: number; readonly digest: string },
  read: (range: ByteRange, signal: AbortSignal) => AsyncIterable<Uint8Array>,
): OpenBlob | null {
  if (held === undefined) return null;
  if (held.size !== announced.size || held.digest !== announced.digest) {
    throw new CorruptBlob("SHA-256 does not match");
  }
  return {
    async *pieces(range, signal) {
      for await (const bytes of read(range, signal)) yield { bytes, release: () => {} };
    },
    async close() {},
  };
}
