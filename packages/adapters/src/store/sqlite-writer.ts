/**
 * Which thread writes: the main one, unless many writes come at once; then one beside it, which comes and goes. A commit
 * stops its thread for a sync to the disk, and with its statements takes a third of what a small upload takes.
 * What a write is, and that it is whole and durable, is `sqlite-writes.ts`'s on either thread.
 */

import type { WorkerOptions } from "node:worker_threads";
import { Worker } from "node:worker_threads";
import type { ErrorCode } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { isSource, isThreadWorthwhile, threadProgram } from "../threads.ts";
import type { WriteArgs, WriteName, WriteResult } from "./sql-writes.ts";
import type { OpenSqlite, SqliteStoreOptions } from "./sqlite-open.ts";
import type { SqliteWriter } from "./sqlite-writes.ts";
import { sqliteWriter } from "./sqlite-writes.ts";

/**
 * Milliseconds without two writes at once after which the thread is ended: it takes 27 MiB while it is there, and one that
 * begins has all its code to compile again.
 */
const ALONE_MS = 60_000;
/** Writes that are sent together at most: what the thread does in one transaction. */
const BATCH_MAX = 256;
/**
 * Writes that are sent at once, so that the thread works while this one goes on with its turn; fewer only to a thread that
 * has nothing to do: a commit costs as much for two writes as for eight.
 */
const BATCH_ENOUGH = 8;
/** Batches that the thread has at once: while it works on one, another is on its way. */
const SENT_MAX = 2;
/** Writes that share a commit and are no crowd: larger groups for a while call for the thread. */
const COMPANY = 4;
/** How many writes beyond that, less how many below it, call for it. */
const CROWD = 256;
/** MiB of the thread's young heap, in which a batch lives and dies. */
const YOUNG_MIB = 4;

/** What the thread is told: writes, or to end. */
export type Batch =
  | readonly (readonly [name: WriteName, args: WriteArgs<WriteName>, taken: string])[]
  | "close";

/** What the thread says: that it is there, or what has become of a batch, in its order; of batches likewise. */
export type Report = "ready" | readonly Outcome[];

export type Outcome = WriteResult<WriteName> | { readonly fault: Fault };

export interface Fault {
  readonly error: unknown;
  /** What makes a `DocyardError` of it. */
  readonly docyard?: {
    readonly code: ErrorCode;
    readonly issues: readonly string[] | undefined;
    readonly retryAfterMs: number | undefined;
  };
}

export interface ThreadedWriter extends Pick<SqliteWriter, "write"> {
  /** Waits for what was asked for, and for the thread's end; nothing may be asked for afterwards. */
  close(): Promise<void>;
}

/**
 * Begins on this thread, unless the other is to be there all the time: then it is waited for. Where no other can be had,
 * or one has died, it stays here.
 */
export async function createWriter(opened: OpenSqlite, options: SqliteStoreOptions): Promise<ThreadedWriter> {
  const { crowd: enough = CROWD, aloneMs = ALONE_MS } = options.writerThread ?? {};
  const isAlways = enough === 0;
  /** Null where no thread can be had. */
  let starter = starterOf(options);
  let thread: WriterThread | null = null;
  /** Whether it has the writes. */
  let isThreaded = false;
  let crowd = 0;
  /** Whether no two writes have come at once for a while, and what tells. */
  let isAlone = false;
  let alone: NodeJS.Timeout | undefined;
  let ending: Promise<unknown> = Promise.resolve();
  let isClosing = false;

  const here = sqliteWriter(opened, options, {
    onGroup(writes) {
      crowd = Math.max(0, crowd + writes - COMPANY);
      if (crowd >= enough) void call();
    },
  });
  const writeHere = ({ name, args, taken, resolve, reject }: Job): void => {
    here.write(name, args, taken).then(resolve, reject);
  };

  /** Resolves once it has the writes, or is not to have them. */
  const call = (): Promise<void> =>
    new Promise((called) => {
      if (starter === null || thread !== null || isClosing) {
        called();
        return;
      }
      const begun = startThread(starter, {
        ready() {
          // Not while this connection has the lock, or is about to: each would wait for the other.
          void here.idle().then(() => {
            isThreaded = thread === begun && begun !== null;
            isAlone = false;
            alone = setTimeout(() => {
              isAlone = true;
              leave();
            }, aloneMs).unref();
            called();
          });
        },
        rest(writes) {
          if (writes === 1) {
            leave();
          } else {
            isAlone = false;
            alone?.refresh();
          }
        },
        unsendable: (jobs) => jobs.forEach(writeHere),
        lost(unsent) {
          clearTimeout(alone);
          // Whatever it was may be there the next time as well.
          starter = null;
          thread = null;
          isThreaded = false;
          unsent.forEach(writeHere);
          called();
        },
      });
      thread = begun;
      if (begun !== null) return;
      starter = null;
      called();
    });
  const leave = (): void => {
    if (!isAlone || isAlways || !isThreaded) return;
    // While something is under way whoever wrote here would wait for the other's lock; soon nothing will be.
    if (!thread!.isResting()) return;
    ending = Promise.all([ending, thread!.end()]);
    thread = null;
    isThreaded = false;
    crowd = 0;
  };

  if (isAlways) await call();
  return {
    write: (name, args, taken) =>
      isThreaded ? thread!.write(name, args, taken) : here.write(name, args, taken),
    async close() {
      isClosing = true;
      await here.idle();
      await Promise.all([ending, thread?.end()]);
      // What a thread that was lost has left behind.
      await here.idle();
    },
  };
}

