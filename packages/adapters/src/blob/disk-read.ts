/**
 * Reads a blob's file in pieces that are checked before anyone sees them, into a few buffers that are reused.
 * Where the expected checksums come from, and what follows from a mismatch, is left to `disk.ts` and `disk-serve.ts`.
 */

import { hash } from "node:crypto";
import type { ByteRange } from "@docyard/core";
import type { Buffers } from "./buffers.ts";
import { hashedBuffers, ownBuffers, summedBuffers } from "./buffers.ts";
import { crc32 } from "./crc32.ts";
import type { DiskFile } from "./disk-io.ts";
import { createSums } from "./disk-write.ts";
import type { Hasher } from "./hashing.ts";
import { processHasher, THREADED_BODIES_MAX } from "./hashing.ts";
import type { Piece } from "./serve.ts";
import { CorruptBlob } from "./serve.ts";
import type { Checksums } from "./sidecar.ts";
import { CHUNK_BYTES } from "./sidecar.ts";

/**
 * Buffers of one MiB per reader: one being read while the other is sent. A third gains nothing and costs eight readers
 * 8 MiB …
 */
const RING_DEPTH = 2;
/** … but where one is with the thread that hashes, which takes longer than sending. A fourth gains two percent. */
const HASHED_RING_DEPTH = 3;

export interface ReadJob {
  readonly handle: DiskFile;
  /** Bytes of the whole file. */
  readonly size: number;
  readonly range: ByteRange;
  /** CRC-32 of each MiB; null where they are not checked. */
  readonly crcs: readonly number[] | null;
  /** SHA-256 of the whole, checked when the range covers it; null where it is not checked. */
  readonly digest: string | null;
  /** Whether the pieces may lie in memory that threads share: sockets take it, most of the web's interfaces do not. */
  readonly mayShare?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Default: this process's. */
  readonly hasher?: Hasher;
}

/**
 * The range in pieces of at most one MiB, reading one ahead. With a digest, the last piece is withheld until the whole
 * has matched.
 * @throws CorruptBlob instead of a piece that does not match, or when the file ends early; HashingLost instead of the
 * last piece if there is no digest to be had.
 */
export async function* readPieces(job: ReadJob): AsyncGenerator<Piece, void, void> {
  const { size, range, crcs, digest, hasher = processHasher } = job;
  const sha = digest !== null && range.start === 0 && range.end === size ? hasher.start(size) : null;
  const isThreaded = sha?.isThreaded === true;
  if (isThreaded) hashedReaders++;
  const ring = createRing(Math.min(CHUNK_BYTES, size), {
    depth: isThreaded ? hashedRingDepth : () => RING_DEPTH,
    buffers: job.mayShare !== true ? ownBuffers : isThreaded ? hashedBuffers : summedBuffers,
    signal: job.signal,
  });
  const last = Math.ceil(range.end / CHUNK_BYTES) - 1;
  const fetch = async (index: number): Promise<{ buffer: Buffer; bytes: Buffer }> => {
    const start = index * CHUNK_BYTES;
    const buffer = await ring.take();
    const bytes = buffer.subarray(0, Math.min(CHUNK_BYTES, size - start));
    await readFully(job.handle, bytes, start);
    return { buffer, bytes };
  };
  let ahead: ReturnType<typeof fetch> | undefined;
  try {
    for (let index = Math.floor(range.start / CHUNK_BYTES); index <= last; index++) {
      const { buffer, bytes } = await (ahead ?? fetch(index));
      ahead = index < last ? fetch(index + 1) : undefined;
      ahead?.catch(() => {}); // reported when its turn comes, or of no interest any more
      if (crcs !== null && crc32(bytes) !== crcs[index]) {
        throw new CorruptBlob(`CRC-32 of MiB ${index} does not match`);
      }
      let users = sha === null ? 1 : 2;
      const release = (): void => {
        if (--users === 0) ring.give(buffer);
      };
      sha?.update(bytes, release);
      if (index === last && sha !== null && (await sha.digest()) !== digest) {
        throw new CorruptBlob("SHA-256 does not match");
      }
      const start = index * CHUNK_BYTES;
      yield {
        bytes: bytes.subarray(Math.max(0, range.start - start), range.end - start),
        release,
      };
    }
  } finally {
    if (isThreaded) hashedReaders--;
    sha?.end();
    ring.close();
    // The descriptor and the buffer are in use until this read has ended.
    await ahead?.then(
      ({ buffer }) => ring.give(buffer),
      () => {},
    );
  }
}

