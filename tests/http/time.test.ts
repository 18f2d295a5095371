/** Moments as the API writes them are what the platform writes, and what it reads again. */

import { parseTime, printTime } from "../../packages/server/src/time.ts";
import * as fc from "fast-check";
import { expect, test } from "vitest";

const DAY_MS = 86_400_000;
/** Year 0 to 9999: what has four digits. */
const years = { min: -62_167_219_200_000, max: 253_402_300_799_999 };

test("law: a moment is printed as the platform prints it, whatever was printed before, and read as itself", () => {
  const moment = fc.oneof(
    fc.integer(years),
    fc.integer({ min: -800_000, max: 2_900_000 }).map((day) => Math.max(years.min, day * DAY_MS)),
    fc.integer({ min: 1_790_000_000_000, max: 1_790_000_000_000 + 3 * DAY_MS }),
  );
  fc.assert(
    fc.property(fc.array(moment, { minLength: 1 }), (moments) => {
      for (const ms of moments) {
        expect(printTime(ms)).toBe(new Date(ms).toISOString());
        expect(parseTime(printTime(ms))).toBe(ms);
      }
    }),
    { numRuns: 2_000 },
  );
});

test.each([8_640_000_000_000_000, -8_640_000_000_000_000, 253_402_300_800_000, -1, 0])(
  "%d, at an edge of time",
  (ms) => {
    expect(printTime(ms)).toBe(new Date(ms).toISOString());
  },
);
