/**
 * Buffers of one MiB that readers take and leave for the next one: zeroing a fresh one costs more than reading into it.
 * How many a reader holds at a time, and when it may use one again, is left to the reader.
 */

import { foldedInPlace } from "./crc32.ts";
import { THREADED_BODIES_MAX } from "./hashing.ts";
import { CHUNK_BYTES } from "./sidecar.ts";

/** Buffers kept of each kind; one for which there is no place here is left to the collector. */
const KEPT_MAX = 16;

export interface Buffers {
  /** So many bytes, whatever is in them. */
  take(bytes: number): Buffer;
  /** Gives it back; it is somebody else's from now on. */
  give(buffer: Buffer): void;
}

/** For whatever takes bytes. */
export const ownBuffers: Buffers = createOwnBuffers();

/**
 * For files and sockets, and not for most of the web's interfaces: `crc32` sums them in place, in memory that threads
 * share. Once all of those are taken there are others.
 */
export const summedBuffers: Buffers = createSharedBuffers(KEPT_MAX, (bytes) => ownBuffers.take(bytes));

/** The same for bytes that the thread hashes, and all of them shared. */
export const hashedBuffers: Buffers = createSharedBuffers(THREADED_BODIES_MAX, (bytes) =>
  Buffer.from(new SharedArrayBuffer(bytes)),
);

function createOwnBuffers(): Buffers {
  const kept: Buffer[] = [];
  return {
    take: (bytes) => (bytes === CHUNK_BYTES ? kept.pop() : undefined) ?? Buffer.allocUnsafeSlow(bytes),
    give(buffer) {
      if (buffer.byteLength === CHUNK_BYTES && kept.length < KEPT_MAX) kept.push(buffer);
    },
  };
}

/**
 * So many are kept, side by side: the system gives their memory as it is written to, and it stays. `more` makes others,
 * where such memory cannot be had or is used up.
 */
function createSharedBuffers(count: number, more: (bytes: number) => Buffer): Buffers {
  let memory: Buffer | null = null;
  let kept: Buffer[] | undefined;
  const cut = (): Buffer[] => {
    memory = foldedInPlace(count * CHUNK_BYTES);
    return Array.from({ length: memory === null ? 0 : count }, (_, index) =>
      memory!.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
    );
  };
  return {
    take(bytes) {
      kept ??= cut();
      return (bytes === CHUNK_BYTES ? kept.pop() : undefined) ?? more(bytes);
    },
    give(buffer) {
      if (buffer.buffer === memory?.buffer) kept!.push(buffer);
    },
  };
}
