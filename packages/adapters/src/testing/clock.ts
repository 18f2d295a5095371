/**
 * The test double's time: a clock that moves when it is told, and the agenda of what waits for it. Real timers play no
 * part, so an hour passes in no time. What happens on the way is double.ts's affair.
 */

export interface VirtualClock {
  /** Milliseconds since 1970 UTC. */
  now(): number;
  /** Moves to this moment, unless it has passed. Runs nothing. */
  moveTo(at: number): void;
  /** Calls back when `runDue` finds that so much time has passed. */
  after(delayMs: number, callback: () => void): void;
  /** When the first of those is due; infinity when there is none. */
  nextAt(): number;
  /** Calls back all that is due now, in order of time, then of asking. */
  runDue(): void;
}

/** @param base the moment without any move: a constant, or a clock that runs by itself */
export function virtualClock(base: () => number): VirtualClock {
  let offset = 0;
  /** In order. */
  let agenda: { readonly at: number; readonly callback: () => void }[] = [];
  const now = (): number => base() + offset;
  return {
    now,
    moveTo(at) {
      offset += Math.max(0, at - now());
    },
    after(delayMs, callback) {
      const at = now() + Math.max(0, delayMs);
      const later = agenda.findIndex((entry) => entry.at > at);
      agenda.splice(later < 0 ? agenda.length : later, 0, { at, callback });
    },
    nextAt: () => agenda[0]?.at ?? Number.POSITIVE_INFINITY,
    runDue() {
      const due = agenda.filter(({ at }) => at <= now());
      agenda = agenda.slice(due.length);
      for (const { callback } of due) callback();
    },
  };
}

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7 };

/** A span of time: milliseconds, or text such as `90s`, `1h30m`, `2d`. */
export type TimeSpan = number | string;

/** @throws TypeError for what is no span of time. */
export function milliseconds(span: TimeSpan): number {
  const isText = typeof span === "string" && /^(?:\d{1,15}(?:ms|[smhd]))+$/.test(span);
  const parts = isText ? [...span.matchAll(/(\d+)(ms|[smhd])/g)] : [];
  const total =
    typeof span === "number"
      ? span
      : parts.reduce((sum, part) => sum + Number(part[1]) * UNITS_MS[part[2]!]!, 0);
  if ((typeof span === "string" && !isText) || !(Number.isSafeInteger(total) && total >= 0)) {
    throw new TypeError(
      `${JSON.stringify(span)} is no span of time: give milliseconds, or text such as 1h30m`,
    );
  }
  return total;
}
