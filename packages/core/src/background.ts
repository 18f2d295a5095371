/**
 * Background work of one process: answers the queue's rings, sweeps what is due, and now and then looks for staged
 * bytes that nobody wants any more and for what is too old. What the work is, is in the files of the use cases; what
 * is told of it, a host may log.
 */

import type { Docyard } from "./docyard.ts";
import type { IngestOutcome } from "./ingest.ts";
import type { Queue } from "./ports.ts";

/** How late work may be whose ring was lost: 30 s. */
export const SWEEP_INTERVAL_MS = 30_000;
/** Between two looks at everything that is staged or too old: 1 h. */
export const CHORES_INTERVAL_MS = 3_600_000;
/** Artifacts that are ingested at once: one may wait for its source while another is hashed. */
export const INGEST_CONCURRENCY = 2;

export interface BackgroundOptions {
  /** How many artifacts this process ingests at once; 0: none. Default 2, or 0 without ingest ports. */
  readonly concurrency?: number;
  /** Milliseconds between two sweeps. Default 30,000. */
  readonly sweepIntervalMs?: number;
  /** Milliseconds between two looks at everything that is staged or too old; at a sweep. Default 3,600,000. */
  readonly choresIntervalMs?: number;
  /** Told of what was done and of what failed, for a log. Must not throw. Default: nobody is. */
  readonly onReport?: (report: BackgroundReport) => void;
}

/**
 * What background work has to say. Whatever failed is tried again: the row stays due. Only `queue_failed` ends
 * something: no ring is answered in this process any more.
 */
export type BackgroundReport =
  /** A ring was served; `idle` ones, which found nothing to do, are not told. */
  | { readonly kind: "ingested"; readonly artifactId: string; readonly outcome: IngestOutcome }
  /** One attempt of an artifact failed; the outcome follows. */
  | { readonly kind: "attempt_failed"; readonly artifactId: string; readonly error: unknown }
  /** The store failed while an artifact was ingested. */
  | { readonly kind: "ingest_failed"; readonly artifactId: string; readonly error: unknown }
  | { readonly kind: "queue_failed"; readonly error: unknown }
  /** Some rows were due and have been dealt with. */
  | { readonly kind: "swept"; readonly handled: number }
  /** One row was due and could not be dealt with. */
  | { readonly kind: "artifact_sweep_failed"; readonly artifactId: string; readonly error: unknown }
  | { readonly kind: "sweep_failed"; readonly error: unknown }
  /** Staged bytes that nobody wants any more have been removed. */
  | { readonly kind: "staging_swept"; readonly removed: number }
  /** Artifacts that a retention rule says are too old have been deleted. */
  | { readonly kind: "retired"; readonly artifacts: number }
  /** The retention rules of one dock could not be followed to their end. */
  | { readonly kind: "retention_failed"; readonly dockId: string; readonly error: unknown };

export interface Background {
  /** Gives back what is being ingested, finishes what is being swept, and resolves; repeating it is harmless. */
  stop(): Promise<void>;
}

interface Work extends Required<BackgroundOptions> {
  readonly docyard: Pick<Docyard, "ingest" | "sweep" | "sweepStaging" | "applyRetention">;
  readonly queue: Queue;
  readonly signal: AbortSignal;
}

/** See `Docyard.runInBackground`. */
export function runInBackground(
  docyard: Work["docyard"],
  queue: Queue,
  { concurrency, ...options }: BackgroundOptions & { readonly concurrency: number },
): Background {
  checkWhole("concurrency", concurrency, 0);
  const {
    sweepIntervalMs = SWEEP_INTERVAL_MS,
    choresIntervalMs = CHORES_INTERVAL_MS,
    onReport = () => {},
  } = options;
  checkWhole("sweepIntervalMs", sweepIntervalMs, 1);
  checkWhole("choresIntervalMs", choresIntervalMs, 0);
  const stopping = new AbortController();
  const { signal } = stopping;
  const work: Work = { docyard, queue, signal, concurrency, sweepIntervalMs, choresIntervalMs, onReport };
  const ended = Promise.all([sweepNowAndThen(work), concurrency > 0 ? answerRings(work) : null]);
  return {
    async stop() {
      stopping.abort();
      await ended;
    },
  };
}

async function answerRings({ docyard, queue, signal, concurrency, onReport }: Work): Promise<void> {
  const handle = async (artifactId: string): Promise<void> => {
    try {
      const outcome = await docyard.ingest(artifactId, {
        signal,
        onError: (error) => onReport({ kind: "attempt_failed", artifactId, error }),
      });
      if (outcome !== "idle") onReport({ kind: "ingested", artifactId, outcome });
    } catch (error) {
      // The row stays due, and the sweep rings again.
      onReport({ kind: "ingest_failed", artifactId, error });
    }
  };
  try {
    await queue.consume(handle, { concurrency, signal });
  } catch (error) {
    onReport({ kind: "queue_failed", error });
  }
}

/** Sweeps at once and then again and again, never twice at a time. */
async function sweepNowAndThen(work: Work): Promise<void> {
  const { signal, sweepIntervalMs, choresIntervalMs, onReport } = work;
  let lastChores = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    try {
      await sweepOnce(work);
      if (performance.now() - lastChores >= choresIntervalMs) {
        lastChores = performance.now();
        await doChores(work);
      }
    } catch (error) {
      onReport({ kind: "sweep_failed", error });
    }
    await pause(sweepIntervalMs, signal);
  }
}

async function sweepOnce({ docyard, signal, onReport }: Work): Promise<void> {
  const { handled, failures } = await docyard.sweep({ signal });
  if (handled > 0) onReport({ kind: "swept", handled });
  for (const failure of failures) onReport({ kind: "artifact_sweep_failed", ...failure });
}

async function doChores({ docyard, signal, onReport }: Work): Promise<void> {
  const { artifacts, failures } = await docyard.applyRetention({ dryRun: false, signal });
  if (artifacts > 0) onReport({ kind: "retired", artifacts });
  for (const failure of failures) onReport({ kind: "retention_failed", ...failure });
  // Last: it asks the most of the blob store, and what it may not do there is no reason to keep what is too old.
  const removed = await docyard.sweepStaging({ signal });
  if (removed > 0) onReport({ kind: "staging_swept", removed });
}

/** Waits, but not beyond the abort. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}

function checkWhole(name: string, value: number, min: number): void {
  if (Number.isSafeInteger(value) && value >= min) return;
  throw new TypeError(`${name} is a whole number of at least ${min}`);
}
