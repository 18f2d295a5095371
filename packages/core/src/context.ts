/**
 * What every use case works with: the ports, the settings, time and identity, and the few rules that all of them share.
 * Internal to core; `docyard.ts` makes it once.
 */

import type { Artifact, ArtifactChange, ArtifactSummary, EventType, NewEvent } from "./artifact.ts";
import { nextStatus } from "./artifact.ts";
import { DocyardError } from "./errors.ts";
import type { IdSource } from "./id.ts";
import type { JsonObject } from "./json.ts";
import type { AccountStore, ArtifactStore, BlobStore, Queue, RateLimit, SignedUrl } from "./ports.ts";
import type { Principal } from "./access.ts";
import type { Settings } from "./settings.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS } from "./settings.ts";

export interface Context {
  readonly artifacts: ArtifactStore;
  readonly accounts: AccountStore;
  readonly blobs: BlobStore;
  readonly queue: Queue;
  readonly limit: RateLimit;
  readonly settings: Settings;
  readonly ids: IdSource;
  /** From 0 up to 1. */
  readonly random: () => number;
  /** Milliseconds since 1970 UTC. */
  readonly now: () => number;
}

/** A guarded write that keeps missing means that something else keeps winning: more than a few rounds is a bug. */
export const ROUNDS_MAX = 8;

export function newEvent(
  { now }: Context,
  type: EventType,
  by: string | null,
  data: JsonObject = {},
): NewEvent {
  return { type, at: now(), by, data };
}

const LIMIT_NOUNS: Record<keyof Settings["limits"], string> = {
  list: "list requests",
  download: "downloads",
  token: "tokens",
  studio: "requests",
  studioDaily: "requests",
};

/** @throws DocyardError `resource_exhausted` when this principal has used the limit up. */
export async function takeLimit(
  { limit, settings }: Context,
  name: keyof Settings["limits"],
  principalId: string,
): Promise<void> {
  const rule = settings.limits[name];
  if (rule.max === 0) return;
  const taken = await limit.take(`${name}:${principalId}`, rule);
  if (taken.allowed) return;
  throw new DocyardError(
    "resource_exhausted",
    `Rate limit exceeded: ${rule.max} ${LIMIT_NOUNS[name]} per ${windowName(rule.windowMs)}`,
    { retryAfterMs: taken.retryAfterMs, principalId },
  );
}

function windowName(ms: number): string {
  if (ms === DAY_MS) return "day";
  if (ms === HOUR_MS) return "hour";
  if (ms === MINUTE_MS) return "minute";
  return `${ms / 1_000} seconds`;
}

/** A URL for the bytes of a completed artifact, null for any other (ruling 7: valid from this request on). */
export async function signDownload(
  { blobs, settings, now }: Context,
  artifact: ArtifactSummary,
  principal: Principal,
): Promise<SignedUrl | null> {
  const { status, blobKey, size, digest } = artifact;
  if (status !== "upload_completed" || blobKey === null || size === null || digest === null) return null;
  return blobs.signGet(blobKey, {
    expiresAt: now() + settings.urlTtlMs,
    filename: artifact.filename,
    contentType: artifact.contentType,
    size,
    digest,
    artifactId: artifact.id,
    principalId: principal.id,
  });
}

/** Rings the doorbell. A ring that is lost costs time and nothing else, so a queue that is down fails nobody's call. */
export async function ring({ queue }: Context, id: string, delayMs = 0): Promise<void> {
  try {
    await queue.push(id, { delayMs });
  } catch {
    // The row is due, and the sweep rings again; `ready` tells the operator.
  }
}

/** What makes a row a tombstone, whose bytes go after the grace period unless another artifact shares them. */
export function tombstone(
  { now, settings }: Context,
  artifact: Pick<Artifact, "id" | "status">,
): ArtifactChange {
  return {
    status: nextStatus(artifact, "remove"),
    failure: null,
    dueAt: now() + settings.graceMs,
    updatedAt: now(),
  };
}

/** Whether the bytes of a completed artifact are still what the store can tell at a glance. */
export async function isThere({ blobs }: Context, { blobKey, size, digest }: Artifact): Promise<boolean> {
  const info = blobKey === null ? null : await blobs.stat(blobKey);
  return info !== null && info.size === size && (info.digest === null || info.digest === digest);
}

/**
 * Before others rely on the bytes of a completed artifact: where they are lost or damaged, and the same are at `from`,
 * they are put back, the one time that a final key is written twice. False when `from` holds something else by now.
 */
export async function hasBytesOr(context: Context, holder: Artifact, from: string): Promise<boolean> {
  if (await isThere(context, holder)) return true;
  const { blobKey, size, digest } = holder;
  return context.blobs.copy(from, blobKey!, { size: size!, digest: digest! });
}

/** Deletes bytes that no completed row claims. */
export async function dropUnlessUsed({ artifacts, blobs }: Context, blobKey: string): Promise<void> {
  if (!(await artifacts.isBlobInUse(blobKey))) await blobs.delete(blobKey);
}

export function sizeLimitError(sizeMax: number): DocyardError {
  return new DocyardError("too_large", `File size exceeds the limit of ${sizeMax} bytes`);
}

/** One `invalid_argument` for several faults. */
export function invalid(issues: readonly string[]): DocyardError {
  return new DocyardError("invalid_argument", issues.join("; "), { issues });
}

/** What callers see of a bug; `reason` is for the log. */
export function bug(reason: string): DocyardError {
  return new DocyardError("internal", "Internal server error", { cause: new Error(reason) });
}

/** A client's own text inside a message: short, so that a message stays one line. */
export function shown(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
