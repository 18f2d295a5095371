/** Media threads and a process that is not always there to hear them. What they read and join is tested with the drivers. */

import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { StartWorker } from "../../packages/adapters/src/media/workers.ts";
import { mediaWorkers } from "../../packages/adapters/src/media/workers.ts";
import { expect, test } from "vitest";

const HANG_MS = 500;

/** Answers every job at once, and then raises the flag. */
const PROGRAM = `
const { parentPort, workerData } = require("node:worker_threads");
parentPort.postMessage({ kind: "alive" });
parentPort.on("message", () => {
  parentPort.postMessage({ kind: "probed", facts: null });
  Atomics.store(workerData, 0, 1);
  Atomics.notify(workerData, 0);
});
`;

test("a process that was stopped, or busy, for longer than a thread may be silent still hears its answer", async () => {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const start: StartWorker = (options) => new Worker(PROGRAM, { ...options, eval: true, workerData: flag });
  const workers = mediaWorkers({ start, concurrency: 1, hangMs: HANG_MS, memoryMb: 64 });
  const probe = () => workers.run({ kind: "probe", size: 1 }, [], undefined);
  try {
    const answer = { kind: "probed", facts: null };
    expect(await probe()).toEqual(answer);
    Atomics.store(flag, 0, 0);
    // From here timers come before messages, as they do for a process that goes on.
    await setImmediate();
    const probing = probe();
    // Until the thread has its job, and no turn of the event loop longer.
    for (let i = 0; i < 20; i++) await Promise.resolve();
    Atomics.wait(flag, 0, 0);
    // Answered by now. Nobody sets this one.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * HANG_MS);
    expect(await probing).toEqual(answer);
  } finally {
    await workers.close();
  }
});

test("a thread that cannot be started is that job's failure, and takes no other job's turn", async () => {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  let tries = 0;
  const start: StartWorker = (options) => {
    tries += 1;
    if (tries <= 3) throw new Error("no more threads for this process");
    return new Worker(PROGRAM, { ...options, eval: true, workerData: flag });
  };
  const workers = mediaWorkers({ start, concurrency: 2, hangMs: HANG_MS, memoryMb: 64 });
  const probe = () => workers.run({ kind: "probe", size: 1 }, [], undefined);
  try {
    for (let i = 0; i < 3; i++) await expect(probe()).rejects.toThrow(/no more threads/);
    expect(await probe()).toEqual({ kind: "probed", facts: null });
  } finally {
    await workers.close();
  }
});
