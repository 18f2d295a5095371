/** The memory queue keeps the port's contract, and its timers survive odd delays and clocks. */

import { testQueue } from "@docyard/adapters/conformance/queue";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

testQueue("memory", async () => {
  const queue = memoryQueue();
  return { queue, leftovers: async () => [], close: () => queue.close() };
});

/** A clock and its timers, turned by hand. */
function fakeClock() {
  let time = 1_000_000;
  const timers: { at: number; run: () => void }[] = [];
  return {
    timers,
    now: () => time,
    setTimeout: (run: () => void, delayMs: number) => void timers.push({ at: time + delayMs, run }),
    turn(ms: number) {
      const end = time + ms;
      for (;;) {
        timers.sort((a, b) => a.at - b.at);
        if (timers.length === 0 || timers[0]!.at > end) break;
        const timer = timers.shift()!;
        time = Math.max(time, timer.at);
        timer.run();
      }
      time = end;
    },
  };
}

const settle = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(resolve);
  });

function listen(queue: ReturnType<typeof memoryQueue>) {
  const seen: string[] = [];
  const controller = new AbortController();
  const consuming = queue.consume(async (id) => void seen.push(id), {
    concurrency: 4,
    signal: controller.signal,
  });
  return {
    seen,
    stop: async () => {
      controller.abort();
      await consuming;
    },
  };
}

describe("memory queue", () => {
  test("each delayed ring comes at its time and none before, for any delays", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 50_000 }), { maxLength: 30 }), async (delays) => {
        const clock = fakeClock();
        const queue = memoryQueue({ now: clock.now, setTimeout: clock.setTimeout });
        const { seen, stop } = listen(queue);
        const start = clock.now();
        for (const [i, delayMs] of delays.entries()) await queue.push(`${i}`, { delayMs });
        for (const moment of [...new Set(delays)].sort((a, b) => a - b)) {
          clock.turn(start + moment - 1 - clock.now() > 0 ? start + moment - 1 - clock.now() : 0);
          await settle();
          expect(seen.every((id) => delays[Number(id)]! <= moment)).toBe(true);
          clock.turn(start + moment - clock.now());
          await settle();
          const due = delays.flatMap((delayMs, i) => (delayMs <= moment ? [`${i}`] : []));
          expect(seen.toSorted()).toEqual(due.toSorted());
        }
        await stop();
        await queue.close();
      }),
      { numRuns: 60 },
    );
  });

  test("rings that nobody takes do not pile up, and those that wait are delivered", async () => {
    const queue = memoryQueue();
    for (let i = 0; i < 20_000; i++) await queue.push(`${i}`);
    expect(queue.waiting).toBe(10_000);
    const listener = listen(queue);
    await settle();
    while (queue.waiting > 0) await settle();
    await queue.push("another");
    await settle();
    expect(listener.seen).toEqual([...Array.from({ length: 10_000 }, (_, i) => `${i}`), "another"]);
    await listener.stop();
  });

  test("a delay beyond what a timer can hold is kept in steps", async () => {
    const clock = fakeClock();
    const queue = memoryQueue({ now: clock.now, setTimeout: clock.setTimeout });
    const { seen, stop } = listen(queue);
    const days40 = 40 * 24 * 3_600_000;
    await queue.push("late", { delayMs: days40 });
    expect(clock.timers[0]!.at - clock.now()).toBeLessThanOrEqual(2 ** 31 - 1);
    clock.turn(days40 - 1);
    await settle();
    expect(seen).toEqual([]);
    clock.turn(1);
    await settle();
    expect(seen).toEqual(["late"]);
    await stop();
    await queue.close();
  });

  test("rings for one id that nobody has taken yet are one ring", async () => {
    const queue = memoryQueue();
    for (let i = 0; i < 1_000; i++) await queue.push("art_1");
    const { seen, stop } = listen(queue);
    await settle();
    expect(seen).toEqual(["art_1"]);
    await stop();
    await queue.close();
  });

  test("close ends consumers and silences timers", async () => {
    const clock = fakeClock();
    const queue = memoryQueue({ now: clock.now, setTimeout: clock.setTimeout });
    const seen: string[] = [];
    const consuming = queue.consume(async (id) => void seen.push(id), {
      concurrency: 1,
      signal: new AbortController().signal,
    });
    await queue.push("late", { delayMs: 10 });
    await queue.close();
    await consuming;
    clock.turn(1_000);
    await settle();
    expect(seen).toEqual([]);
  });

  test.for([0, -1, 1.5, Number.NaN])("concurrency %d is a programmer's mistake", async (concurrency) => {
    const queue = memoryQueue();
    const { signal } = new AbortController();
    await expect(queue.consume(async () => {}, { concurrency, signal })).rejects.toBeInstanceOf(TypeError);
    await queue.close();
  });
});
