/**
 * Retention: artifacts that have ended are deleted once they are as old as a rule of their dock says. They become
 * tombstones as if a client had deleted them, so their bytes go after the grace period and equal content that others
 * still want stays.
 */

import type { Dock } from "./access.ts";
import type { ArtifactSummary, Face } from "./artifact.ts";
import { FACES } from "./artifact.ts";
import type { Context } from "./context.ts";
import { newEvent, tombstone } from "./context.ts";
import { isDocyardError } from "./errors.ts";
import type { PageStart } from "./page.ts";
import type { RetentionRule } from "./quota.ts";

export interface RetentionOptions {
  /** Count only. Default true: what is deleted is gone. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  /** Called after every page with what has been found so far. */
  readonly onProgress?: (report: RetentionReport) => void;
}

/** What the rules want deleted, or, unless it was a dry run, have deleted. */
export interface RetentionReport {
  readonly artifacts: number;
  /** Their sizes. Storage shrinks by less where content is shared. */
  readonly bytes: number;
  /** By dock; docks without a finding are left out. */
  readonly docks: Readonly<Record<string, { readonly artifacts: number; readonly bytes: number }>>;
  /** Docks whose rules could not be followed to their end, and why; the next run tries again. */
  readonly failures: readonly { readonly dockId: string; readonly error: unknown }[];
}

const BATCH = 500;

/**
 * Rejects with the signal's reason when it aborts, and when the store is away, which it is for every dock; what was
 * deleted by then stays deleted.
 */
export async function applyRetention(
  context: Context,
  { dryRun = true, signal, onProgress }: RetentionOptions = {},
): Promise<RetentionReport> {
  let report: RetentionReport = { artifacts: 0, bytes: 0, docks: {}, failures: [] };
  for (const dock of await context.accounts.list("dock")) {
    /** An artifact that two rules want is one artifact. */
    const seen = new Set<string>();
    try {
      for await (const page of wanted(context, dock)) {
        signal?.throwIfAborted();
        for (const artifact of page) {
          if (seen.has(artifact.id)) continue;
          if (dryRun) seen.add(artifact.id);
          else if (!(await remove(context, artifact))) continue;
          report = counting(report, artifact);
        }
        onProgress?.(report);
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (isDocyardError(error, "upstream_failed")) throw error;
      report = { ...report, failures: [...report.failures, { dockId: dock.id, error }] };
    }
  }
  return report;
}

/** What the dock's rules name, page by page, rule by rule. */
async function* wanted(
  context: Context,
  { id, retention = [] }: Dock,
): AsyncGenerator<readonly ArtifactSummary[]> {
  for (const rule of retention) {
    for (const face of FACES) yield* oldEnough(context, id, face, rule);
  }
}

/** Along the list's own order, which deleting a row behind the cursor does not disturb. */
async function* oldEnough(
  { artifacts, now }: Context,
  dockId: string,
  face: Face,
  { afterMs, metadata }: RetentionRule,
): AsyncGenerator<readonly ArtifactSummary[]> {
  const createdBefore = now() - afterMs;
  let start: PageStart = { offset: 0 };
  for (;;) {
    const { rows, more } = await artifacts.find({
      dockId,
      face,
      statuses: ["upload_completed", "upload_failed"],
      createdBefore,
      ...(metadata === undefined ? {} : { filter: metadata }),
      start,
      limit: BATCH,
    });
    yield rows;
    const last = rows.at(-1);
    if (!more || last === undefined) return;
    start = { after: { createdAt: last.createdAt, id: last.id } };
  }
}

/** False when something else changed the row meanwhile: the next run looks at it again. */
async function remove(context: Context, artifact: ArtifactSummary): Promise<boolean> {
  const removed = await context.artifacts.update(
    artifact.id,
    artifact.version,
    tombstone(context, artifact),
    newEvent(context, "artifact.deleted", null, { reason: "retention" }),
  );
  return removed !== null;
}

function counting(report: RetentionReport, { dockId, size }: ArtifactSummary): RetentionReport {
  const { artifacts, bytes, docks } = report;
  const dock = docks[dockId] ?? { artifacts: 0, bytes: 0 };
  const add = size ?? 0;
  return {
    ...report,
    artifacts: artifacts + 1,
    bytes: bytes + add,
    docks: { ...docks, [dockId]: { artifacts: dock.artifacts + 1, bytes: dock.bytes + add } },
  };
}
