/**
 * What archives in folders and in tar files have in common on a disk: names, modes, and streams that are hashed as they
 * pass. Knows no format.
 */

import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { DocyardError } from "@docyard/core";
import { readFilePart, writeFully } from "./files.ts";

/** The digests, server keys and sealed secrets in an archive are its owner's alone; so are other people's files. */
export const FILE_MODE = 0o600;
export const FOLDER_MODE = 0o700;
/** The manifest's name in every archive. */
export const MANIFEST_NAME = "docyard-archive.json";

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

/** Chunks of a part of an archive's file; each is new. @throws DocyardError `data_loss` where it ends before that */
export function readPart(
  handle: FileHandle,
  start: number,
  size: number,
): AsyncGenerator<Uint8Array, void, void> {
  return readFilePart(handle, start, size, () => damaged("it ends too early"));
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
