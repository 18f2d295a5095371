/**
 * Streams a body into a new temporary file: hashed and cut at its limit on the way, and synced before it resolves.
 * Naming the file is left to `disk-files.ts`; whatever fails here leaves no file behind.
 */

import { createHash, hash } from "node:crypto";
import { ArrivedBody, eachChunk } from "./body.ts";
import { crc32 } from "./crc32.ts";
import type { DiskFile, DiskIo } from "./disk-io.ts";
import type { ChunkMemory } from "./serve.ts";
import { tooLarge } from "./serve.ts";
import type { Sidecar } from "./sidecar.ts";
import { CHUNK_BYTES, fingerprintOf, printSidecar } from "./sidecar.ts";

/** Bytes per write: larger gains nothing, smaller costs calls. One is in flight while the next is hashed. */
const GROUP_BYTES_MAX = 2 * 1024 * 1024;
/** … and with many uploads at once so few that all of them together hold about this much twice, within reason. */
const GROUPS_BYTES = 4 * 1024 * 1024;
const GROUP_BYTES_MIN = 128 * 1024;
/**
 * Bytes after which what has been written is sent on to the disk while more comes. Left to itself the kernel keeps a
 * body of some GiB in memory until the sync at its end, which then takes as long again as the body took to come, and
 * other syncs stand behind it. Each costs the file system a commit of its own, so not too few.
 */
const SYNC_AHEAD_BYTES = 16 * 1024 * 1024;
/** Chunks per write: a body that comes byte by byte must not pile up a million small buffers. */
const GROUP_CHUNKS = 256;
/** Files are the server's own; whoever may read them beside it is the operator's choice (umask). */
const FILE_MODE = 0o640;

export interface WriteOptions {
  /** Bytes; one more is refused. */
  readonly sizeMax: number;
  /** Bytes that were announced; 0 where nothing was. Only a hint. */
  readonly announced?: number;
  readonly signal?: AbortSignal | undefined;
  /** Of the body's chunks; what is lent is copied. */
  readonly memory: ChunkMemory;
}

/** Writes and syncs the body at `path`, which must not exist. @throws DocyardError `too_large` */
export async function writeBlobFile(
  io: DiskIo,
  path: string,
  body: AsyncIterable<Uint8Array>,
  options: WriteOptions,
): Promise<Sidecar> {
  if (body instanceof ArrivedBody && body.bytes.byteLength <= GROUP_BYTES_MIN) {
    return writeArrived(io, path, body.bytes, options.sizeMax);
  }
  const { announced = 0 } = options;
  const isOneWrite = announced > 0 && announced <= GROUP_BYTES_MIN;
  return createFile(io, path, isOneWrite, async (file) => {
    const sums = createSums();
    await writeStream(file, body, sums, options);
    if (!isOneWrite) await file.datasync();
    return { ...sums.finish(), file: fingerprintOf(await file.stat()) };
  });
}

/** A small body that is here: hashed while it is written. */
async function writeArrived(io: DiskIo, path: string, bytes: Uint8Array, sizeMax: number): Promise<Sidecar> {
  const size = bytes.byteLength;
  if (size > sizeMax) throw tooLarge(sizeMax);
  return orGone(io, path, async () => {
    const writing = io.createWhole(path, FILE_MODE, bytes);
    const digest = hash("sha256", bytes);
    // None for a sidecar, which only larger blobs have.
    return { size, digest, crcs: [], file: fingerprintOf(await writing) };
  });
}

/** Writes the body into the file as it comes, and adds it to the sums. */
async function writeStream(
  file: DiskFile,
  body: AsyncIterable<Uint8Array>,
  sums: Sums,
  { sizeMax, signal, memory }: WriteOptions,
): Promise<void> {
  const writer = createGroupWriter(file, memory !== "shared");
  writers++;
  try {
    await eachChunk(body, signal, (chunk) => {
      if (sums.size() + chunk.byteLength > sizeMax) throw tooLarge(sizeMax);
      const kept = memory === "lent" ? Buffer.from(chunk) : chunk;
      sums.update(kept);
      return writer.push(kept);
    });
    await writer.flush();
  } finally {
    writers--;
    await writer.settle();
  }
}

/** Writes and syncs a sidecar at `path`, which must not exist. */
export async function writeSidecarFile(io: DiskIo, path: string, sidecar: Sidecar): Promise<void> {
  await createFile(io, path, true, async (file) => {
    await writeWhole(file, [Buffer.from(printSidecar(sidecar))], 0);
  });
}

interface Sums {
  update(bytes: Uint8Array): void;
  size(): number;
  finish(): { size: number; digest: string; crcs: number[] };
}

