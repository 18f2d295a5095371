/**
 * Runs media jobs in worker threads: at most so many at once, each watched, each replaceable.
 * Knows the protocol and the ports' inputs; nothing of any media library.
 */

import type { MediaInput } from "@docyard/core";
import type { Worker, WorkerOptions } from "node:worker_threads";
import type { Job, Report, Request } from "./protocol.ts";

export type StartWorker = (options: WorkerOptions) => Worker;

export interface MediaWorkersOptions {
  readonly start: StartWorker;
  /** Threads at once. */
  readonly concurrency: number;
  /** Milliseconds a thread may work without a word while it is owed no bytes. */
  readonly hangMs: number;
  /** MiB of heap per thread. */
  readonly memoryMb: number;
}

/** The thread hung, ran out of memory or broke: because of the bytes it was given. */
export class WorkerLost extends Error {
  override readonly name = "WorkerLost";
}

export type FinalReport = Exclude<Report, { readonly kind: "read" | "alive" }>;

export interface MediaWorkers {
  /**
   * Runs one job.
   * @throws WorkerLost; whatever an input's `read` rejected with; the signal's reason.
   */
  run(job: Job, inputs: readonly MediaInput[], signal: AbortSignal | undefined): Promise<FinalReport>;
  /** Ends all threads; jobs under way reject. */
  close(): Promise<void>;
}

/**
 * Parts in which a thread's silence is measured, and one that lasts twice as long does not count: then this process was
 * stopped, or its main thread was busy, and a thread that said something could not be heard.
 */
const SILENCE_PARTS = 4;
/** Milliseconds a thread may take to load its code, on a machine that is busy with other things. */
const START_MS = 60_000;

export function mediaWorkers(options: MediaWorkersOptions): MediaWorkers {
  const { concurrency } = options;
  const idle: Worker[] = [];
  const all = new Set<Worker>();
  const started = new WeakSet<Worker>();
  const queue: (() => void)[] = [];
  const closing = new AbortController();
  let running = 0;

  function startWorker(): Worker {
    const worker = options.start({
      resourceLimits: { maxOldGenerationSizeMb: options.memoryMb },
      // Nothing of this process's environment or flags is a media file's business.
      env: {},
      execArgv: [],
      name: "docyard-media",
    });
    all.add(worker);
    worker.once("message", () => started.add(worker));
    worker.once("exit", () => {
      all.delete(worker);
      const at = idle.indexOf(worker);
      if (at >= 0) idle.splice(at, 1);
    });
    // Between jobs an error has no one to hear it, and the exit is noticed anyway.
    worker.on("error", () => undefined);
    return worker;
  }

  async function slot(signal: AbortSignal): Promise<void> {
    if (running < concurrency) {
      running += 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const take = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        queue.splice(queue.indexOf(take), 1);
        reject(signal.reason as Error);
      };
      queue.push(take);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  /** The slot passes to whoever waits longest. */
  function release(): void {
    const next = queue.shift();
    if (next === undefined) running -= 1;
    else next();
  }

  return {
    async run(job, inputs, outer) {
      if (closing.signal.aborted) throw closing.signal.reason;
      const signal = outer === undefined ? closing.signal : AbortSignal.any([outer, closing.signal]);
      signal.throwIfAborted();
      await slot(signal);
      if (signal.aborted) {
        release();
        throw signal.reason;
      }
      let worker: Worker | undefined;
      try {
        worker = idle.pop() ?? startWorker();
        const own = worker;
        own.ref();
        const patienceMs = (): number => (started.has(own) ? options.hangMs : START_MS);
        const report = await runJob(own, job, inputs, { patienceMs, signal });
        own.unref();
        idle.push(own);
        return report;
      } catch (error) {
        // Its state is unknown; a fresh thread takes its place.
        await worker?.terminate();
        throw error;
      } finally {
        release();
      }
    },
    async close() {
      if (!closing.signal.aborted) closing.abort(new Error("the media driver is closed"));
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}

/** One job on one thread, until its final report. */
function runJob(
  worker: Worker,
  job: Job,
  inputs: readonly MediaInput[],
  { patienceMs, signal }: { readonly patienceMs: () => number; readonly signal: AbortSignal },
): Promise<FinalReport> {
  return new Promise((resolve, reject) => {
    let owed = 0;
    let watchdog: NodeJS.Timeout | undefined;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    const send = (request: Request): void => worker.postMessage(request);

    const settle = (act: () => void): void => {
      clearTimeout(watchdog);
      worker.off("message", onReport);
      worker.off("error", onError);
      worker.off("exit", onExit);
      signal.removeEventListener("abort", onAbort);
      act();
    };
    const fail = (error: unknown): void => settle(() => reject(error));
    const watch = (): void => {
      clearTimeout(watchdog);
      // While bytes are owed the input is slow, not the thread.
      if (owed > 0) return;
      const partMs = patienceMs() / SILENCE_PARTS;
      let parts = 0;
      const listen = (): void => {
        const from = performance.now();
        watchdog = setTimeout(() => {
          if (performance.now() - from < 2 * partMs) parts++;
          if (parts === SILENCE_PARTS) fail(new WorkerLost("no progress"));
          else listen();
        }, partMs);
      };
      listen();
    };
    const onError = (error: Error): void => fail(new WorkerLost(error.message, { cause: error }));
    const onExit = (): void => fail(new WorkerLost("the thread ended"));
    const onAbort = (): void => fail(signal.reason);

    const serve = async (read: Extract<Report, { readonly kind: "read" }>): Promise<void> => {
      owed += 1;
      watch();
      try {
        const bytes = await readExactly(inputs[read.input], read.start, read.end);
        owed -= 1;
        send({ kind: "bytes", id: read.id, bytes });
        watch();
      } catch (error) {
        fail(error);
      }
    };
    const onReport = (report: Report): void => {
      if (report.kind === "read") void serve(report);
      else if (report.kind === "alive") watch();
      else settle(() => resolve(report));
    };

    worker.on("message", onReport);
    worker.on("error", onError);
    worker.on("exit", onExit);
    signal.addEventListener("abort", onAbort, { once: true });
    watch();
    send({ kind: "job", job });
  });
}

async function readExactly(input: MediaInput | undefined, start: number, end: number): Promise<Uint8Array> {
  if (input === undefined || start < 0 || end > input.size || start >= end) {
    throw new RangeError(`the media thread asked for bytes ${start} to ${end}, which are not there`);
  }
  const bytes = await input.read(start, end);
  if (bytes.length !== end - start) {
    throw new Error(
      `an input of ${input.size} bytes gave ${bytes.length} of ${end - start} bytes at ${start}`,
    );
  }
  return bytes;
}
