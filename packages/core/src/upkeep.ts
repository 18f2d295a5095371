/**
 * Upkeep: whatever is due happens here, from the one column that says so (design idea 1), and staged bytes that no row
 * wants any more go. Every step may be repeated, interrupted, or run by several servers at once.
 */

import type { Artifact, ArtifactStatus } from "./artifact.ts";
import { nextStatus } from "./artifact.ts";
import { attemptsFolder, STAGING_PREFIX } from "./blob-keys.ts";
import { blobPages } from "./blob-pages.ts";
import type { Context } from "./context.ts";
import { dropUnlessUsed, newEvent, ring } from "./context.ts";
import { inOrder } from "./in-order.ts";
import { latestDue } from "./lease.ts";
import type { DuePlace } from "./ports.ts";

export interface SweepReport {
  /** Rows that were due and have been dealt with. */
  readonly handled: number;
  /** Rows that were due and could not be; they stay due. The errors are for the log. */
  readonly failures: readonly SweepFailure[];
}

interface SweepFailure {
  readonly artifactId: string;
  readonly error: unknown;
}

export interface SweepOptions {
  /** Most rows to deal with; default: all that are due. */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

/** Rows read at a time: bounded memory and short transactions (lesson R-24). */
const SWEEP_BATCH = 100;
/** Rows dealt with at a time: one waits for its bucket while others do; not more, since requests come first. */
const SWEEP_WIDTH = 4;
/** Keys listed at a time. */
const LIST_BATCH = 1_000;

/** Deals with every row that is due: expires abandoned uploads, rings for workers, removes dead bytes. */
export async function sweep(context: Context, options: SweepOptions = {}): Promise<SweepReport> {
  let handled = 0;
  const failures: SweepFailure[] = [];
  const deal = (artifact: Artifact): Promise<SweepFailure | null> =>
    handleDue(context, artifact).then(
      () => null,
      (error: unknown) => ({ artifactId: artifact.id, error }),
    );
  for await (const failure of inOrder(mostUrgentFirst(context, options), SWEEP_WIDTH, deal)) {
    if (failure === null) handled++;
    else failures.push(failure);
  }
  return { handled, failures };
}

/**
 * What somebody waits for comes before what only takes up room, and is looked for again before every batch: removing
 * the bytes of a mass deletion takes hours, and no ring may be as late.
 */
const BY_URGENCY: readonly Stretch[] = [
  { status: "upload_started" },
  { status: "upload_started", isBeyondReason: true },
  { status: "created" },
  { status: "upload_completed" },
  { status: "upload_failed" },
  { status: "deleted" },
];

/** What is due of one status; or else what says that it will be due later than it can be (`latestDue`). */
interface Stretch {
  readonly status: ArtifactStatus;
  readonly isBeyondReason?: boolean;
}

/** What is due, each row once: one that stays due (its worker has not come, its clean-up fails) is passed. */
async function* mostUrgentFirst(
  context: Context,
  { limit = Number.POSITIVE_INFINITY, signal }: SweepOptions,
): AsyncGenerator<Artifact, void, void> {
  const { artifacts, now } = context;
  const places = new Map<Stretch, DuePlace>();
  const nextBatch = async (): Promise<readonly Artifact[]> => {
    for (const stretch of BY_URGENCY) {
      const { status, isBeyondReason = false } = stretch;
      const start = isBeyondReason ? { dueAt: latestDue(context) + 1, id: "" } : undefined;
      const after = places.get(stretch) ?? start;
      const due = await artifacts.due({
        status,
        until: isBeyondReason ? Number.MAX_SAFE_INTEGER : now(),
        ...(after === undefined ? {} : { after }),
        limit: SWEEP_BATCH,
      });
      const last = due.at(-1);
      if (last === undefined) continue;
      places.set(stretch, { dueAt: last.dueAt!, id: last.id });
      return due;
    }
    return [];
  };
  let left = limit;
  for (let batch = await nextBatch(); batch.length > 0; batch = await nextBatch()) {
    for (const artifact of batch) {
      if (signal?.aborted === true || left-- <= 0) return;
      yield artifact;
    }
  }
}

async function handleDue(context: Context, artifact: Artifact): Promise<void> {
  const { artifacts } = context;
  switch (artifact.status) {
    case "created":
      if (artifact.source.kind !== "upload") await ring(context, artifact.id);
      else await expireUpload(context, artifact);
      return;
    case "upload_started":
      await ring(context, artifact.id);
      return;
    case "upload_failed":
    case "deleted":
      await dropBytes(context, artifact);
      await artifacts.update(
        artifact.id,
        artifact.version,
        { dueAt: null },
        newEvent(context, "artifact.cleaned", null),
      );
      return;
    case "upload_completed":
      await dropStrayCopies(context, artifact);
      await dropStaged(context, artifact);
      await artifacts.update(artifact.id, artifact.version, { dueAt: null }, null);
  }
}

async function expireUpload(context: Context, artifact: Artifact): Promise<void> {
  const { artifacts, settings, now } = context;
  await artifacts.update(
    artifact.id,
    artifact.version,
    {
      status: nextStatus(artifact, "fail"),
      failure: {
        code: "failed_precondition",
        message: "The upload was not completed before its window ended",
      },
      dueAt: now() + settings.graceMs,
      updatedAt: now(),
    },
    newEvent(context, "artifact.failed", null, { reason: "expired" }),
  );
}

/** All bytes a dead row may have left: staged, copied but never published, and published ones no other row uses. */
async function dropBytes(context: Context, artifact: Artifact): Promise<void> {
  await dropStrayCopies(context, artifact);
  if (artifact.blobKey !== null) await dropUnlessUsed(context, artifact.blobKey);
  await dropStaged(context, artifact);
}

/** Completes and attempts may have seen different bytes each, and each may have died between its copy and its commit. */
async function dropStrayCopies(context: Context, artifact: Artifact): Promise<void> {
  for (const { key } of await context.blobs.list(`${artifact.storageKey}-`, { limit: LIST_BATCH })) {
    await dropUnlessUsed(context, key);
  }
}

async function dropStaged({ blobs }: Context, artifact: Artifact): Promise<void> {
  if (artifact.stagingKey !== null) await blobs.delete(artifact.stagingKey);
  if (artifact.face === "studio") {
    for (const { key } of await blobs.list(attemptsFolder(artifact), { limit: LIST_BATCH })) {
      await blobs.delete(key);
    }
  }
}

/**
 * Removes staged bytes that are older than any upload may be and that no unfinished row wants: what a crash left
 * between a commit and the clean-up after it, presigned uploads that nobody turned into an artifact, puts that never
 * ended.
 * @returns how many were removed
 */
export async function sweepStaging(
  context: Context,
  options: { readonly signal?: AbortSignal } = {},
): Promise<number> {
  const { artifacts, blobs, settings, now } = context;
  const before = now() - settings.uploadWindowMs - settings.graceMs;
  // No row names these, and one that was made of them late has a window of its own.
  const presignedBefore = before - settings.uploadWindowMs;
  const isStopped = (): boolean => options.signal?.aborted === true;
  if (isStopped()) return 0;
  let removed = 0;
  for await (const page of blobPages(blobs, STAGING_PREFIX)) {
    for (const { key, modifiedAt } of page) {
      const name = key.slice(STAGING_PREFIX.length).split("/", 1)[0]!;
      if (modifiedAt >= (name.startsWith("temp_") ? presignedBefore : before)) continue;
      const artifact = (await artifacts.get({ uploadId: name })) ?? (await artifacts.get({ id: name }));
      // A row that is still due cleans up by itself, and may need its staged bytes to know what else to remove.
      if (artifact !== null && artifact.dueAt !== null) continue;
      await blobs.delete(key);
      removed++;
    }
    if (isStopped()) return removed;
  }
  return removed + ((await blobs.dropUnfinished?.(before)) ?? 0);
}
