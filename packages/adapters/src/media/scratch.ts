/**
 * Scratch files of the media drivers: named, read once, and gone afterwards whatever happens in between.
 * Knows files only, nothing of media.
 */

import type { MediaInput } from "@docyard/core";
import { randomUUID } from "node:crypto";
import { createReadStream, mkdirSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { open, readdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { codeOf } from "../error-code.ts";

export interface ScratchFile {
  readonly path: string;
  /** The bytes, once; the file is removed when they have been read, when reading fails, or when it is given up. */
  body(): AsyncIterable<Uint8Array>;
  /** Harmless to repeat. */
  remove(): Promise<void>;
}

export interface Scratch {
  /** A new name in the folder, which is there then; no file is created yet. `extension` with its dot. */
  file(extension?: string): ScratchFile;
  /** Removes what is left. */
  close(): Promise<void>;
}

/** Files carry this prefix, so that leftovers of a crash can be told from other things in the folder. */
const PREFIX = "docyard-media-";
/** Clients' media are in it for a while. */
const FOLDER_MODE = 0o700;
/** Milliseconds after which a file that nobody has written to belongs to no living process: no join takes a day. */
const LEFTOVER_AGE_MS = 86_400_000;

/**
 * Also begins to remove what processes that were killed have left in the folder; and again with a new file, once a day.
 * @param now milliseconds from any moment on
 */
export function openScratch(folder: string, now: () => number = () => performance.now()): Scratch {
  const files = new Set<ScratchFile>();
  let tidiedAt = now();
  let tidying = removeLeftovers(folder);
  return {
    file(extension = "") {
      if (now() - tidiedAt >= LEFTOVER_AGE_MS) {
        tidiedAt = now();
        tidying = removeLeftovers(folder);
      }
      // Each time: a folder below /tmp is taken away by the system when nothing has been in it for some days.
      makeFolder(folder);
      const path = join(folder, `${PREFIX}${randomUUID()}${extension}`);
      const file: ScratchFile = {
        path,
        body: () => readOnce(path, () => file.remove()),
        async remove() {
          files.delete(file);
          await rm(path, { force: true });
        },
      };
      files.add(file);
      return file;
    },
    async close() {
      await tidying;
      await Promise.all([...files].map((file) => file.remove()));
    },
  };
}

/** Level by level: Node's recursive `mkdir` never returns where a folder takes no others, as in /proc. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: FOLDER_MODE });
  } catch (error) {
    if (codeOf(error) === "EEXIST") return;
    if (codeOf(error) !== "ENOENT" || dirname(folder) === folder) throw error;
    makeFolder(dirname(folder));
    mkdirSync(folder, { mode: FOLDER_MODE });
  }
}

/** Never rejects: a folder that cannot be used says so when a file is made in it. */
async function removeLeftovers(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((one) => one.startsWith(PREFIX))) {
    const path = join(folder, name);
    const age = await stat(path).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    );
    if (age > LEFTOVER_AGE_MS) await rm(path, { force: true }).catch(() => {});
  }
}

/** Not a generator: one that has not begun would end without removing its file. */
function readOnce(path: string, remove: () => Promise<void>): AsyncIterable<Uint8Array> {
  const stream = createReadStream(path);
  // Whoever iterates hears of it; until then nobody does.
  stream.on("error", () => undefined);
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  const end = async (): Promise<void> => {
    stream.destroy();
    await remove();
  };
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      try {
        const next = await chunks.next();
        if (next.done === true) await end();
        return next;
      } catch (error) {
        await end();
        throw error;
      }
    },
    async return() {
      await end();
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

/** What `writeWhole` needs of an open file; `node:fs/promises` hands out such. */
export type WritableFile = Pick<FileHandle, "write">;

/** All of these bytes, at their place: a disk that is nearly full takes a part, and says so by the count alone. */
export async function writeWhole(file: WritableFile, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written);
    if (bytesWritten === 0) throw new Error("the disk takes no bytes");
    written += bytesWritten;
  }
}

/** Where a writer that goes back and forth puts its pieces. */
export interface Sink {
  readonly stream: WritableStream<{ readonly data: Uint8Array; readonly position: number }>;
  /** Why the disk took no more, or null: writers tell it late, and in words of their own. */
  fault(): unknown;
}

/** Every piece whole, or a failure. Whoever opened the file closes it. */
export function sinkOf(file: WritableFile): Sink {
  let fault: unknown = null;
  const write = ({ data, position }: { data: Uint8Array; position: number }): Promise<void> =>
    writeWhole(file, data, position).catch((error: unknown) => {
      fault ??= error;
      throw error;
    });
  return { stream: new WritableStream({ write }), fault: () => fault };
}

/** What a client is told of `isFull`. */
export const SCRATCH_IS_FULL = "There is no space left on the scratch disk";

/** Whether a write failed for want of room, which takes an operator and passes. */
export function isFull(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT"].includes(codeOf(error));
}

/** A file on disk as a `MediaInput`; whoever opens it closes it. */
export async function fileInput(path: string): Promise<MediaInput & { close(): Promise<void> }> {
  const handle = await open(path, "r");
  const { size } = await handle.stat();
  return {
    size,
    async read(start, end) {
      const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start));
      let filled = 0;
      while (filled < bytes.length) {
        const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, start + filled);
        if (bytesRead === 0) return bytes.subarray(0, filled);
        filled += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}