/** A blob of at most one MiB, read and checked as a whole. @throws CorruptBlob */
export async function readSmall(handle: DiskFile, size: number, digest: string | null): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size);
  await readFully(handle, bytes, 0);
  if (digest !== null && hash("sha256", bytes) !== digest) throw new CorruptBlob("SHA-256 does not match");
  return bytes;
}

/** Reads all there is, from the first byte to wherever the file ends now, whatever its size was when it was opened. */
export async function readSums(
  { handle, size }: { readonly handle: DiskFile; readonly size: number },
  signal?: AbortSignal,
): Promise<Checksums> {
  const sums = createSums();
  const pieceBytes = Math.max(1, Math.min(CHUNK_BYTES, size));
  const ring = createRing(pieceBytes, { depth: () => RING_DEPTH, buffers: ownBuffers, signal });
  const fetch = async (position: number): Promise<{ buffer: Buffer; bytesRead: number }> => {
    const buffer = await ring.take();
    return { buffer, bytesRead: (await handle.read(buffer, 0, pieceBytes, position)).bytesRead };
  };
  let position = 0;
  let ahead = fetch(0);
  try {
    for (;;) {
      const { buffer, bytesRead } = await ahead;
      if (bytesRead === 0) {
        ring.give(buffer);
        return sums.finish();
      }
      position += bytesRead;
      ahead = fetch(position);
      ahead.catch(() => {}); // reported by the next turn
      sums.update(buffer.subarray(0, bytesRead));
      ring.give(buffer);
    }
  } finally {
    ring.close();
    await ahead.catch(() => {});
  }
}

async function readFully(handle: DiskFile, buffer: Buffer, position: number): Promise<void> {
  for (let done = 0; done < buffer.byteLength;) {
    const { bytesRead } = await handle.read(buffer, done, buffer.byteLength - done, position + done);
    if (bytesRead === 0)
      throw new CorruptBlob(`the file ends at ${position + done}, before its announced size`);
    done += bytesRead;
  }
}

/** Readers in this process whose bytes are hashed on the thread. */
let hashedReaders = 0;

/** With many of them so few for each that there are enough shared buffers: some send while others hash. */
const hashedRingDepth = (): number =>
  Math.max(1, Math.min(HASHED_RING_DEPTH, Math.floor(THREADED_BODIES_MAX / hashedReaders)));

interface Ring {
  /** The next free buffer; rejects once the signal aborts or the ring is closed, also while waiting. */
  take(): Promise<Buffer>;
  give(buffer: Buffer): void;
  /** Free buffers go to the next reader; those still out follow when they are given back. */
  close(): void;
}

function createRing(
  bytes: number,
  options: {
    readonly depth: () => number;
    readonly buffers: Buffers;
    readonly signal: AbortSignal | undefined;
  },
): Ring {
  const { depth, buffers, signal } = options;
  const free: Buffer[] = [];
  let made = 0;
  let closed = false;
  let wake: (() => void) | undefined;
  const onAbort = (): void => wake?.();
  signal?.addEventListener("abort", onAbort, { once: true });

  return {
    async take() {
      for (;;) {
        signal?.throwIfAborted();
        if (closed) throw new Error("the reader has left");
        const buffer = free.pop();
        if (buffer !== undefined) return buffer;
        if (made < depth()) {
          made++;
          return buffers.take(bytes);
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    give(buffer) {
      if (closed || made > depth()) {
        made--;
        buffers.give(buffer);
      } else {
        free.push(buffer);
        wake?.();
      }
    },
    close() {
      closed = true;
      signal?.removeEventListener("abort", onAbort);
      for (const buffer of free.splice(0)) buffers.give(buffer);
      wake?.();
    },
  };
}
