/**
 * What probing a server has shown, for an operator to read: one line for each thing that was tried, and how to mend it.
 * The probes are beside the drivers whose servers they try; printing is the command line's.
 */

export interface Finding {
  /** What was tried, in a word or two. */
  readonly check: string;
  /** `warning`: docyard works, with less than could be had. */
  readonly outcome: "ok" | "warning" | "failing";
  /** What was seen, in one line without secrets. */
  readonly detail: string;
  /** What to do; on everything that is not ok. */
  readonly fix?: string;
}

export function ok(check: string, detail: string): Finding {
  return { check, outcome: "ok", detail };
}

export function warning(check: string, detail: string, fix: string): Finding {
  return { check, outcome: "warning", detail, fix };
}

export function failing(check: string, detail: string, fix: string): Finding {
  return { check, outcome: "failing", detail, fix };
}

/** Signatures are refused from 15 min on (S3), leases and expiry suffer from less. */
const SKEW_MAX_MS = 5_000;

/** How far another clock is from ours, given as the moment it showed between two moments of ours. */
export function clockFinding(
  shown: number,
  asked: number,
  answered: number,
  resolutionMs: number = 1,
): Finding {
  // Neither the way there and back nor the coarseness of what was shown is the clock's fault.
  const early = shown + resolutionMs < asked ? asked - shown - resolutionMs : 0;
  const late = shown > answered ? shown - answered : 0;
  const skew = Math.max(early, late);
  if (skew <= SKEW_MAX_MS) return ok("clock", "agrees with this machine's");
  const seconds = Math.round(skew / 1_000);
  const direction = early > 0 ? "behind" : "ahead of";
  return (skew > SKEW_FATAL_MS ? failing : warning)(
    "clock",
    `${seconds} s ${direction} this machine's`,
    "set both clocks by NTP: signed URLs, leases and expiry go by them",
  );
}

/** S3 refuses every signature beyond it. */
const SKEW_FATAL_MS = 15 * 60_000;