/** SHA-256 of the whole and CRC-32 of each MiB, in one pass. */
export function createSums(): Sums {
  const sha = createHash("sha256");
  const crcs: number[] = [];
  let size = 0;
  let crc = 0;
  return {
    update(bytes) {
      sha.update(bytes);
      for (let at = 0; at < bytes.byteLength;) {
        const part = bytes.subarray(at, at + CHUNK_BYTES - (size % CHUNK_BYTES));
        crc = crc32(part, crc);
        at += part.byteLength;
        size += part.byteLength;
        if (size % CHUNK_BYTES === 0) {
          crcs.push(crc);
          crc = 0;
        }
      }
    },
    size: () => size,
    finish: () => ({
      size,
      digest: sha.digest("hex"),
      crcs: size % CHUNK_BYTES === 0 ? crcs : [...crcs, crc],
    }),
  };
}

/**
 * Opens a new file for `fill`, if need be one that syncs each write, and closes it; if anything fails, also the close,
 * the file is gone again.
 */
async function createFile<T>(
  io: DiskIo,
  path: string,
  isSynced: boolean,
  fill: (file: DiskFile) => Promise<T>,
): Promise<T> {
  const file = await (isSynced ? io.createSyncedFile(path, FILE_MODE) : io.createFile(path, FILE_MODE));
  return orGone(io, path, async () => {
    try {
      return await fill(file);
    } finally {
      await file.close();
    }
  });
}

/** Work on a new file, which is gone again where it fails. */
async function orGone<T>(io: DiskIo, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // Never used again after a failed sync: the kernel may have dropped the pages and forgotten it (fsyncgate).
    await io.unlink(path).catch(() => {});
    throw error;
  }
}

/** Uploads under way in this process. */
let writers = 0;
/** Whether one of them is being synced ahead: a second one would take another thread of the pool, and gain nothing. */
let isSyncingAhead = false;

async function writeWhole(file: DiskFile, chunks: readonly Uint8Array[], at: number): Promise<void> {
  const length = chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const { bytesWritten } = await file.writev(chunks, at);
  if (bytesWritten === length) return;
  // libuv goes on after a short write and keeps the reason to itself, a full disk as a rule. Writing the rest brings it
  // to light.
  const rest = Buffer.concat(chunks).subarray(bytesWritten);
  const more = await file.writev([rest], at + bytesWritten);
  if (more.bytesWritten !== rest.byteLength) {
    throw new Error(`the disk took ${bytesWritten + more.bytesWritten} of ${length} bytes`);
  }
}

/**
 * Gives memory back at once. Left to the collector, a body that comes in pieces of 64 KiB makes it run fifty times a GiB,
 * which takes longer than hashing it.
 */
function letGo(chunks: readonly Uint8Array[]): void {
  for (const { buffer, byteLength } of chunks) {
    // Small ones lie together in a pool of Node's.
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
  }
}

/**
 * Gathers chunks into writes of up to 2 MiB, with one in flight, and syncs long bodies while they come.
 * @param areOurs whether nobody else needs the chunks once they are written
 */
function createGroupWriter(
  file: DiskFile,
  areOurs: boolean,
): {
  /** A promise where the writing has to be waited for. */
  push(chunk: Uint8Array): Promise<void> | undefined;
  flush(): Promise<void>;
  settle(): Promise<void>;
} {
  let group: Uint8Array[] = [];
  let bytes = 0;
  let position = 0;
  let inFlight: Promise<void> = Promise.resolve();
  let syncedTo = 0;
  let syncing: Promise<void> = Promise.resolve();

  const write = async (chunks: readonly Uint8Array[], at: number): Promise<void> => {
    await writeWhole(file, chunks, at);
    if (areOurs) letGo(chunks);
  };
  const start = async (): Promise<void> => {
    await inFlight;
    const isSyncDue = position - syncedTo >= SYNC_AHEAD_BYTES;
    // Where nobody is syncing, this body's last sync has ended: the kernel tells of a failure once, and the next sync
    // would not know of it.
    if (isSyncDue && !isSyncingAhead) await syncing;
    if (isSyncDue && !isSyncingAhead) syncAhead();
    inFlight = write(group, position);
    inFlight.catch(() => {}); // reported by whoever awaits it next
    position += bytes;
    group = [];
    bytes = 0;
  };
  const syncAhead = (): void => {
    isSyncingAhead = true;
    syncedTo = position;
    syncing = file.datasync().finally(() => (isSyncingAhead = false));
    syncing.catch(() => {}); // the same
  };
  return {
    push(chunk) {
      group.push(chunk);
      bytes += chunk.byteLength;
      const enough = Math.max(GROUP_BYTES_MIN, Math.min(GROUP_BYTES_MAX, GROUPS_BYTES / writers));
      return bytes >= enough || group.length >= GROUP_CHUNKS ? start() : undefined;
    },
    async flush() {
      if (bytes > 0) await start();
      await Promise.all([inFlight, syncing]);
    },
    /** Waits for what is in flight, however it ends: its buffers and the descriptor are in use until then. */
    async settle() {
      await Promise.allSettled([inFlight, syncing]);
    },
  };
}
