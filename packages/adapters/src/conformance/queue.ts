/**
 * The conformance suite of the `Queue` port: every sentence of its contract as a named case, for any driver.
 * Written against a doorbell: ids may come twice and in any order, so nothing here asserts that they do not.
 */

import type { Queue } from "@docyard/core";
import { describe, expect, test } from "vitest";

export interface OpenQueue {
  /** Fresh and empty, used by nobody else. */
  readonly queue: Queue;
  /** Anything the queue still holds after `close` that only this queue would use; empty if all is well. */
  readonly leftovers: () => Promise<readonly string[]>;
  readonly close: () => Promise<void>;
}

interface QueueCase {
  readonly name: string;
  readonly run: (queue: Queue) => Promise<void>;
}

/** Milliseconds of a delay that a case can wait for. */
const DELAY_MS = 200;
/** Timers may fire a little early where clocks differ in resolution. */
const CLOCK_SLACK_MS = 20;

/** Runs the suite; `open` is called once per case. */
export function testQueue(name: string, open: () => Promise<OpenQueue>): void {
  describe(`${name} keeps the Queue contract`, () => {
    test.for(CASES)("$name", async ({ run }) => {
      const opened = await open();
      try {
        await run(opened.queue);
        await opened.queue.close();
        expect(await opened.leftovers()).toEqual([]);
      } finally {
        await opened.close();
      }
    });
  });
}

interface Consumer {
  readonly seen: string[];
  /** Resolves once every one of these ids has been handled. */
  readonly until: (ids: readonly string[]) => Promise<void>;
  /** Aborts and waits until `consume` has resolved. */
  readonly stop: () => Promise<void>;
}