/** How the thread is started; null where there is to be none, or none can open the same database. */
function starterOf(options: SqliteStoreOptions): (() => Worker) | null {
  const { file, busyTimeoutMs, cacheKiB, nativeBinding, writerThread = {} } = options;
  if (writerThread === null || file === ":memory:" || !isThreadWorthwhile()) return null;
  // An addon that this thread was given cannot be handed on, and loading it a second time, from another file, would put
  // a second SQLite into the process: closing a file there takes away the locks that the first one has on it.
  if (nativeBinding !== undefined) return null;
  const { start = startFromFile } = writerThread;
  const workerData = { file, busyTimeoutMs, cacheKiB };
  return () => start({ ...THREAD_OPTIONS, workerData });
}

/** What the thread is like, whoever starts it: of this process's environment it needs nothing. */
const THREAD_OPTIONS: WorkerOptions = {
  env: {},
  name: "docyard-writer",
  resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
};

function startFromFile(options: WorkerOptions): Worker {
  return new Worker(threadProgram("sqlite-worker", import.meta.url), {
    ...options,
    execArgv: isSource(import.meta.url)
      ? ["--conditions=docyard-src", "--disable-warning=ExperimentalWarning"]
      : [],
  });
}

interface Job {
  readonly name: WriteName;
  readonly args: WriteArgs<WriteName>;
  readonly taken: string;
  readonly resolve: (written: WriteResult<WriteName>) => void;
  readonly reject: (error: unknown) => void;
}

interface WriterThread {
  readonly write: SqliteWriter["write"];
  /** Whether nothing is under way. */
  isResting(): boolean;
  /** Waits for what is under way, and for the thread's end; repeating it is harmless. */
  end(): Promise<void>;
}

interface ThreadEvents {
  /** It has opened the database. */
  ready(): void;
  /** Told after each batch how many writes it had. */
  rest(writes: number): void;
  /** Something in these writes is no plain data. */
  unsendable(jobs: readonly Job[]): void;
  /** It has died; those writes it has not been told of. Called once, and not after `end`. */
  lost(unsent: readonly Job[]): void;
}

/**
 * Null where threads are forbidden. It keeps the process from ending only while it begins, and while something is under
 * way.
 */
function startThread(start: () => Worker, on: ThreadEvents): WriterThread | null {
  let worker: Worker;
  try {
    worker = start();
  } catch {
    return null;
  }
  const queue: Job[] = [];
  /** The batches that the thread has, in order; the next one gathers meanwhile. */
  const sent: (readonly Job[])[] = [];
  let isScheduled = false;
  const exited = Promise.withResolvers<void>();
  let rested: PromiseWithResolvers<void> | null = null;
  let hasEnded = false;

  const isResting = (): boolean => queue.length === 0 && sent.length === 0;
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  const tell = (what: Batch): void => worker.postMessage(what);
  const send = (): void => {
    isScheduled = false;
    const enough = sent.length === 0 ? 1 : BATCH_ENOUGH;
    if (sent.length >= SENT_MAX || queue.length < enough) return;
    const batch = queue.splice(0, BATCH_MAX);
    try {
      tell(batch.map(({ name, args, taken }) => [name, args, taken] as const));
    } catch {
      on.unsendable(batch);
      goOn();
      return;
    }
    sent.push(batch);
    worker.ref();
  };
  /** With what else comes in this turn of the event loop; later where that is too little for a thread that has a batch. */
  const schedule = (): void => {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(send);
  };
  const goOn = (): void => {
    if (queue.length > 0) schedule();
    else if (sent.length === 0) rested?.resolve();
  };
  const settle = (outcomes: readonly Outcome[]): void => {
    const jobs = sent.shift()!;
    if (sent.length === 0) worker.unref();
    for (const [i, outcome] of outcomes.entries()) {
      if ("fault" in outcome) jobs[i]!.reject(errorOf(outcome.fault));
      else jobs[i]!.resolve(outcome);
    }
    goOn();
    on.rest(jobs.length);
  };
  const lose = (reason: unknown): void => {
    if (hasEnded) return;
    hasEnded = true;
    // Its transaction may have been committed or not; who asks again finds out.
    const lost = new Error("the thread that writes to the database has ended", { cause: reason });
    for (const job of sent.splice(0).flat()) job.reject(lost);
    on.lost(queue.splice(0));
    rested?.resolve();
    exited.resolve();
    void worker.terminate();
  };

  worker.on("message", (report: Report) => {
    if (report === "ready") {
      worker.unref();
      on.ready();
    } else {
      settle(report);
    }
  });
  worker.on("error", lose);
  worker.on("exit", (code) => {
    lose(new Error(`it ended with ${code}`));
    exited.resolve();
  });

  return {
    isResting,
    write: (name, args, taken) =>
      new Promise((resolve, reject) => {
        queue.push({ name, args, taken, resolve: resolve as Job["resolve"], reject });
        if (queue.length >= BATCH_ENOUGH) send();
        else schedule();
      }),
    async end() {
      if (!isResting()) await (rested ??= Promise.withResolvers()).promise;
      if (!hasEnded) {
        hasEnded = true;
        worker.ref();
        tell("close");
      }
      await exited.promise;
    },
  };
}

function errorOf({ error, docyard }: Fault): unknown {
  if (docyard === undefined) return error;
  const { message, cause } = error as Error;
  const { code, issues, retryAfterMs } = docyard;
  return new DocyardError(code, message, {
    cause,
    ...(issues === undefined ? {} : { issues }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
