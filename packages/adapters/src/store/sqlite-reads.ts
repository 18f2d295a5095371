/**
 * Reads on one SQLite connection: what a read asks is of one moment, or of one between two pauses, in which others have
 * their turn. What is read is left to the operations; writes are `sqlite-group.ts`.
 */

import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { Database } from "better-sqlite3";
import type { Query, Sql } from "./sql.ts";
import type { Execute } from "./sqlite-open.ts";

/** How long reads that can pause go on in one turn of the event loop, in milliseconds: everybody waits meanwhile. */
const PAUSING_MS = 10;

/** How long a read aside rests where others have something to do, for each millisecond that it took. */
const REST = 2;
/** Shortest rest, in milliseconds: those who wait for the thread get it first. */
const REST_MIN_MS = 2;
/** Others have something to do where the thread was busy for more than this part of the shortest rest. */
const BUSY = 0.3;

export interface Reader {
  /** Runs a read to its end; with a pause, others have their turn. */
  read<T>(operation: () => Sql<T>): Promise<T>;
  /** Runs one that nobody waits for: while others have something to do, it has a third of the thread at most. */
  readAside(operation: () => Sql<void>): Promise<void>;
}

/**
 * Runs reads to their end. In a transaction all queries see what the first one has seen, whatever other processes commit.
 * @param requireOpen throws where there is nothing to read from any more; asked after each pause
 */
export function createReader(db: Database, execute: Execute, requireOpen: () => void): Reader {
  const begin = db.prepare<[]>("begin");
  const end = db.prepare<[]>("commit");
  const turns = createTurns();

  /** Goes on until the end, or a pause when it is time for one. */
  const readOn = <T>(running: Sql<T>, isTime: () => boolean): IteratorResult<Query, T> => {
    begin.run();
    try {
      let step = running.next([]);
      while (step.done !== true) {
        const { value: query } = step;
        if (query.pause === true && isTime()) return step;
        step = running.next(query.pause === true ? [] : execute(query));
      }
      return step;
    } finally {
      end.run();
    }
  };

  return {
    async read(operation) {
      const running = operation();
      for (;;) {
        const step = readOn(running, () => turns.isOver());
        if (step.done === true) return step.value;
        await turns.next();
        requireOpen();
      }
    },
    async readAside(operation) {
      const running = operation();
      for (let rest = REST_MIN_MS; ;) {
        const before = performance.eventLoopUtilization();
        await pause(REST_MIN_MS);
        if (performance.eventLoopUtilization(before).utilization > BUSY) await pause(rest - REST_MIN_MS);
        requireOpen();
        const from = performance.now();
        const step = readOn(running, () => true);
        if (step.done === true) return step.value;
        rest = Math.max(REST_MIN_MS, (performance.now() - from) * REST);
      }
    },
  };
}

/** In which a process that has nothing else to do ends. */
function pause(ms: number): Promise<void> {
  return sleep(ms, undefined, { ref: false });
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
