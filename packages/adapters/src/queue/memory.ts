/**
 * The doorbell within one process: rings wait in memory and are gone with it, which costs time and never work.
 * What a ring means is left to whoever consumes.
 */

import type { Queue } from "@docyard/core";

export interface MemoryQueueOptions {
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
  /** Calls back once after so many milliseconds; default the global one. A test hands in a clock it turns. */
  readonly setTimeout?: (callback: () => void, delayMs: number) => unknown;
}

/** The queue, and how many rings nobody has taken yet; those that are still to come do not count. */
export type MemoryQueue = Queue & { readonly waiting: number };

/**
 * Rings that wait at once; those beyond it are the sweep's. Where other processes do the work nobody ever takes one, and
 * they would pile up for as long as the server runs.
 */
const WAITING_MAX = 10_000;
/** The longest a timer can wait; longer ones are set again when it has run out (a timer's delay is 31 bits). */
const TIMER_MAX_MS = 2 ** 31 - 1;

export function memoryQueue(options: MemoryQueueOptions = {}): MemoryQueue {
  const { now = Date.now, setTimeout: after = startTimer } = options;
  /** Ids to be handled now. A second ring for one that still waits would tell nothing new. */
  const waiting = new Set<string>();
  /** Consumers with a free hand. */
  const hands = new Set<() => void>();
  const closing = new AbortController();

  const ring = (id: string): void => {
    if (waiting.size < WAITING_MAX) waiting.add(id);
    for (const hand of hands) hand();
  };

  const ringAt = (id: string, dueAt: number): void => {
    after(
      () => {
        if (closing.signal.aborted) return;
        if (now() < dueAt) ringAt(id, dueAt);
        else ring(id);
      },
      Math.min(Math.max(0, dueAt - now()), TIMER_MAX_MS),
    );
  };

  return {
    get waiting() {
      return waiting.size;
    },

    async push(id, { delayMs = 0 } = {}) {
      closing.signal.throwIfAborted();
      if (delayMs > 0) ringAt(id, now() + delayMs);
      else ring(id);
    },

    async consume(handle, { concurrency, signal }) {
      if (!(Number.isInteger(concurrency) && concurrency >= 1)) {
        throw new TypeError("concurrency must be a whole number of at least 1");
      }
      closing.signal.throwIfAborted();
      const running = new Set<Promise<void>>();
      const { promise: stopped, resolve } = Promise.withResolvers<void>();
      const stop = (): void => resolve();

      const takeAll = (): void => {
        while (running.size < concurrency && waiting.size > 0 && !signal.aborted) {
          const id = waiting.values().next().value!;
          // Removed before it is handled: whatever rings from here on is to be handled again.
          waiting.delete(id);
          const work = handled(handle, id).finally(() => {
            running.delete(work);
            takeAll();
          });
          running.add(work);
        }
      };

      signal.addEventListener("abort", stop, { once: true });
      closing.signal.addEventListener("abort", stop, { once: true });
      hands.add(takeAll);
      try {
        if (signal.aborted) return;
        takeAll();
        await stopped;
      } finally {
        hands.delete(takeAll);
        signal.removeEventListener("abort", stop);
        closing.signal.removeEventListener("abort", stop);
        await Promise.all(running);
      }
    },

    async ready() {
      closing.signal.throwIfAborted();
    },

    async close() {
      if (closing.signal.aborted) return;
      waiting.clear();
      closing.abort(new Error("the queue is closed"));
    },
  };
}

/** Never rejects: a failing handler is the handler's affair. */
async function handled(handle: (id: string) => Promise<void>, id: string): Promise<void> {
  try {
    await handle(id);
  } catch {
    // The row says what is still to do, and the sweep rings again.
  }
}

/** A timer that does not keep the process alive: a ring lost at exit is rung again by the sweep. */
function startTimer(callback: () => void, delayMs: number): void {
  setTimeout(callback, delayMs).unref();
}
