/**
 * Group commit: writes that come while the process is busy share one transaction, and thus one sync to the disk.
 * Opening the database and what the writes do is left to others.
 */

import type { Database, Statement } from "better-sqlite3";
import { codeOf } from "../error-code.ts";
import { atLull } from "../lull.ts";

/** Most writes in one transaction: bounds how long readers and other processes wait for it. */
const GROUP_MAX = 256;
/** Pause before the write lock is tried again, in milliseconds, while another process holds it. */
const LOCK_RETRY_MS = 10;

export interface GroupOptions {
  /** How long to wait for another process's write lock, in milliseconds. */
  readonly busyTimeoutMs: number;
  /** Makes an error that a caller can act on out of one that ended a whole transaction. */
  readonly describe: (error: unknown) => unknown;
  /** Told of how many writes have shared each commit. */
  readonly onGroup?: (writes: number) => void;
  /** Calls back when those who are about to come have come. Default: at a lull. */
  readonly gather?: (go: () => void, isFull: () => boolean) => void;
}

export interface GroupWriter {
  /**
   * Queues a write. Resolves to what `run` returned once the commit that holds its changes is durable; rejects with
   * what `run` threw, and then none of its changes are kept, or with the reason why the group could not commit.
   * @param run works on the database at once
   */
  write<T>(run: () => T): Promise<T>;
  /** Resolves when everything queued so far has settled. */
  idle(): Promise<void>;
}

type Work = () => void;

interface Job {
  run(): unknown;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export function createGroupWriter(
  db: Database,
  { busyTimeoutMs, describe, onGroup, gather = atLull }: GroupOptions,
): GroupWriter {
  const prepare = (text: string): Statement<[]> => db.prepare<[]>(text);
  const begin = prepare("begin immediate");
  const commit = prepare("commit");
  const rollback = prepare("rollback");
  const savepoint = prepare("savepoint job");
  const release = prepare("release job");
  const undo = prepare("rollback to job");

  const queue: Job[] = [];
  /** So many at its beginning have been undone together, and are to be done apart. */
  let apart = 0;
  let isScheduled = false;
  /** When the wait for another process's lock began, by `performance.now()`. */
  let waitingSince: number | null = null;
  let onIdle: Work[] = [];

  /** A sync stops the thread for longer than all else that a write costs: worth a wait where others are coming. */
  const schedule = (): void => {
    if (isScheduled) return;
    isScheduled = true;
    gather(flush, () => queue.length >= GROUP_MAX);
  };

  /** False while another process holds the lock and there is time left to wait for it. */
  const lock = (): boolean => {
    try {
      begin.run();
      waitingSince = null;
      return true;
    } catch (error) {
      waitingSince ??= performance.now();
      if (isBusy(error) && performance.now() - waitingSince < busyTimeoutMs) {
        // Not by SQLite's own handler: it would block this process, reads and all.
        setTimeout(flush, LOCK_RETRY_MS);
        return false;
      }
      waitingSince = null;
      apart = 0;
      for (const job of queue.splice(0)) job.reject(describe(error));
      return false;
    }
  };

  /** A job among others: where it fails, so do they all. */
  const perform = (job: Job): Work => {
    const value = job.run();
    return () => job.resolve(value);
  };

  /** A job whose failure undoes its own changes only. */
  const performApart = (job: Job): Work => {
    savepoint.run();
    try {
      const tell = perform(job);
      release.run();
      return tell;
    } catch (error) {
      // On a full disk or a failing one SQLite may have rolled back everything: the group has failed, not the job.
      if (!db.inTransaction) throw error;
      undo.run();
      release.run();
      return () => job.reject(error);
    }
  };

  /**
   * One transaction, begun already; the callers hear of it when it is over. False where a job has failed among others:
   * then nothing has been done, and all are to be done again, apart. Nearly always none does, and a savepoint has its
   * price: SQLite copies every page that is changed after it.
   */
  const settle = (group: readonly Job[], areApart: boolean): boolean => {
    let outcomes: Work[] | null = null;
    try {
      outcomes = group.map(areApart ? performApart : perform);
      commit.run();
      onGroup?.(group.length);
      for (const tell of outcomes) tell();
    } catch (error) {
      // Not the transaction's: that would have ended it, or have come once all jobs were done.
      const isOfJob = outcomes === null && !areApart && db.inTransaction;
      if (db.inTransaction) rollback.run();
      if (isOfJob && group.length > 1) return false;
      for (const job of group) job.reject(isOfJob ? error : describe(error));
    }
    return true;
  };

  const flush = (): void => {
    isScheduled = false;
    if (queue.length > 0 && !lock()) {
      isScheduled = queue.length > 0;
      if (!isScheduled) settleIdle();
      return;
    }
    const areApart = apart > 0;
    const group = queue.splice(0, areApart ? apart : GROUP_MAX);
    apart = 0;
    if (group.length > 0 && !settle(group, areApart)) {
      queue.unshift(...group);
      apart = group.length;
      flush();
      return;
    }
    if (queue.length > 0) schedule();
    else settleIdle();
  };

  const settleIdle = (): void => {
    const waiting = onIdle;
    onIdle = [];
    for (const resolve of waiting) resolve();
  };

  return {
    write: <T>(run: () => T) =>
      new Promise<T>((resolve, reject) => {
        queue.push({ run, resolve, reject });
        schedule();
      }),
    idle: () =>
      new Promise((resolve) => {
        onIdle.push(resolve);
        schedule();
      }),
  };
}

/** Whether an error means that another connection holds a lock. */
export function isBusy(error: unknown): boolean {
  return codeOf(error).startsWith("SQLITE_BUSY");
}
