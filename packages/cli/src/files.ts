/**
 * Files as several commands read and write them: in parts, whole or not at all, and with durable names. What is in a
 * file, and what a failure means to the operator, is left to the callers.
 */

import type { FileHandle } from "node:fs/promises";
import { link, open, rename, stat, unlink } from "node:fs/promises";

/** Bytes read at a time. */
const CHUNK_BYTES = 1024 ** 2;

/** Chunks of a part of a file; each is new. @param tooShort makes the error for a file that ends before the part does */
export async function* readFilePart(
  handle: FileHandle,
  start: number,
  size: number,
  tooShort: () => Error,
): AsyncGenerator<Uint8Array, void, void> {
  for (let done = 0; done < size;) {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - done));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start + done);
    if (bytesRead === 0) throw tooShort();
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Gives a file another name, which no other file has. @throws what the system says where one has it */
export async function nameNew(from: string, to: string): Promise<void> {
  try {
    // Not `rename` where it can be helped: a file that came meanwhile must not be replaced.
    await link(from, to);
  } catch (error) {
    // Memory sticks and some network drives give a file one name only.
    if (await isThere(to)) throw error;
    await rename(from, to);
    return;
  }
  await unlink(from);
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Bytes of a file, null where there is none. @throws what else the system says */
export async function fileSize(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
}

/** @throws as `fileSize` does */
export async function isThere(path: string): Promise<boolean> {
  return (await fileSize(path)) !== null;
}

/** Whether the system gave this reason, such as `ENOENT`. */
export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
