/**
 * A worker's hold on one artifact: taken by one guarded write, renewed while the work goes on, and lost as soon as
 * anyone else has written the row, whose version is the fencing token. What is done meanwhile is ingest.ts's.
 */

import type { Artifact, ArtifactChange, EventType } from "./artifact.ts";
import { nextStatus } from "./artifact.ts";
import type { Context } from "./context.ts";
import { newEvent } from "./context.ts";
import type { JsonObject } from "./json.ts";
import type { Quota } from "./quota.ts";

/** The one error that ends a run without a word: the row belongs to someone else now. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
}

/** How far clocks may be apart, in milliseconds, before one of them is taken to have been wrong. */
const CLOCK_SLACK_MS = 60 * 60 * 1_000;

/**
 * When the last lease or pause ends that can have begun by now. What is due later was written by a clock that has been
 * set back since, by hours or years: nobody waits for that, and whoever may still hold the row is fenced off.
 */
export function latestDue({ settings, now }: Context): number {
  const { leaseMs, backoffMaxMs } = settings.ingest;
  return now() + Math.max(leaseMs, backoffMaxMs) + CLOCK_SLACK_MS;
}

/** Takes the row if it wants a worker and no one else has it: one guarded write decides. */
export async function claim(context: Context, id: string): Promise<Artifact | null> {
  const { artifacts, settings, now } = context;
  const artifact = await artifacts.get({ id });
  if (artifact === null) return null;
  // A created upload waits for its client; anything else that is created waits for us.
  const waiting = artifact.status === "created" && artifact.source.kind !== "upload";
  const started = artifact.status === "upload_started";
  if (!waiting && !started) return null;
  const { dueAt } = artifact;
  if (dueAt !== null && dueAt > now() && dueAt <= latestDue(context)) return null;
  return artifacts.update(
    id,
    artifact.version,
    {
      status: nextStatus(artifact, "begin"),
      attempts: artifact.attempts + 1,
      dueAt: now() + settings.ingest.leaseMs,
      updatedAt: now(),
    },
    newEvent(context, "artifact.started", null, { attempt: artifact.attempts + 1 }),
  );
}

/** A row that this worker has taken, until somebody else does. */
export interface Lease {
  /** The row as this worker last wrote it. */
  artifact(): Artifact;
  /** Aborts when the lease is lost, or when the host asks to stop. */
  readonly signal: AbortSignal;
  isLost(): boolean;
  isStopping(): boolean;
  /**
   * A fenced write: nothing happens unless this worker still owns the row.
   * @throws LeaseLost
   */
  write(change: ArtifactChange, event: [EventType, JsonObject?] | null, quota?: Quota): Promise<void>;
  /**
   * Before a step that no version guards. Whoever is stopped in between leaves bytes that the sweep of the row removes.
   * @throws LeaseLost
   */
  check(): Promise<void>;
  /** Ends the renewals: before a write that says when the row is due next, or one of them would say otherwise. */
  stop(): void;
}

/** Renews what was claimed, at a third of its time, until it is stopped. */
export function holdLease(context: Context, claimed: Artifact, stopSignal: AbortSignal | undefined): Lease {
  const { artifacts, settings, now } = context;
  const { leaseMs } = settings.ingest;
  const lost = new AbortController();
  let artifact = claimed;
  let writing: Promise<unknown> = Promise.resolve();

  const lose = (): LeaseLost => {
    const error = new LeaseLost(`lease of artifact ${claimed.id} lost`);
    lost.abort(error);
    return error;
  };

  const write: Lease["write"] = (change, event, quota) => {
    // One at a time: each write carries the version that the one before it made.
    const next = writing.then(async () => {
      if (lost.signal.aborted) throw lose();
      const updated = await artifacts.update(
        artifact.id,
        artifact.version,
        change,
        event === null ? null : newEvent(context, event[0], null, event[1]),
        quota,
      );
      if (updated === null) throw lose();
      artifact = updated;
    });
    writing = next.catch(() => {});
    return next;
  };

  const renewal = setInterval(() => {
    write({ dueAt: now() + leaseMs }, null).catch((error: unknown) => {
      // A store that fails now may work at the next renewal; once the lease has run out it is no longer ours to hope for.
      if (!(error instanceof LeaseLost) && (artifact.dueAt ?? 0) <= now()) lose();
    });
  }, leaseMs / 3);

  return {
    artifact: () => artifact,
    signal: stopSignal === undefined ? lost.signal : AbortSignal.any([lost.signal, stopSignal]),
    isLost: () => lost.signal.aborted,
    isStopping: () => stopSignal?.aborted === true,
    write,
    check() {
      // In line with the writes, so that a renewal under way does not look like someone else's.
      const next = writing.then(async () => {
        const row = lost.signal.aborted ? null : await artifacts.get({ id: artifact.id });
        if (row?.version !== artifact.version) throw lose();
      });
      writing = next.catch(() => {});
      return next;
    },
    stop: () => clearInterval(renewal),
  };
}