/** Consumes in the background and notes what was handled. */
function consumer(
  queue: Queue,
  {
    concurrency = 1,
    handle = async () => {},
  }: { concurrency?: number; handle?: (id: string) => Promise<void> } = {},
): Consumer {
  const controller = new AbortController();
  const seen: string[] = [];
  let wake = (): void => {};
  const running = queue.consume(
    async (id) => {
      try {
        await handle(id);
      } finally {
        seen.push(id);
        wake();
      }
    },
    { concurrency, signal: controller.signal },
  );
  return {
    seen,
    async until(ids) {
      const wanted = [...ids];
      while (!wanted.every((id) => seen.includes(id))) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async stop() {
      controller.abort();
      await running;
    },
  };
}

const CASES: readonly QueueCase[] = [
  {
    name: "a ring reaches a consumer that was there before it",
    async run(queue) {
      const { until, stop } = consumer(queue);
      await queue.push("art_1");
      await until(["art_1"]);
      await stop();
    },
  },
  {
    name: "a ring waits for a consumer that comes later",
    async run(queue) {
      await queue.push("art_1");
      await queue.push("art_2");
      const { until, stop } = consumer(queue);
      await until(["art_1", "art_2"]);
      await stop();
    },
  },
  {
    name: "every id that was rung is handled, however many",
    async run(queue) {
      const ids = Array.from({ length: 200 }, (_, i) => `art_${i}`);
      const { until, stop } = consumer(queue, { concurrency: 4 });
      await Promise.all(ids.map((id) => queue.push(id)));
      await until(ids);
      await stop();
    },
  },
  {
    name: "ids come back exactly as they were pushed",
    async run(queue) {
      const ids = ["art_01HZX", "653aa02e0d0f8e0c1c5b7a11", "with:colon", "with space", "ünï", "0"];
      const { until, stop } = consumer(queue);
      for (const id of ids) await queue.push(id);
      await until(ids);
      await stop();
    },
  },
  {
    name: "a ring while its id is being handled makes it be handled again",
    async run(queue) {
      let again = (): void => {};
      const secondRing = new Promise<void>((resolve) => {
        again = resolve;
      });
      let times = 0;
      const { promise: handledTwice, resolve: done } = Promise.withResolvers<void>();
      const { stop } = consumer(queue, {
        async handle() {
          times++;
          if (times === 1) {
            await queue.push("art_1");
            again();
          } else {
            done();
          }
        },
      });
      await queue.push("art_1");
      await secondRing;
      await handledTwice;
      await stop();
    },
  },
  {
    name: "no more than `concurrency` are handled at a time, and as many are",
    async run(queue) {
      let running = 0;
      let most = 0;
      const { promise: gate, resolve: open } = Promise.withResolvers<void>();
      const { until, stop } = consumer(queue, {
        concurrency: 3,
        async handle() {
          running++;
          most = Math.max(most, running);
          if (running === 3) open();
          await gate;
          await new Promise((resolve) => {
            setTimeout(resolve, 2);
          });
          running--;
        },
      });
      const ids = Array.from({ length: 20 }, (_, i) => `art_${i}`);
      for (const id of ids) await queue.push(id);
      await until(ids);
      await stop();
      expect(most).toBe(3);
    },
  },
  {
    name: "a handler that rejects or throws does not stop the next ring",
    async run(queue) {
      const { until, stop } = consumer(queue, {
        handle(id) {
          if (id === "throws") throw new Error("at once");
          return id === "rejects" ? Promise.reject(new Error("later")) : Promise.resolve();
        },
      });
      for (const id of ["throws", "rejects", "fine"]) await queue.push(id);
      await until(["throws", "rejects", "fine"]);
      await stop();
    },
  },
  {
    name: "a delayed ring comes, and not before its time",
    async run(queue) {
      const start = Date.now();
      let arrived = 0;
      const { until, stop } = consumer(queue, {
        async handle(id) {
          if (id === "late") arrived = Date.now();
        },
      });
      await queue.push("late", { delayMs: DELAY_MS });
      await queue.push("now");
      await until(["now", "late"]);
      await stop();
      expect(arrived - start).toBeGreaterThanOrEqual(DELAY_MS - CLOCK_SLACK_MS);
    },
  },
  {
    name: "a ring now is not held back by one that was delayed",
    async run(queue) {
      const { until, stop, seen } = consumer(queue);
      await queue.push("art_1", { delayMs: 3_600_000 });
      await queue.push("art_1");
      await until(["art_1"]);
      await stop();
      expect(seen[0]).toBe("art_1");
    },
  },
  {
    name: "a delay of zero or less is no delay",
    async run(queue) {
      const { until, stop } = consumer(queue);
      await queue.push("zero", { delayMs: 0 });
      await queue.push("past", { delayMs: -5 });
      await until(["zero", "past"]);
      await stop();
    },
  },
  {
    name: "consume resolves when its signal aborts, after the handlers under way",
    async run(queue) {
      const controller = new AbortController();
      const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
      const { promise: gate, resolve: open } = Promise.withResolvers<void>();
      let settled = false;
      const consuming = queue
        .consume(
          async () => {
            begin();
            await gate;
            settled = true;
          },
          { concurrency: 1, signal: controller.signal },
        )
        .then(() => settled);
      await queue.push("art_1");
      await begun;
      controller.abort();
      open();
      expect(await consuming).toBe(true);
    },
  },
  {
    name: "consume with an aborted signal resolves and handles nothing",
    async run(queue) {
      await queue.push("art_1");
      let isHandled = false;
      await queue.consume(
        async () => {
          isHandled = true;
        },
        { concurrency: 1, signal: AbortSignal.abort() },
      );
      expect(isHandled).toBe(false);
    },
  },
  {
    name: "rings that one consumer left are there for the next",
    async run(queue) {
      const first = consumer(queue);
      await queue.push("art_1");
      await first.until(["art_1"]);
      await first.stop();
      await queue.push("art_2");
      const second = consumer(queue);
      await second.until(["art_2"]);
      await second.stop();
      expect(first.seen).not.toContain("art_2");
    },
  },
  {
    name: "two consumers share the rings",
    async run(queue) {
      const ids = Array.from({ length: 60 }, (_, i) => `art_${i}`);
      const all = new Set<string>();
      const { promise: complete, resolve } = Promise.withResolvers<void>();
      const handle = async (id: string): Promise<void> => {
        all.add(id);
        if (all.size === ids.length) resolve();
      };
      const one = consumer(queue, { concurrency: 2, handle });
      const two = consumer(queue, { concurrency: 2, handle });
      for (const id of ids) await queue.push(id);
      await complete;
      await Promise.all([one.stop(), two.stop()]);
    },
  },
  {
    name: "a handler may push",
    async run(queue) {
      const { until, stop } = consumer(queue, {
        async handle(id) {
          const n = Number(id);
          if (n > 0) await queue.push(`${n - 1}`);
        },
      });
      await queue.push("5");
      await until(["5", "4", "3", "2", "1", "0"]);
      await stop();
    },
  },
  {
    name: "ready resolves on a queue that works",
    async run(queue) {
      await queue.ready();
    },
  },
  {
    name: "after close every call rejects, and close may be repeated",
    async run(queue) {
      await queue.push("art_1", { delayMs: 3_600_000 });
      await queue.close();
      await queue.close();
      await expect(queue.push("art_1")).rejects.toThrow(/clos/i);
      await expect(queue.ready()).rejects.toThrow(/clos/i);
      const { signal } = new AbortController();
      await expect(queue.consume(async () => {}, { concurrency: 1, signal })).rejects.toThrow(/clos/i);
    },
  },
];
