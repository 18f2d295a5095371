/** What a program may set, and that no setting which bounds nothing is taken. What each is good for, others test. */

import type { SettingsInput } from "@docyard/core";
import { DEFAULT_SETTINGS } from "@docyard/core";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { completeSettings } from "../../packages/core/src/settings.ts";

/** Every number of the settings, as the names that lead to it. */
const NUMBERS: readonly (readonly string[])[] = pathsOf(DEFAULT_SETTINGS);

function pathsOf(value: unknown): string[][] {
  if (typeof value === "number") return [[]];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, one]) => pathsOf(one).map((rest) => [name, ...rest]));
}

/** The defaults with another value at this place. */
function withAt(path: readonly string[], value: unknown, from: unknown = DEFAULT_SETTINGS): SettingsInput {
  const [name, ...rest] = path;
  if (name === undefined) return value as SettingsInput;
  const inner = (from as Readonly<Record<string, unknown>>)[name];
  return { ...(from as object), [name]: withAt(rest, value, inner) };
}

const paths = fc.constantFrom(...NUMBERS);

test("whole numbers from 0 on are taken, wherever they stand", () => {
  expect(NUMBERS.length).toBeGreaterThan(15);
  fc.assert(
    fc.property(paths, fc.maxSafeNat(), (path, value) => {
      const given = withAt(path, value);
      const { graceMs, urlTtlMs } = { ...DEFAULT_SETTINGS, ...given };
      // Raised, so that no signed URL can write bytes that are gone.
      expect(completeSettings(given)).toEqual({ ...given, graceMs: Math.max(graceMs, urlTtlMs) });
    }),
  );
});

test("what bounds nothing is refused by its name", () => {
  const wrong = fc.oneof(
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -1, 0.5, 2 ** 53),
    fc.constantFrom("1", null, true, {}),
  );
  fc.assert(
    fc.property(paths, wrong, (path, value) => {
      expect(() => completeSettings(withAt(path, value))).toThrow(`settings.${path.join(".")} must be a`);
    }),
  );
  expect(() => completeSettings({ readOnly: "false" as unknown as boolean })).toThrow(TypeError);
  expect(() => completeSettings({ limits: { list: null as never } })).toThrow(
    "settings.limits.list must be an",
  );
});

test("what is left out, or undefined, is as live", () => {
  expect(completeSettings()).toEqual(DEFAULT_SETTINGS);
  const undefinedOnes = { sizeMax: undefined, limits: { list: undefined }, ingest: undefined };
  expect(completeSettings(undefinedOnes as unknown as SettingsInput)).toEqual(DEFAULT_SETTINGS);
});
