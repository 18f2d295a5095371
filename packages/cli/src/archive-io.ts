/**
 * What archives in folders and in tar files have in common on a disk: streams that are hashed as they pass, and names
 * that appear only when everything below them is durable. Knows no format.
 */

import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { DocyardError } from "@docyard/core";

/** The digests, server keys and sealed secrets in an archive are its owner's alone; so are other people's files. */
export const FILE_MODE = 0o600;
export const FOLDER_MODE = 0o700;
/** The manifest's name in every archive. */
export const MANIFEST_NAME = "docyard-archive.json";
/** Bytes read at a time. */
const CHUNK_BYTES = 1024 ** 2;

/** Where a blob lies in an archive: never many thousands of names in one folder. */
export function blobName(digest: string): string {
  return `blobs/${digest.slice(0, 2)}/${digest}`;
}

/** Writes a body from a position on, and says what it was. */
export async function writeBody(
  handle: FileHandle,
  position: number,
  body: AsyncIterable<Uint8Array>,
): Promise<{ readonly size: number; readonly digest: string }> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of body) {
    const writing = writeFully(handle, chunk, position + size);
    hash.update(chunk);
    await writing;
    size += chunk.byteLength;
  }
  return { size, digest: hash.digest("hex") };
}

export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

/** Chunks of a part of a file; each is new. */
export async function* readPart(
  handle: FileHandle,
  start: number,
  size: number,
): AsyncGenerator<Uint8Array, void, void> {
  for (let done = 0; done < size;) {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - done));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start + done);
    if (bytesRead === 0) throw damaged("it ends too early");
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** The same bytes; rejects before its end unless they were what the digest says. */
export async function* verified(
  body: AsyncIterable<Uint8Array>,
  digest: string,
): AsyncGenerator<Uint8Array, void, void> {
  const hash = createHash("sha256");
  for await (const chunk of body) {
    hash.update(chunk);
    yield chunk;
  }
  if (hash.digest("hex") !== digest) throw damaged(`the bytes of ${digest} are not what they were`);
}

export function damaged(why: string): DocyardError {
  return new DocyardError("data_loss", `The archive is damaged: ${why}`);
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

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
