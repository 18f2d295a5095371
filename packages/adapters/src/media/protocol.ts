/**
 * The messages between the media driver and its worker thread: jobs and bytes go in, reads and results come out.
 * Types only, so that the worker shares no code with the thread that owns the ports.
 */

import type { ErrorCode, MediaFacts } from "@docyard/core";

export interface ClipSpec {
  /** Bytes. */
  readonly size: number;
  readonly startMs: number;
}

export interface ProbeJob {
  readonly kind: "probe";
  readonly size: number;
}

export interface JoinJob {
  readonly kind: "join";
  /** As given; their numbers in messages count from 1 in this order. */
  readonly clips: readonly ClipSpec[];
  readonly type: "video" | "audio";
  /** Where the result goes. */
  readonly path: string;
  /** Bytes the result may have. */
  readonly sizeMax: number;
}

export type Job = ProbeJob | JoinJob;

/** What a join wrote, and what its duration must turn out to be. */
export interface JoinReport {
  readonly contentType: string;
  readonly durationMs: number;
  /** One frame: by how much the duration may be off. */
  readonly toleranceMs: number;
}

export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
  /** For the log. */
  readonly cause?: string;
}

/** To the worker. */
export type Request =
  | { readonly kind: "job"; readonly job: Job }
  | { readonly kind: "bytes"; readonly id: number; readonly bytes: Uint8Array };

/** From the worker. `alive` says that it has started, or that a long job is getting on. */
export type Report =
  | {
      readonly kind: "read";
      readonly id: number;
      readonly input: number;
      readonly start: number;
      readonly end: number;
    }
  | { readonly kind: "alive" }
  | { readonly kind: "probed"; readonly facts: MediaFacts | null }
  | { readonly kind: "joined"; readonly report: JoinReport }
  | { readonly kind: "refused"; readonly refusal: Refusal };
