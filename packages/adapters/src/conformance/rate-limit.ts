/**
 * The conformance suite of the `RateLimit` port: every sentence of its contract as a named case, for any driver.
 * Time passes through `wait`, so a driver with a clock of its own is really waited for.
 */

import type { LimitRule, RateLimit } from "@docyard/core";
import { describe, expect, test } from "vitest";

export interface OpenRateLimit {
  /** Fresh: no key has been used. */
  readonly limit: RateLimit;
  /** Lets so many milliseconds pass by the clock of the limit. */
  readonly wait: (ms: number) => Promise<void>;
  /** Another instance on the same counts, as a second replica has; absent where counts are the instance's own. */
  readonly replica?: () => Promise<RateLimit>;
  /** Anything held that has no use any more once every window of the case has ended; empty if all is well. */
  readonly leftovers: () => Promise<readonly string[]>;
  readonly close: () => Promise<void>;
}

/** Whether several instances share their counts: selects a case when the suite is made. */
export interface RateLimitTraits {
  readonly shared: boolean;
}

interface RateLimitCase {
  readonly name: string;
  readonly when?: (traits: RateLimitTraits) => boolean;
  readonly run: (open: OpenRateLimit) => Promise<void>;
}

/** Long enough that a case's takes fall into one window, short enough to be waited for. */
const WINDOW_MS = 600;
const RULE: LimitRule = { max: 3, windowMs: WINDOW_MS };

/** Runs the suite; `open` is called once per case. */
export function testRateLimit(
  name: string,
  open: () => Promise<OpenRateLimit>,
  traits: RateLimitTraits,
): void {
  describe(`${name} keeps the RateLimit contract`, () => {
    test.for(CASES.filter(({ when }) => when === undefined || when(traits)))("$name", async ({ run }) => {
      const opened = await open();
      try {
        await run(opened);
        await opened.wait(WINDOW_MS + 100);
        expect(await opened.leftovers()).toEqual([]);
      } finally {
        await opened.close();
      }
    });
  });
}

/** What `count` takes one after another were answered. */
async function takes(limit: RateLimit, count: number, key = "mc_1", rule = RULE): Promise<boolean[]> {
  const answers: boolean[] = [];
  for (let i = 0; i < count; i++) answers.push((await limit.take(key, rule)).allowed);
  return answers;
}

const CASES: readonly RateLimitCase[] = [
  {
    name: "exactly `max` are allowed in a window, with the rest counted down",
    async run({ limit }) {
      const answers = [];
      for (let i = 0; i < 4; i++) answers.push(await limit.take("mc_1", RULE));
      expect(answers.map(({ allowed, remaining }) => [allowed, remaining])).toEqual([
        [true, 2],
        [true, 1],
        [true, 0],
        [false, 0],
      ]);
    },
  },
  {
    name: "an allowed take has nothing to wait for, a refused one at most the window",
    async run({ limit }) {
      for (let i = 0; i < 3; i++) expect((await limit.take("mc_1", RULE)).retryAfterMs).toBe(0);
      const { retryAfterMs } = await limit.take("mc_1", RULE);
      expect(retryAfterMs).toBeGreaterThan(0);
      expect(retryAfterMs).toBeLessThanOrEqual(WINDOW_MS);
    },
  },
  {
    name: "after the time it names, a take is allowed again",
    async run({ limit, wait }) {
      expect(await takes(limit, 4)).toEqual([true, true, true, false]);
      const { retryAfterMs } = await limit.take("mc_1", RULE);
      await wait(retryAfterMs + 20);
      expect(await takes(limit, 4)).toEqual([true, true, true, false]);
    },
  },
  {
    name: "a window starts with the key's first use, and refused takes do not stretch it",
    async run({ limit, wait }) {
      expect(await takes(limit, 3)).toEqual([true, true, true]);
      await wait(WINDOW_MS / 3);
      const early = await limit.take("mc_1", RULE);
      await wait(WINDOW_MS / 3);
      const late = await limit.take("mc_1", RULE);
      expect([early.allowed, late.allowed]).toEqual([false, false]);
      expect(late.retryAfterMs).toBeLessThan(early.retryAfterMs);
      await wait(late.retryAfterMs + 20);
      expect((await limit.take("mc_1", RULE)).allowed).toBe(true);
    },
  },
  {
    name: "keys do not touch each other, however odd",
    async run({ limit }) {
      const keys = [
        "mc_1",
        "mc_10",
        "list:mc_1",
        "mc_1:list",
        "",
        "ünï",
        "a b",
        "__proto__",
        "k".repeat(300),
      ];
      for (const key of keys) expect(await takes(limit, 4, key)).toEqual([true, true, true, false]);
    },
  },
  {
    name: "max 0 is no limit, and uses nothing up",
    async run({ limit }) {
      for (let i = 0; i < 50; i++) {
        const { allowed, remaining, retryAfterMs } = await limit.take("mc_1", {
          max: 0,
          windowMs: WINDOW_MS,
        });
        expect([allowed, remaining > 0, retryAfterMs]).toEqual([true, true, 0]);
      }
      expect(await takes(limit, 4)).toEqual([true, true, true, false]);
    },
  },
  {
    name: "max 1 allows one",
    async run({ limit }) {
      expect(await takes(limit, 3, "mc_1", { max: 1, windowMs: WINDOW_MS })).toEqual([true, false, false]);
    },
  },
  {
    name: "of many takes at once exactly `max` are allowed",
    async run({ limit }) {
      const rule = { max: 25, windowMs: 5_000 };
      const answers = await Promise.all(Array.from({ length: 200 }, () => limit.take("mc_1", rule)));
      expect(answers.filter(({ allowed }) => allowed)).toHaveLength(25);
      const left = answers.filter(({ allowed }) => allowed).map(({ remaining }) => remaining);
      expect(left.sort((a, b) => a - b)).toEqual(Array.from({ length: 25 }, (_, i) => i));
    },
  },
  {
    name: "replicas share their counts",
    when: ({ shared }) => shared,
    async run({ limit, replica }) {
      if (replica === undefined) throw new TypeError("a shared limit needs `replica` in what `open` gives");
      const other = await replica();
      try {
        expect(await takes(limit, 2)).toEqual([true, true]);
        expect(await takes(other, 2)).toEqual([true, false]);
        expect(await takes(limit, 1)).toEqual([false]);
      } finally {
        await other.close();
      }
    },
  },
  {
    name: "close may be repeated, and later takes reject",
    async run({ limit }) {
      await takes(limit, 1);
      await limit.close();
      await limit.close();
      await expect(limit.take("mc_1", RULE)).rejects.toThrow(/clos/i);
    },
  },
];
