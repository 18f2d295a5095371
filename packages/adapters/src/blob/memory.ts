/**
 * Blobs in memory: the reference implementation of the port and the test double, with the same signed URLs and the same
 * HTTP as the disk store. Nothing survives the process.
 */

import { createHash } from "node:crypto";
import type { BlobService, BlobStore } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { checkRange, eachChunk } from "./body.ts";
import { checkKey, compareKeys } from "./key.ts";
import type { ServedBlobs } from "./serve.ts";
import { CorruptBlob, IDLE_TIMEOUT_MS, tooLarge } from "./serve.ts";
import { createBlobService } from "./service.ts";
import type { UrlSecret } from "./urls.ts";
import { createUrls } from "./urls.ts";

export interface MemoryBlobsOptions {
  /** The public URL, path prefix included; a function where the port is known late. */
  readonly baseUrl: string | (() => string);
  /**
   * Signs the URLs; at least 16 bytes. Or a function that reads all keys in force, newest first, where they are rotated.
   */
  readonly secret: UrlSecret;
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
  /** Milliseconds without a byte after which a transfer is given up; default 60,000. */
  readonly idleTimeoutMs?: number;
  /** What is kept of bytes that are written; default all of them. A test hands in a disk that tears writes. */
  readonly keep?: (write: MemoryWrite, bytes: Uint8Array) => Uint8Array;
}

/** How bytes come to be under a key: `serve` is a signed PUT. */
export type MemoryWrite = "put" | "copy" | "serve";

/** A store that always serves its own URLs, on Node's objects too. */
export type MemoryBlobs = BlobStore & {
  readonly serve: Required<BlobService>;
  /**
   * What a power cut does: whatever arrived by a signed PUT and has not been copied since is gone, because only `copy`
   * and `put` promise that a name lasts. Returns how many keys are gone.
   */
  dropUnsynced(): number;
};

interface Held {
  /** Never changed once held. */
  readonly bytes: Uint8Array;
  readonly digest: string;
  readonly modifiedAt: number;
}

/** Bytes per chunk and piece. */
const PIECE_BYTES = 1024 * 1024;

