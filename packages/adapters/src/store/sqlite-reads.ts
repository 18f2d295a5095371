/**
 * Reads on one SQLite connection: what a read asks is of one moment, or of one between two pauses, in which others have
 * their turn. What is read is left to the operations; writes are `sqlite-group.ts`.
 */

import { setImmediate as nextTurn } from "node:timers/promises";
import type { Database } from "better-sqlite3";
import type { Query, Sql } from "./sql.ts";
import type { Execute } from "./sqlite-open.ts";

/** How long reads that can pause go on in one turn of the event loop, in milliseconds: everybody waits meanwhile. */
const PAUSING_MS = 10;

/**
 * Runs a read to its end. In a transaction all queries see what the first one has seen, whatever other processes commit.
 * @param requireOpen throws where there is nothing to read from any more; asked after each pause
 */
export function createReader(
  db: Database,
  execute: Execute,
  requireOpen: () => void,
): <T>(operation: () => Sql<T>) => Promise<T> {
  const begin = db.prepare<[]>("begin");
  const end = db.prepare<[]>("commit");
  const turns = createTurns();

  /** Goes on until the end, or a pause when it is time for one. */
  const readOn = <T>(running: Sql<T>): IteratorResult<Query, T> => {
    begin.run();
    try {
      let step = running.next([]);
      while (step.done !== true) {
        const { value: query } = step;
        if (query.pause === true && turns.isOver()) return step;
        step = running.next(query.pause === true ? [] : execute(query));
      }
      return step;
    } finally {
      end.run();
    }
  };

  return async (operation) => {
    const running = operation();
    for (;;) {
      const step = readOn(running);
      if (step.done === true) return step.value;
      await turns.next();
      requireOpen();
    }
  };
}

/** Reads that can pause share a little of each turn of the event loop, however many they are. */
function createTurns() {
  let end = 0;
  let isBegun = false;
  let last: Promise<void> = Promise.resolve();
  const begin = (): void => {
    if (isBegun) return;
    isBegun = true;
    end = performance.now() + PAUSING_MS;
    setImmediate(() => (isBegun = false));
  };
  return {
    /** Whether the time for this turn is up; it runs from the first one's first pause on. */
    isOver(): boolean {
      begin();
      return performance.now() >= end;
    },
    /** A turn of one's own, after those of all who have asked for one before. */
    next: (): Promise<void> => (last = last.then(() => nextTurn()).then(begin)),
  };
}
