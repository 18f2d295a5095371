/**
 * Lists blob files in key order, page by page, without walking what lies before the page.
 * Reads names, sizes and times; leaves out checksum files, hidden names and whatever else is no blob.
 *
 * A sidecar whose blob never got its name is listed under that name, with 0 bytes: a crash leaves one, and nobody would
 * ever find it otherwise. Deleting the key takes it away.
 */

import { join } from "node:path";
import type { DiskIo } from "./disk-io.ts";
import { unlessMissing } from "./disk-io.ts";
import { compareKeys, keyFault, SIDECAR_SUFFIX } from "./key.ts";

export interface ListedBlob {
  readonly key: string;
  readonly size: number;
  /** Milliseconds since 1970 UTC. */
  readonly modifiedAt: number;
}

export async function listFiles(
  io: DiskIo,
  root: string,
  prefix: string,
  { after = "", limit }: { readonly after?: string; readonly limit: number },
): Promise<ListedBlob[]> {
  const found: ListedBlob[] = [];

  /** `folder` is empty or ends in a slash. */
  const walk = async (folder: string): Promise<void> => {
    const entries = await unlessMissing(io.readdir(join(root, folder), { withFileTypes: true }));
    const names = new Set<string>();
    for (const entry of entries ?? []) {
      const key = folder + entry.name;
      if (entry.isDirectory() && keyFault(`${key}/x`) === null) names.add(`${key}/`);
      else if (entry.isFile()) {
        const name = key.endsWith(SIDECAR_SUFFIX) ? key.slice(0, -SIDECAR_SUFFIX.length) : key;
        if (keyFault(name) === null) names.add(name);
      }
    }
    // A folder sorts by its name and slash, exactly where its keys do.
    for (const name of [...names].sort(compareKeys)) {
      if (found.length >= limit) return;
      if (name.endsWith("/")) {
        const mayMatch = name.startsWith(prefix) || prefix.startsWith(name);
        if (mayMatch && (name > after || after.startsWith(name))) await walk(name);
      } else if (name.startsWith(prefix) && name > after) {
        const path = join(root, name);
        const blob = await unlessMissing(io.lstat(path));
        const stats = blob ?? (await unlessMissing(io.lstat(path + SIDECAR_SUFFIX)));
        if (stats !== null) {
          found.push({ key: name, size: blob?.size ?? 0, modifiedAt: Math.floor(stats.mtimeMs) });
        }
      }
    }
  };
  // Start as deep as the prefix allows.
  const start = prefix.slice(0, prefix.lastIndexOf("/") + 1);
  if (start === "" || keyFault(`${start}x`) === null) await walk(start);
  return found;
}
