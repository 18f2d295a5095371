/**
 * What the tests of the blob stores share: temporary roots, a clock that can be turned, and a look at what lies on disk.
 * Cases of the port are in the conformance suite; here is nothing that asserts.
 */

import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DiskBlobs, DiskBlobsOptions } from "@docyard/adapters/blob/disk";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import type { OpenBlobs } from "@docyard/adapters/conformance/blob-store";
import { redeemBy } from "@docyard/adapters/conformance/blob-store";

export const SECRET: Uint8Array = new Uint8Array(32).fill(7);
export const BASE_URL = "https://files.example/below";

export interface DiskFixture {
  readonly root: string;
  readonly blobs: DiskBlobs;
  /** Moves the store's clock. */
  readonly turn: (ms: number) => void;
  readonly close: () => Promise<void>;
}

export async function openDisk(options: Partial<DiskBlobsOptions> = {}): Promise<DiskFixture> {
  const root = options.root ?? (await mkdtemp(join(tmpdir(), "docyard-blobs-")));
  let turned = 0;
  const blobs = await diskBlobs({
    root,
    baseUrl: BASE_URL,
    secret: SECRET,
    now: () => Date.now() + turned,
    ...options,
  });
  return {
    root,
    blobs,
    turn(ms) {
      turned += ms;
    },
    async close() {
      await blobs.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** Every file below a root, by relative path. */
export async function filesBelow(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
}

const SIDECAR_ABOVE = 1024 * 1024;

/** Every file below a root but the sidecars that belong there: next to a blob of more than one MiB. */
export async function strayFilesAndKeys(root: string): Promise<string[]> {
  const files = await filesBelow(root);
  const left: string[] = [];
  for (const file of files) {
    const blob = file.endsWith(".crc") ? file.slice(0, -".crc".length) : null;
    const belongs =
      blob !== null && files.includes(blob) && (await stat(join(root, blob))).size > SIDECAR_ABOVE;
    if (!belongs) left.push(file);
  }
  return left;
}

/** The disk store for the conformance suite. */
export async function openDiskForSuite(options: Partial<DiskBlobsOptions> = {}): Promise<OpenBlobs> {
  const disk = await openDisk(options);
  const { blobs, root } = disk;
  return {
    blobs,
    redeem: redeemBy(blobs.serve),
    leftovers: () => strayFilesAndKeys(root),
    wait: async (ms) => disk.turn(ms),
    close: () => disk.close(),
  };
}
