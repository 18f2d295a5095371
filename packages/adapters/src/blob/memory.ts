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
import { createUrlSigner } from "./signed-url.ts";

export interface MemoryBlobsOptions {
  /** The public URL, path prefix included; a function where the port is known late. */
  readonly baseUrl: string | (() => string);
  /** Signs the URLs; at least 16 bytes. */
  readonly secret: Uint8Array;
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
  /** Milliseconds without a byte after which a transfer is given up; default 60,000. */
  readonly idleTimeoutMs?: number;
}

/** A store that always serves its own URLs, on Node's objects too. */
export type MemoryBlobs = BlobStore & { readonly serve: Required<BlobService> };

interface Held {
  /** Never changed once held. */
  readonly bytes: Uint8Array;
  readonly digest: string;
  readonly modifiedAt: number;
}

/** Bytes per chunk and piece. */
const PIECE_BYTES = 1024 * 1024;

export function memoryBlobs(options: MemoryBlobsOptions): MemoryBlobs {
  const { now = Date.now, idleTimeoutMs = IDLE_TIMEOUT_MS } = options;
  const signer = createUrlSigner({ baseUrl: options.baseUrl, secret: options.secret, now });
  const blobs = new Map<string, Held>();
  const closing = new AbortController();
  const open = (key: string): string => {
    closing.signal.throwIfAborted();
    return checkKey(key);
  };

  const served: ServedBlobs = {
    async receive(key, body, { sizeMax, signal, publish }) {
      open(key);
      const held = { ...(await collect(body, sizeMax, signal)), modifiedAt: now() };
      await publish({ size: held.bytes.byteLength });
      blobs.set(key, held);
      return { size: held.bytes.byteLength, digest: held.digest };
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
      const held = { ...(await collect(body, sizeMax, signal)), modifiedAt: now() };
      open(key);
      blobs.set(key, held);
      return { size: held.bytes.byteLength, digest: held.digest };
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
      blobs.set(to, held);
      return true;
    },

    async delete(key) {
      blobs.delete(open(key));
    },

    async list(prefix, { after = "", limit }) {
      closing.signal.throwIfAborted();
      const keys = Array.from(blobs.keys()).filter((key) => key.startsWith(prefix) && key > after);
      return keys
        .sort(compareKeys)
        .slice(0, limit)
        .map((key) => {
          const { bytes, modifiedAt } = blobs.get(key)!;
          return { key, size: bytes.byteLength, modifiedAt };
        });
    },

    async signPut(key, sign) {
      return signer.signPut(open(key), sign);
    },
    async signGet(key, sign) {
      return signer.signGet(open(key), sign);
    },
    serve: createBlobService({ signer, blobs: served, idleTimeoutMs, closing: closing.signal }),

    async ready() {
      closing.signal.throwIfAborted();
    },
    async close() {
      if (!closing.signal.aborted) closing.abort(new Error("the blob store is closed"));
      blobs.clear();
    },
  };
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
