/**
 * What a dock holds, what it may hold, and for how long. Pure: the store keeps the counts with every change and asks
 * `requireQuota` in the same transaction, so that no race can overdraw a dock.
 */

import type { Artifact } from "./artifact.ts";
import { DocyardError } from "./errors.ts";
import type { JsonObject } from "./json.ts";

/** Counts of one dock, exact after every change. */
export interface Usage {
  /** Artifacts that are neither failed nor deleted. */
  readonly artifacts: number;
  /** Those among them that are not completed yet. */
  readonly open: number;
  /** Their sizes in bytes: real ones of completed artifacts, declared ones of open ones. Equal content counts each time. */
  readonly bytes: number;
}

/** Most that a dock may hold; what is absent is not limited. */
export type Quota = Partial<Usage>;

/** Artifacts that have ended (completed or failed) are deleted once they are this old and match. */
export interface RetentionRule {
  /** Milliseconds since their creation. */
  readonly afterMs: number;
  /** Metadata containment as `match` in filter.ts defines it; absent: every artifact. */
  readonly metadata?: JsonObject;
}

export const NO_USAGE: Usage = { artifacts: 0, open: 0, bytes: 0 };

/** What one artifact adds to its dock's usage; a row that is not there adds nothing. */
export function usageOf(artifact: Pick<Artifact, "status" | "size"> | null): Usage {
  switch (artifact?.status) {
    case "created":
    case "upload_started":
      return { artifacts: 1, open: 1, bytes: artifact.size ?? 0 };
    case "upload_completed":
      return { artifacts: 1, open: 0, bytes: artifact.size ?? 0 };
    default:
      return NO_USAGE;
  }
}

/** How usage changes when `before` becomes `after`. */
export function usageChange(
  before: Pick<Artifact, "status" | "size"> | null,
  after: Pick<Artifact, "status" | "size">,
): Usage {
  const [old, next] = [usageOf(before), usageOf(after)];
  return {
    artifacts: next.artifacts - old.artifacts,
    open: next.open - old.open,
    bytes: next.bytes - old.bytes,
  };
}

export function addUsage(usage: Usage, change: Usage): Usage {
  return {
    artifacts: usage.artifacts + change.artifacts,
    open: usage.open + change.open,
    bytes: usage.bytes + change.bytes,
  };
}

/**
 * Only what grows is refused: a dock over its quota (it was lowered) can still complete and delete.
 * @param usage with the change in it
 * @throws DocyardError `quota_exceeded`
 */
export function requireQuota(usage: Usage, change: Usage, quota: Quota): void {
  for (const [name, say] of Object.entries(WORDS) as [keyof Usage, (max: number) => string][]) {
    const max = quota[name];
    if (max !== undefined && change[name] > 0 && usage[name] > max) {
      throw new DocyardError("quota_exceeded", `Dock quota exceeded: at most ${say(max)}`);
    }
  }
}

const WORDS: Readonly<Record<keyof Usage, (max: number) => string>> = {
  artifacts: (max) => `${max} artifacts`,
  open: (max) => `${max} unfinished uploads at a time`,
  bytes: (max) => `${max} bytes`,
};
