/**
 * `MediaInput`s for tests: over bytes in memory, with a record of what was read, and over files.
 */

import { readFile } from "node:fs/promises";
import type { MediaInput } from "@docyard/core";

export interface WatchedInput extends MediaInput {
  /** Bytes read so far, and in how many reads. */
  readonly seen: { bytes: number; reads: number };
}

export function bytesInput(bytes: Uint8Array): WatchedInput {
  const seen = { bytes: 0, reads: 0 };
  return {
    size: bytes.length,
    seen,
    read: async (start, end) => {
      seen.bytes += end - start;
      seen.reads += 1;
      return Uint8Array.from(bytes.subarray(start, end));
    },
  };
}

export async function fileBytes(path: string): Promise<WatchedInput> {
  return bytesInput(await readFile(path));
}
