/**
 * Work under way in the test double, and whether it waits for virtual time: whoever turns the clock must let work go as
 * far as it can first, and must not wait for what only the clock can wake.
 */

import { AsyncLocalStorage } from "node:async_hooks";

export interface Tasks {
  /**
   * Starts work; its result is the caller's.
   * @param isAwaited whether the clock waits for it; not where the caller still streams a body, perhaps for as long as it
   *   waits for the clock
   */
  run<T>(work: () => Promise<T>, isAwaited?: boolean): Promise<T>;
  /** Waits, perhaps inside a task, until what `start` was given is called. Only the clock may call it. */
  untilWoken(start: (wake: () => void) => void): Promise<void>;
  /** How many there have been. */
  started(): number;
  /** Whether a task goes on by itself that the clock waits for. */
  isBusy(): boolean;
  /** Resolves when every task that the clock waits for has ended or waits for the clock. */
  settled(): Promise<void>;
}

interface Task {
  readonly isAwaited: boolean;
  /** How many of its calls wait for the clock. */
  waits: number;
}

export function createTasks(): Tasks {
  const current = new AsyncLocalStorage<Task>();
  const tasks = new Set<Task>();
  let started = 0;
  const listeners = new Set<() => void>();
  const isBusy = (): boolean => {
    for (const { isAwaited, waits } of tasks) if (isAwaited && waits === 0) return true;
    return false;
  };
  const tell = (): void => {
    if (listeners.size > 0 && !isBusy()) for (const listener of listeners) listener();
  };
  return {
    async run(work, isAwaited = true) {
      const task: Task = { isAwaited, waits: 0 };
      tasks.add(task);
      started++;
      try {
        return await current.run(task, work);
      } finally {
        tasks.delete(task);
        tell();
      }
    },
    untilWoken(start) {
      const task = current.getStore();
      const { promise, resolve } = Promise.withResolvers<void>();
      if (task !== undefined) task.waits++;
      // Counted as busy at once, before any of its code runs: the clock must not go on in between.
      start(() => {
        if (task !== undefined) task.waits--;
        resolve();
      });
      tell();
      return promise;
    },
    started: () => started,
    isBusy,
    async settled() {
      while (isBusy()) {
        await new Promise<void>((resolve) => {
          const listener = (): void => {
            listeners.delete(listener);
            resolve();
          };
          listeners.add(listener);
        });
      }
    },
  };
}
