/**
 * Fixed-window counters within one process; several replicas would each allow the whole, so they use Redis instead.
 * Which keys are counted and how many are allowed is left to core.
 */

import type { RateLimit } from "@docyard/core";
import { setBounded } from "../bounded-map.ts";

export interface MemoryLimitOptions {
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
  /** Most windows held at once; default 100,000. Beyond it the oldest is forgotten, which can only allow more. */
  readonly windowsMax?: number;
}

/** The limit, and how much it holds. */
export type MemoryLimit = RateLimit & { readonly windows: number };

interface Window {
  used: number;
  readonly startedAt: number;
  readonly endsAt: number;
}

/** Windows below which looking for expired ones is not worth it. */
const SWEEP_MIN = 1_024;

export function memoryLimit({ now = Date.now, windowsMax = 100_000 }: MemoryLimitOptions = {}): MemoryLimit {
  const windows = new Map<string, Window>();
  let sweepAt = SWEEP_MIN;
  let closed = false;

  /** A clock that was set back ends a window too, instead of stretching it. */
  const isOver = (window: Window, at: number): boolean => at >= window.endsAt || at < window.startedAt;

  /** Looks at every window once per doubling, so that each `take` pays a constant share. */
  const sweep = (at: number): void => {
    for (const [key, window] of windows) {
      if (isOver(window, at)) windows.delete(key);
    }
    sweepAt = Math.max(SWEEP_MIN, 2 * windows.size);
  };

  return {
    get windows() {
      return windows.size;
    },

    async take(key, { max, windowMs }) {
      if (closed) throw new Error("the rate limit is closed");
      if (max === 0) return { allowed: true, remaining: Number.POSITIVE_INFINITY, retryAfterMs: 0 };
      const at = now();
      let window = windows.get(key);
      if (window === undefined || isOver(window, at)) {
        window = { used: 0, startedAt: at, endsAt: at + windowMs };
        setBounded(windows, key, window, windowsMax);
        if (windows.size >= sweepAt) sweep(at);
      }
      if (window.used >= max) return { allowed: false, remaining: 0, retryAfterMs: window.endsAt - at };
      window.used++;
      return { allowed: true, remaining: max - window.used, retryAfterMs: 0 };
    },

    async close() {
      closed = true;
      windows.clear();
    },
  };
}
