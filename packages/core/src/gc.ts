/**
 * Garbage collection: final bytes that no artifact wants. In everyday life the sweep leaves none; what is left is a crash
 * between two calls of one request, followed by a client that sends other bytes. Walks all blobs, so it is an operator's
 * call, and safe beside a running server.
 */

import type { Artifact } from "./artifact.ts";
import { FINAL_PREFIX } from "./blob-keys.ts";
import { blobPages } from "./blob-pages.ts";
import type { Context } from "./context.ts";
import type { ArtifactStore } from "./ports.ts";

export interface GarbageOptions {
  /** Count only. Default true: what is deleted is gone. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  /** Called now and then with what has been seen so far. */
  readonly onProgress?: (report: GarbageReport) => void;
}

export interface GarbageReport {
  /** Blobs seen. */
  readonly looked: number;
  /** Blobs that no artifact wants, and their bytes. */
  readonly garbage: number;
  readonly bytes: number;
  /** Blobs of artifacts that the store does not know. Never removed: the store may be an older backup. */
  readonly strangers: number;
}

/** Rejects with the signal's reason when it aborts; what was removed by then stays removed. */
export async function collectGarbage(
  context: Context,
  { dryRun = true, signal, onProgress }: GarbageOptions = {},
): Promise<GarbageReport> {
  const { artifacts, blobs, now, settings } = context;
  let report: GarbageReport = { looked: 0, garbage: 0, bytes: 0, strangers: 0 };
  for await (const page of blobPages(blobs, FINAL_PREFIX, { signal })) {
    for (const { key, size } of page) {
      const claim = await claimOn(artifacts, key, now() - settings.graceMs);
      report = { ...report, looked: report.looked + 1 };
      if (claim === "stranger") {
        report = { ...report, strangers: report.strangers + 1 };
      } else if (claim === "unwanted") {
        report = { ...report, garbage: report.garbage + 1, bytes: report.bytes + size };
        if (!dryRun) await blobs.delete(key);
      }
    }
    onProgress?.(report);
  }
  return report;
}

/**
 * Who wants the bytes at a final key: `wanted` by an artifact, or perhaps still; `unwanted` by anyone for good;
 * `stranger`: the store knows no artifact that could have made it.
 * @param endedBefore rows that have ended since, in milliseconds since 1970 UTC, may still want everything
 */
export async function claimOn(
  artifacts: Pick<ArtifactStore, "get" | "isBlobInUse">,
  key: string,
  endedBefore: number,
): Promise<"wanted" | "unwanted" | "stranger"> {
  const id = ownerOf(key);
  const owner = id === null ? null : await artifacts.get({ id });
  if (owner === null) return (await artifacts.isBlobInUse(key)) ? "wanted" : "stranger";
  if (owner.status === "upload_completed" && owner.blobKey === key) return "wanted";
  return hasEnded(owner, endedBefore) && !(await artifacts.isBlobInUse(key)) ? "unwanted" : "wanted";
}

/** Only a row that has ended for good publishes nothing more: until then any of its copies may be the one. */
function hasEnded({ status, updatedAt }: Artifact, before: number): boolean {
  return status !== "created" && status !== "upload_started" && updatedAt <= before;
}

/** The artifact whose `storageKey` a final key begins with, or null for a key that no artifact of ours can have. */
function ownerOf(key: string): string | null {
  const [, , kind, ...rest] = key.split("/");
  if (kind === "uploads") return rest[0] ?? null;
  const name = /^([0-9a-z]{26})-[0-9a-f]{64}$/.exec(rest.at(-1) ?? "")?.[1];
  return kind === "artifacts" && name !== undefined ? `art_${name.toUpperCase()}` : null;
}
