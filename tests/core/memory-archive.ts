/** An archive in memory, with the promises of one on a disk: what is not finished is no archive, what is wrong is refused. */

import type { ArchiveReader, ArchiveWriter } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { sha256 } from "./world.ts";

export interface MemoryArchive extends ArchiveWriter {
  readonly blobs: Map<string, Uint8Array<ArrayBuffer>>;
  readonly records: Map<string, Uint8Array>;
  isComplete(): boolean;
  /** @throws Error while it is not complete */
  reader(): ArchiveReader;
}

export function memoryArchive(): MemoryArchive {
  const blobs = new Map<string, Uint8Array<ArrayBuffer>>();
  const records = new Map<string, Uint8Array>();
  let manifest: Uint8Array | null = null;
  const readRecords = async (name: string): Promise<Uint8Array> => {
    const bytes = records.get(name);
    if (bytes === undefined)
      throw new DocyardError("data_loss", `The archive is damaged: ${name} is missing`);
    return bytes;
  };
  return {
    blobs,
    records,
    holds: async (digest, size) => blobs.get(digest)?.length === size,
    async writeBlob({ digest, size }, body) {
      const bytes = await collect(body);
      const actual = { size: bytes.length, digest: await sha256(bytes) };
      if (actual.digest === digest && actual.size === size) blobs.set(digest, bytes);
      return actual;
    },
    async writeRecords(name, bytes) {
      if (records.has(name)) throw new Error(`${name} is written twice`);
      records.set(name, bytes);
    },
    readRecords,
    async finish(bytes) {
      manifest = bytes;
    },
    isComplete: () => manifest !== null,
    reader() {
      if (manifest === null) throw new Error("the archive is not complete");
      return {
        manifest,
        readRecords,
        async readBlob(digest) {
          const bytes = blobs.get(digest);
          if (bytes === undefined) return null;
          const body = async function* (): AsyncGenerator<Uint8Array, void, void> {
            yield bytes.subarray(0, 1);
            if ((await sha256(bytes)) !== digest)
              throw new DocyardError("data_loss", "damaged in the archive");
            yield bytes.subarray(1);
          };
          return { size: bytes.length, body: body() };
        },
      };
    },
  };
}

export async function collect(body: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(new Uint8Array(chunk));
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
