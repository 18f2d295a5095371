/**
 * Background work of one process: answers the queue's rings, sweeps what is due, and now and then looks for staged
 * bytes that nobody wants any more and for what is too old. What the work is, is core's.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Docyard, Queue } from "@docyard/core";
import { reasonOf, stacksOf } from "./failure.ts";
import type { Logger } from "./log.ts";

/** Milliseconds between two sweeps: how late work may be whose ring was lost, and no more often than that. */
const SWEEP_INTERVAL_MS = 30_000;
/** Milliseconds between two looks at everything that is staged or too old. */
const CHORES_INTERVAL_MS = 3_600_000;

export interface BackgroundOptions {
  readonly docyard: Docyard;
  readonly queue: Queue;
  /** How many artifacts this process ingests at once; 0: none, it only rings for others. */
  readonly concurrency: number;
  readonly log: Logger;
  readonly verbose: boolean;
}

export interface Background {
  /** Gives back what is being ingested, finishes what is being swept, and resolves. */
  stop(): Promise<void>;
}

export function runInBackground(options: BackgroundOptions): Background {
  const stopping = new AbortController();
  const { signal } = stopping;
  const work = [sweepNowAndThen(options, signal)];
  if (options.concurrency > 0) work.push(answerRings(options, signal));
  return {
    async stop() {
      stopping.abort();
      await Promise.all(work);
    },
  };
}

async function answerRings(
  { docyard, queue, concurrency, log, verbose }: BackgroundOptions,
  signal: AbortSignal,
): Promise<void> {
  const handle = async (artifactId: string): Promise<void> => {
    try {
      const outcome = await docyard.ingest(artifactId, {
        signal,
        onError: (error) => log.warn({ artifactId, ...why(error, verbose) }, "attempt failed"),
      });
      if (outcome !== "idle") log.info({ artifactId, outcome }, "ingested");
    } catch (error) {
      // The row stays due, and the sweep rings again.
      log.error({ artifactId, ...why(error, verbose) }, "ingest failed");
    }
  };
  try {
    await queue.consume(handle, { concurrency, signal });
  } catch (error) {
    log.error(why(error, verbose), "the queue cannot be read");
  }
}

/** Sweeps at once and then again and again, never twice at a time. */
async function sweepNowAndThen(
  { docyard, log, verbose }: BackgroundOptions,
  signal: AbortSignal,
): Promise<void> {
  let lastChores = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    try {
      const { handled, failures } = await docyard.sweep({ signal });
      if (handled > 0) log.info({ handled }, "swept");
      for (const { artifactId, error } of failures) {
        log.error({ artifactId, ...why(error, verbose) }, "sweep failed for an artifact");
      }
      if (performance.now() - lastChores >= CHORES_INTERVAL_MS) {
        lastChores = performance.now();
        const removed = await docyard.sweepStaging({ signal });
        if (removed > 0) log.info({ removed }, "removed staged bytes that nobody wants");
        const { artifacts } = await docyard.applyRetention({ dryRun: false, signal });
        if (artifacts > 0) log.info({ artifacts }, "deleted what the retention rules say is too old");
      }
    } catch (error) {
      log.error(why(error, verbose), "sweep failed");
    }
    await sleep(SWEEP_INTERVAL_MS, undefined, { signal }).catch(() => {});
  }
}

function why(error: unknown, verbose: boolean): object {
  return { reason: reasonOf(error), ...(verbose ? { stacks: stacksOf(error) } : {}) };
}
