/** The memory rate limit keeps the port's contract, agrees with a plain model, and stays bounded. */

import { testRateLimit } from "@docyard/adapters/conformance/rate-limit";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

testRateLimit(
  "memory",
  async () => {
    let time = 5_000;
    const limit = memoryLimit({ now: () => time });
    return {
      limit,
      wait: async (ms) => {
        time += ms;
      },
      leftovers: async () => [],
      close: () => limit.close(),
    };
  },
  { shared: false },
);

describe("memory limit", () => {
  test("agrees with a model that remembers every take", async () => {
    const step = fc.record({
      key: fc.constantFrom("a", "b", "c"),
      wait: fc.integer({ min: 0, max: 150 }),
      max: fc.constantFrom(1, 2, 5),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
        let time = 0;
        const windowMs = 200;
        const limit = memoryLimit({ now: () => time });
        const model = new Map<string, { start: number; used: number }>();
        for (const { key, wait, max } of steps) {
          time += wait;
          let window = model.get(key);
          if (window === undefined || time >= window.start + windowMs) {
            window = { start: time, used: 0 };
            model.set(key, window);
          }
          const allowed = window.used < max;
          if (allowed) window.used++;
          expect(await limit.take(key, { max, windowMs })).toEqual({
            allowed,
            remaining: allowed ? max - window.used : 0,
            retryAfterMs: allowed ? 0 : window.start + windowMs - time,
          });
        }
      }),
    );
  });

  test("expired windows are dropped: a million keys over time hold a few thousand", async () => {
    let time = 0;
    const limit = memoryLimit({ now: () => time });
    const rule = { max: 1, windowMs: 1_000 };
    let most = 0;
    for (let i = 0; i < 200_000; i++) {
      time = i;
      await limit.take(`key-${i}`, rule);
      most = Math.max(most, limit.windows);
    }
    expect(most).toBeLessThanOrEqual(2 * 1_024);
  });

  test("living windows are bounded too, the oldest forgotten first", async () => {
    const limit = memoryLimit({ now: () => 0, windowsMax: 100 });
    const rule = { max: 1, windowMs: 1_000 };
    for (let i = 0; i < 1_000; i++) await limit.take(`key-${i}`, rule);
    expect(limit.windows).toBe(100);
    expect((await limit.take("key-999", rule)).allowed).toBe(false);
    expect((await limit.take("key-0", rule)).allowed).toBe(true);
  });

  test("a clock that is set back ends a window instead of stretching it", async () => {
    let time = 1_000_000;
    const limit = memoryLimit({ now: () => time });
    const rule = { max: 1, windowMs: 1_000 };
    expect((await limit.take("a", rule)).allowed).toBe(true);
    expect((await limit.take("a", rule)).allowed).toBe(false);
    time = 0;
    expect((await limit.take("a", rule)).allowed).toBe(true);
    expect((await limit.take("a", rule)).retryAfterMs).toBe(1_000);
  });
});
