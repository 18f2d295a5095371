/**
 * What is remembered of a total that took counting: rungs that stay true while answers join and leave, stand evenly, and
 * are more where there is more to count. How pages are found by them is in `store-ranks.test.ts`.
 */

import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Recent } from "../../packages/adapters/src/store/sql-recent.ts";
import { createRecent } from "../../packages/adapters/src/store/sql-recent.ts";
import type { Question, Totals } from "../../packages/adapters/src/store/sql-totals.ts";
import { createTotals, UNKNOWN } from "../../packages/adapters/src/store/sql-totals.ts";
import { drive } from "../../packages/adapters/src/store/sqlite-open.ts";

const RUNS = process.env["DOCYARD_TEST_FULL"] === "1" ? 2_000 : 200;
const LEAST = 32;
const LISTING = { n: 1, changes: 0 };
/** Every row is an answer. */
const ALL: Question = { key: ["all"], isAnswer: () => true, placeOf: ({ n }) => n };

/** Remembers that so many were counted. */
function counted(total: number): { readonly totals: Totals; readonly recent: Recent } {
  const recent = createRecent();
  const totals = createTotals(recent);
  // oxlint-disable-next-line require-yield -- nobody is asked
  const whole = function* () {
    return { ...UNKNOWN, total };
  };
  drive(totals.of(LISTING, ALL, { whole }, "all"), () => []);
  return { totals, recent };
}

describe("rungs of a total", () => {
  const place = fc.nat(59);
  const deeds = fc.array(fc.record({ kind: fc.constantFrom("rung", "change", "look"), place }), {
    maxLength: 150,
  });

  test("law: they count what is below them, lowest first and each once, whatever joins and leaves", () => {
    fc.assert(
      fc.property(fc.uniqueArray(place), deeds, (first, all) => {
        const answers = new Set(first);
        const below = (at: number): number => [...answers].filter((answer) => answer < at).length;
        const { totals, recent } = counted(answers.size);
        let listing = LISTING;
        const look = (): void => {
          const rungs = totals.rungs(listing, ALL);
          expect(rungs).toEqual(rungs.map((rung) => ({ ...rung, total: below(rung.below) })));
          expect(rungs.every((rung, i) => i === 0 || rung.below > rungs[i - 1]!.below)).toBe(true);
          expect(rungs.length).toBeLessThanOrEqual(LEAST);
          expect(totals.known(listing, ALL)).toBe(answers.size);
        };
        for (const { kind, place: at } of [...all, { kind: "look", place: 0 }]) {
          if (kind === "look") look();
          else if (kind === "rung") totals.addRung(listing, ALL, { below: at, total: below(at) });
          else {
            const by = answers.delete(at) ? -1 : 1;
            if (by === 1) answers.add(at);
            listing = { ...listing, changes: listing.changes + 1 };
            const row = { n: at, folded: "", media_type: null, created_at: 0, metadata: "{}" };
            recent.note([{ listing: listing.n, change: listing.changes, by, row }]);
          }
        }
      }),
      { numRuns: RUNS },
    );
  });

  test.each([
    { answers: 1_000, most: LEAST },
    { answers: 100_000, most: 97 },
    { answers: 10_000_000, most: 256 },
  ])("of $answers answers $most are kept, which stand evenly", ({ answers, most }) => {
    const { totals } = counted(answers);
    // All over, in an order that no rule is made for.
    for (let i = 0, below = 1; i < 4 * most; i++, below = (below + 0.618 * answers) % answers) {
      const at = Math.floor(below);
      totals.addRung(LISTING, ALL, { below: at, total: at });
    }
    const rungs = totals.rungs(LISTING, ALL);
    expect(rungs.length).toBe(most);
    const gaps = rungs.map(({ total }, i) => total - (rungs[i - 1]?.total ?? 0));
    expect(Math.max(...gaps)).toBeLessThan((4 * answers) / most);
  });
});
