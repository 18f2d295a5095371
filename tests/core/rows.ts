/**
 * Artifact rows for tests that need one without a use case making it: plain data with sensible fields.
 * Rows that went through `create` and `complete` come from world.ts.
 */

import type { Artifact } from "@docyard/core";

/** Midday of a summer's day in 2026, so that day boundaries are far away. */
export const NOON: number = Date.UTC(2026, 5, 15, 12);

/** A `created` upload of the machine face; `over` replaces fields. */
export function artifactRow(over: Partial<Artifact>): Artifact {
  const name = over.id?.slice(4).toLowerCase() ?? "0";
  return {
    id: "art_0",
    dockId: "dock_a",
    face: "machine",
    version: 1,
    status: "created",
    filename: "a.txt",
    contentType: "text/plain",
    size: null,
    digest: null,
    metadata: {},
    mediaType: null,
    source: { kind: "upload" },
    durationMs: null,
    failure: null,
    uploadId: `upload_${name}`,
    stagingKey: `incoming/upload_${name}`,
    storageKey: `docks/${over.dockId ?? "dock_a"}/artifacts/2026-06-15/${name}`,
    blobKey: null,
    sharesBlob: false,
    duplicateOf: null,
    attempts: 0,
    dueAt: null,
    createdBy: "mc_0",
    createdAt: NOON,
    updatedAt: NOON,
    ...over,
  };
}
