/**
 * The signing keys of a running server: how old they may be, who causes a read, and what holds while reading fails.
 * The clock is the test's own; nothing here waits.
 */

import type { SigningKeys } from "@docyard/core";
import { createSigningKeys, SIGNING_KEYS_AGE_MAX_MS, SIGNING_KEYS_STALE_MAX_MS } from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NOON } from "./rows.ts";

const SECOND_MS = 1_000;

interface Source {
  readonly keys: SigningKeys<string>;
  /** What a read gives; null: it fails. */
  stored: readonly string[] | null;
  now: number;
  reads: number;
  /** Makes reads wait for it. */
  gate: Promise<void> | null;
}

function source(...stored: readonly string[]): Source {
  const made: Omit<Source, "keys"> & { keys?: SigningKeys<string> } = {
    stored,
    now: NOON,
    reads: 0,
    gate: null,
  };
  made.keys = createSigningKeys({
    async read() {
      made.reads++;
      // What is stored now is what is read, however long the answer takes.
      const found = made.stored;
      await made.gate;
      if (found === null) throw new Error("away");
      return found;
    },
    now: () => made.now,
  });
  return made as Source;
}

function gate(): { readonly closed: Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { closed: promise, open: resolve };
}

describe("keys that are known", () => {
  test("are given at once, without a read, until they are too old", async () => {
    const one = source("a");
    expect(await one.keys.current()).toEqual(["a"]);
    one.stored = ["b", "a"];
    one.now += SIGNING_KEYS_AGE_MAX_MS - 1;
    expect(one.keys.current()).toEqual(["a"]);
    expect(one.reads).toBe(1);
    one.now += 1;
    expect(await one.keys.current()).toEqual(["b", "a"]);
    expect(one.keys.current()).toEqual(["b", "a"]);
    expect(one.reads).toBe(2);
  });

  test("are as old as their read's beginning: what changed during it may not be in it", async () => {
    const one = source("a");
    const { closed, open } = gate();
    one.gate = closed;
    const first = one.keys.current();
    one.now += SIGNING_KEYS_AGE_MAX_MS;
    open();
    expect(await first).toEqual(["a"]);
    one.stored = ["b"];
    expect(await one.keys.current()).toEqual(["b"]);
  });

  test("are read again when the clock was set back, as nobody knows then how old they are", async () => {
    const one = source("a");
    await one.keys.current();
    one.stored = ["b"];
    one.now -= 1;
    expect(await one.keys.current()).toEqual(["b"]);
  });

  test("are read once for all who want them at once", async () => {
    const one = source("a");
    expect(await Promise.all([one.keys.current(), one.keys.current(), one.keys.again()])).toEqual([
      ["a"],
      ["a"],
      ["a"],
    ]);
    // The last of them asked for a read that began after its question.
    expect(one.reads).toBe(2);
  });

  test("law: whatever happens, what was taken away is not given a moment longer than promised", async () => {
    const step = fc.record({
      ms: fc.constantFrom(1, 400, 999, 1_000, 10_000, 29_999, 30_000, 31_000, 299_000, 400_000),
      /** Whether the key is another one from now on. */
      isNew: fc.boolean(),
      fails: fc.boolean(),
      call: fc.constantFrom<"current" | "again" | "both">("current", "again", "both"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const one = source("0");
        /** When the key of this name was replaced. */
        const replacedAt = new Map<string, number>();
        let number = 0;
        let lastReadAt: number | null = null;
        let failedAt = Number.NEGATIVE_INFINITY;
        for (const { ms, isNew, fails, call } of steps) {
          one.now += ms;
          if (isNew) {
            replacedAt.set(String(number), one.now);
            number++;
          }
          const before = one.reads;
          one.stored = fails ? null : [String(number)];
          const asked = call === "both" ? (["current", "again"] as const) : [call];
          for (const name of asked) {
            const found = await Promise.resolve(one.keys[name]()).catch(() => null);
            if (fails && one.reads > before) failedAt = one.now;
            if (found === null) {
              // It may only fail where the read does, and for `current` only without keys that are good.
              expect(fails).toBe(true);
              if (name === "current" && lastReadAt !== null) {
                expect(one.now - lastReadAt).toBeGreaterThanOrEqual(SIGNING_KEYS_STALE_MAX_MS);
              }
              continue;
            }
            if (!fails && one.reads > before) lastReadAt = one.now;
            const age = one.now - (replacedAt.get(found[0]) ?? one.now);
            // For a second after a read that failed nobody tries.
            const isAway = one.now - failedAt < SECOND_MS;
            expect(age).toBeLessThan(isAway ? SIGNING_KEYS_STALE_MAX_MS : SIGNING_KEYS_AGE_MAX_MS);
          }
          // A refresh and a miss at most.
          expect(one.reads - before).toBeLessThanOrEqual(asked.length);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("what no known key fits", () => {
  test("has them read again, at most once a second, however many ask", async () => {
    const one = source("a");
    const known = await one.keys.current();
    one.stored = ["b", "a"];
    const found = await Promise.all(Array.from({ length: 20 }, () => one.keys.again()));
    expect(new Set(found).size).toBe(1);
    expect(found[0]).toEqual(["b", "a"]);
    expect(found[0]).not.toBe(known);
    expect(one.reads).toBe(2);
    one.stored = ["c"];
    one.now += SECOND_MS - 1;
    // The very array: there is nothing to try once more.
    expect(await one.keys.again()).toBe(found[0]);
    expect(one.reads).toBe(2);
    one.now += 1;
    expect(await one.keys.again()).toEqual(["c"]);
  });

  test("is not taken for unknown because a read was under way that began too early", async () => {
    const one = source("a");
    const { closed, open } = gate();
    one.gate = closed;
    const early = one.keys.current();
    one.stored = ["b", "a"];
    const late = one.keys.again();
    const alsoLate = one.keys.again();
    open();
    expect(await early).toEqual(["a"]);
    expect(await late).toEqual(["b", "a"]);
    expect(await alsoLate).toEqual(["b", "a"]);
  });

  test("a refresh a moment ago does not stand in its way", async () => {
    const one = source("a");
    await one.keys.current();
    one.now += SIGNING_KEYS_AGE_MAX_MS;
    await one.keys.current();
    one.stored = ["b", "a"];
    one.now += 1;
    expect(await one.keys.again()).toEqual(["b", "a"]);
  });

  test("nobody knows while reading fails, and that is an error and not a no", async () => {
    const one = source("a");
    await one.keys.current();
    one.stored = null;
    await expect(one.keys.again()).rejects.toThrow("away");
    one.stored = ["b"];
    one.now += SECOND_MS;
    expect(await one.keys.again()).toEqual(["b"]);
  });
});

describe("while reading fails", () => {
  test("known keys go on for five minutes, with one attempt a second; then it is an error, and ends by itself", async () => {
    const one = source("a");
    await one.keys.current();
    one.stored = null;
    one.now += SIGNING_KEYS_AGE_MAX_MS;
    for (let i = 0; i < 20; i++) expect(await one.keys.current()).toEqual(["a"]);
    expect(one.reads).toBe(2);
    one.now += SECOND_MS;
    for (let i = 0; i < 20; i++) expect(await one.keys.current()).toEqual(["a"]);
    expect(one.reads).toBe(3);
    one.now = NOON + SIGNING_KEYS_STALE_MAX_MS - 1;
    expect(await one.keys.current()).toEqual(["a"]);
    one.now += 1;
    await expect(one.keys.current()).rejects.toThrow("away");
    await expect(one.keys.current()).rejects.toThrow("away");
    one.stored = ["b"];
    expect(await one.keys.current()).toEqual(["b"]);
  });

  test("a server that never had any says why, each time, and does not remember it", async () => {
    const one = source("a");
    one.stored = null;
    await expect(one.keys.current()).rejects.toThrow("away");
    one.stored = [];
    await expect(one.keys.current()).rejects.toThrow("no signing key");
    one.stored = ["a"];
    expect(await one.keys.current()).toEqual(["a"]);
  });

  test("a source that throws instead of rejecting is no different", async () => {
    let isAway = true;
    const keys = createSigningKeys<string>({
      read: () => {
        if (isAway) throw new Error("away");
        return Promise.resolve(["a"]);
      },
      now: () => NOON,
    });
    await expect(keys.current()).rejects.toThrow("away");
    isAway = false;
    expect(await keys.current()).toEqual(["a"]);
  });
});
