/**
 * Where bytes lie in a blob store: the shape of every key that docyard makes. Who writes under a key, and when what is
 * there goes, is left to the use cases; which characters a key may have is the adapters' affair.
 */

import type { Artifact, MediaType } from "./artifact.ts";

/** Uploads and a worker's unfinished bytes live below this. */
export const STAGING_PREFIX = "incoming/";
/** What is final lives below this. */
export const FINAL_PREFIX = "docks/";

/** Everything that a worker's attempts at an artifact stage lives in here; nobody else writes there. */
export function attemptsFolder({ id }: Artifact): string {
  return `${STAGING_PREFIX}${id}/`;
}

/** Where the present attempt stages what will be published. */
export function attemptKey(artifact: Artifact): string {
  return `${attemptsFolder(artifact)}${artifact.attempts}`;
}

/** Where it stages one fragment of that. */
export function fragmentKey(artifact: Artifact, index: number): string {
  return `${attemptKey(artifact)}.${index}`;
}

/** Where a presigned upload of a dock lands. */
export function presignedKey(dockId: string, id: string): string {
  return `${STAGING_PREFIX}${id}.${dockId}`;
}

/** Final keys name their content: whoever writes one writes the same bytes, and `sha256sum` can check a folder by eye. */
export function ownBlobKey(artifact: Artifact, digest: string): string {
  return `${artifact.storageKey}-${digest}`;
}

/** The `storageKey` of a Studio artifact: a folder of its own, so that what attempts leave behind is found by listing it. */
export function studioStorageKey(dockId: string, id: string, mediaType: MediaType): string {
  return `${FINAL_PREFIX}${dockId}/uploads/${id}/${mediaType}`;
}

/**
 * The `storageKey` of a machine's artifact. One folder per dock and hour: easy to find and back up by hand, and never
 * millions of names in one folder.
 */
export function machineStorageKey(dockId: string, id: string, createdAt: number): string {
  const name = id.slice(id.indexOf("_") + 1).toLowerCase();
  return `${FINAL_PREFIX}${dockId}/artifacts/${hourFolder(Math.floor(createdAt / HOUR_MS))}/${name}`;
}

const HOUR_MS = 3_600_000;

/** Most keys are of the same hour as the one before, and printing a moment takes longer than all else in a key. */
let lastHour = { hour: Number.NaN, folder: "" };

/** @param hour since 1970 UTC */
function hourFolder(hour: number): string {
  if (hour !== lastHour.hour) {
    const folder = new Date(hour * HOUR_MS).toISOString().slice(0, 13).replace("T", "/");
    lastHour = { hour, folder };
  }
  return lastHour.folder;
}
