/**
 * What the disk store gives to the service of its signed URLs: uploads into files, verified downloads out of them.
 * A lost or damaged sidecar is made anew here, by reading the blob once and comparing it to what the URL was signed for.
 */

import { readPieces, readSmall, readSums } from "./disk-read.ts";
import type { BlobFiles, OpenFile } from "./disk-files.ts";
import type { OpenBlob, ServedBlobs } from "./serve.ts";
import { CorruptBlob } from "./serve.ts";
import { CHUNK_BYTES } from "./sidecar.ts";

export type VerifyReads = "full" | "chunks" | "off";

export interface DiskServed extends ServedBlobs {
  /** Closes every file that a download holds open. */
  closeAll(): Promise<void>;
}

interface Announced {
  readonly size: number;
  readonly digest: string;
}

export function createDiskServed(
  files: BlobFiles,
  verifyReads: VerifyReads,
  closing: AbortSignal,
): DiskServed {
  const openBlobs = new Set<OpenBlob>();
  /** Sidecars being made anew, so that many readers of one blob share one pass. */
  const healing = new Map<string, Promise<readonly number[]>>();

  /** The CRC-32 of each MiB of these announced bytes. */
  const chunkSums = async (
    key: string,
    opened: OpenFile,
    announced: Announced,
  ): Promise<readonly number[]> => {
    const sidecar = await files.readSidecar(key, opened.size);
    // Not necessarily made for this very file: a restored copy has the same bytes, or fails the checks to come.
    if (sidecar !== null && sidecar.digest === announced.digest) return sidecar.crcs;
    const id = `${key} ${opened.file.inode} ${opened.file.modified} ${announced.digest}`;
    let heal = healing.get(id);
    if (heal === undefined) {
      heal = rebuild(key, opened, announced).finally(() => healing.delete(id));
      healing.set(id, heal);
    }
    return heal;
  };

  const rebuild = async (key: string, opened: OpenFile, announced: Announced): Promise<readonly number[]> => {
    const sums = await readSums(opened, closing);
    if (sums.digest !== announced.digest) throw new CorruptBlob("SHA-256 does not match");
    // On a full or read-only disk the bytes are good all the same, and the next reader tries again.
    await files.writeSidecar(key, { ...sums, file: opened.file }).catch(() => {});
    return sums.crcs;
  };

  const piecesOf = async function* (
    key: string,
    opened: OpenFile,
    announced: Announced,
    close: () => Promise<void>,
    ...[range, signal]: Parameters<OpenBlob["pieces"]>
  ): ReturnType<OpenBlob["pieces"]> & AsyncGenerator {
    const { handle, size } = opened;
    if (size > CHUNK_BYTES) {
      const crcs = verifyReads === "off" ? null : await chunkSums(key, opened, announced);
      const digest = verifyReads === "full" ? announced.digest : null;
      yield* readPieces({ handle, size, range, crcs, digest, mayShare: true, signal });
      return;
    }
    const bytes = await readSmall(handle, size, verifyReads === "off" ? null : announced.digest);
    // All that will be needed is in memory.
    await close();
    if (range.end > range.start) yield { bytes: bytes.subarray(range.start, range.end), release: () => {} };
  };

  return {
    async receive(key, body, { sizeMax, announced, memory, signal, publish }) {
      files.pathFor(key);
      const staged = await files.stage(body, { sizeMax, announced, memory, signal });
      try {
        await publish(staged.sums);
      } catch (error) {
        await files.discard(staged);
        throw error;
      }
      await files.publish(key, staged);
      return { size: staged.sums.size, digest: staged.sums.digest };
    },

    async open(key, announced) {
      const opened = await files.open(key);
      if (opened === null) return null;
      if (opened.size !== announced.size) {
        await opened.handle.close();
        throw new CorruptBlob(`the file has ${opened.size} bytes instead of ${announced.size}`);
      }
      const blob: OpenBlob = {
        pieces: (range, signal) => piecesOf(key, opened, announced, () => blob.close(), range, signal),
        close: async () => {
          if (openBlobs.delete(blob)) await opened.handle.close();
        },
      };
      openBlobs.add(blob);
      return blob;
    },

    async closeAll() {
      await Promise.allSettled(Array.from(openBlobs, (blob) => blob.close()));
    },
  };
}
