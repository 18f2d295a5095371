/**
 * Background work as a server's log tells of it: in which words, and how loud. The work itself is core's.
 */

import type { Background, BackgroundReport, Docyard } from "@docyard/core";
import { reasonOf, stacksOf } from "./failure.ts";
import type { Logger } from "./log.ts";

export interface LoggedBackgroundOptions {
  readonly docyard: Docyard;
  /** How many artifacts this process ingests at once; 0: none, it only rings for others. */
  readonly concurrency: number;
  readonly log: Logger;
  readonly verbose: boolean;
}

export function runInBackground(options: LoggedBackgroundOptions): Background {
  const { docyard, concurrency, log, verbose } = options;
  return docyard.runInBackground({ concurrency, onReport: (report) => write(log, report, verbose) });
}

function write(log: Logger, report: BackgroundReport, verbose: boolean): void {
  switch (report.kind) {
    case "ingested":
      return log.info({ artifactId: report.artifactId, outcome: report.outcome }, "ingested");
    case "attempt_failed":
      return log.warn({ artifactId: report.artifactId, ...why(report.error, verbose) }, "attempt failed");
    case "ingest_failed":
      return log.error({ artifactId: report.artifactId, ...why(report.error, verbose) }, "ingest failed");
    case "queue_failed":
      return log.error(why(report.error, verbose), "the queue cannot be read");
    case "swept":
      return log.info({ handled: report.handled }, "swept");
    case "artifact_sweep_failed":
      return log.error(
        { artifactId: report.artifactId, ...why(report.error, verbose) },
        "sweep failed for an artifact",
      );
    case "sweep_failed":
      return log.error(why(report.error, verbose), "sweep failed");
    case "staging_swept":
      return log.info({ removed: report.removed }, "removed staged bytes that nobody wants");
    case "retired":
      return log.info({ artifacts: report.artifacts }, "deleted what the retention rules say is too old");
    case "retention_failed":
      return log.error(
        { dockId: report.dockId, ...why(report.error, verbose) },
        "retention failed for a dock",
      );
  }
}

function why(error: unknown, verbose: boolean): object {
  return { reason: reasonOf(error), ...(verbose ? { stacks: stacksOf(error) } : {}) };
}