export function memoryBlobs(options: MemoryBlobsOptions): MemoryBlobs {
  const { now = Date.now, idleTimeoutMs = IDLE_TIMEOUT_MS, keep = (_, bytes) => bytes } = options;
  const urls = createUrls({ baseUrl: options.baseUrl, secret: options.secret, now });
  const blobs = new Map<string, Held>();
  /** Keys whose name a power cut would take. */
  const unsynced = new Set<string>();
  /** All keys in order, and perhaps some that are gone; null after a new one. */
  let sortedKeys: string[] | null = [];
  const closing = new AbortController();
  const open = (key: string): string => {
    closing.signal.throwIfAborted();
    return checkKey(key);
  };

  const hold = (key: string, write: MemoryWrite, written: Held): void => {
    const kept = keep(write, written.bytes);
    if (!blobs.has(key)) sortedKeys = null;
    blobs.set(key, kept === written.bytes ? written : { ...written, bytes: kept, digest: sha256(kept) });
    if (write === "serve") unsynced.add(key);
    else unsynced.delete(key);
  };

  const drop = (key: string): void => {
    blobs.delete(key);
    unsynced.delete(key);
  };

  const served: ServedBlobs = {
    async receive(key, body, { sizeMax, signal, publish }) {
      open(key);
      const received = { ...(await collect(body, sizeMax, signal)), modifiedAt: now() };
      await publish({ size: received.bytes.byteLength });
      hold(key, "serve", received);
      return { size: received.bytes.byteLength, digest: received.digest };
    },
    async open(key, announced) {
      const held = blobs.get(open(key));
      if (held === undefined) return null;
      if (held.bytes.byteLength !== announced.size || held.digest !== announced.digest) {
        throw new CorruptBlob("SHA-256 does not match");
      }
      return {
        async *pieces({ start, end }, signal) {
          for (let at = start; at < end; at += PIECE_BYTES) {
            signal.throwIfAborted();
            yield { bytes: held.bytes.subarray(at, Math.min(end, at + PIECE_BYTES)), release: () => {} };
          }
        },
        async close() {},
      };
    },
  };

  return {
    async put(key, body, { sizeMax, signal }) {
      open(key);
      const received = { ...(await collect(body, sizeMax, signal)), modifiedAt: now() };
      open(key);
      hold(key, "put", received);
      return { size: received.bytes.byteLength, digest: received.digest };
    },

    async get(key, { range, signal } = {}) {
      signal?.throwIfAborted();
      const held = blobs.get(open(key));
      if (held === undefined) throw new DocyardError("not_found", "No such blob");
      const size = held.bytes.byteLength;
      const { start, end } = checkRange(range, size);
      const body = async function* (): AsyncGenerator<Uint8Array, void, void> {
        for (let at = start; at < end; at += PIECE_BYTES) {
          signal?.throwIfAborted();
          // A copy, so that no reader can change what is held.
          yield new Uint8Array(held.bytes.subarray(at, Math.min(end, at + PIECE_BYTES)));
        }
      };
      return { size, body: { [Symbol.asyncIterator]: body } };
    },

    async stat(key) {
      const held = blobs.get(open(key));
      return held === undefined ? null : { size: held.bytes.byteLength, digest: held.digest };
    },

    async digest(key, { signal } = {}) {
      signal?.throwIfAborted();
      const held = blobs.get(open(key));
      return held === undefined ? null : { size: held.bytes.byteLength, digest: sha256(held.bytes) };
    },

    async copy(from, to, expected) {
      const held = blobs.get(open(from)) ?? blobs.get(open(to));
      open(to);
      if (held === undefined || held.bytes.byteLength !== expected.size || held.digest !== expected.digest) {
        return false;
      }
      hold(to, "copy", held);
      return true;
    },

    async delete(key) {
      drop(open(key));
    },

    async list(prefix, { after = "", limit }) {
      closing.signal.throwIfAborted();
      sortedKeys ??= Array.from(blobs.keys()).sort(compareKeys);
      const found: { key: string; size: number; modifiedAt: number }[] = [];
      for (let i = firstFrom(sortedKeys, prefix > after ? prefix : after); found.length < limit; i++) {
        const key = sortedKeys[i];
        if (key === undefined || (!key.startsWith(prefix) && key > prefix)) break;
        const held = blobs.get(key);
        if (held === undefined || key <= after || !key.startsWith(prefix)) continue;
        found.push({ key, size: held.bytes.byteLength, modifiedAt: held.modifiedAt });
      }
      return found;
    },

    async signPut(key, sign) {
      return urls.signPut(open(key), sign);
    },
    async signGet(key, sign) {
      return urls.signGet(open(key), sign);
    },
    serve: createBlobService({ urls, blobs: served, idleTimeoutMs, closing: closing.signal }),

    dropUnsynced() {
      const keys = [...unsynced];
      keys.forEach(drop);
      return keys.length;
    },

    async ready() {
      closing.signal.throwIfAborted();
    },
    async close() {
      if (!closing.signal.aborted) closing.abort(new Error("the blob store is closed"));
      blobs.clear();
      unsynced.clear();
      sortedKeys = [];
    },
  };
}

/** Where the first key that is not before this one stands, or would. */
function firstFrom(sortedKeys: readonly string[], key: string): number {
  let [low, high] = [0, sortedKeys.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sortedKeys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

async function collect(
  body: AsyncIterable<Uint8Array>,
  sizeMax: number,
  signal: AbortSignal | undefined,
): Promise<{ bytes: Uint8Array; digest: string }> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  signal?.throwIfAborted();
  await eachChunk(body, signal, async (chunk) => {
    size += chunk.byteLength;
    if (size > sizeMax) throw tooLarge(sizeMax);
    chunks.push(new Uint8Array(chunk));
  });
  const bytes = Buffer.concat(chunks, size);
  return { bytes, digest: sha256(bytes) };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
