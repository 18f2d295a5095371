/** The law of sets of numbers in little memory: they hold what a plain set holds, whatever is put in and taken out. */

import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { NumberSet } from "../../packages/adapters/src/store/number-set.ts";
import { changed, countCommon, EMPTY_SET } from "../../packages/adapters/src/store/number-set.ts";

const CONTAINER = 65_536;

/** A run of numbers with gaps: many enough, close enough together, that containers turn into bits and back. */
const runs = fc
  .record({
    from: fc.oneof(fc.nat(3 * CONTAINER), fc.constantFrom(CONTAINER - 1, CONTAINER, 2 ** 32 - 3, 2 ** 40)),
    gap: fc.constantFrom(1, 2, 7, 1_000),
    length: fc.oneof(fc.nat(3), fc.nat(9_000)),
  })
  .map(({ from, gap, length }) => Array.from({ length }, (_, i) => from + i * gap));
const changes = fc.array(fc.record({ numbers: runs, isIn: fc.boolean() }), { maxLength: 8 });

function built(all: readonly { readonly numbers: readonly number[]; readonly isIn: boolean }[]) {
  let set: NumberSet = EMPTY_SET;
  const plain = new Set<number>();
  for (const { numbers, isIn } of all) {
    // Neither order nor repetition matters.
    set = changed(set, Float64Array.from([...numbers.toReversed(), ...numbers.slice(0, 2)]), isIn);
    for (const number of numbers) {
      if (isIn) plain.add(number);
      else plain.delete(number);
    }
  }
  return { set, plain };
}

const bytesOf = ({ containers }: NumberSet): number =>
  [...containers.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);

describe("a set of numbers", () => {
  test("law: has as many numbers in common with others as plain sets have", () => {
    fc.assert(
      fc.property(fc.array(changes, { minLength: 1, maxLength: 4 }), (all) => {
        const sets = all.map(built);
        const [first, ...others] = sets.map(({ plain }) => plain);
        const common = [...first!].filter((number) => others.every((plain) => plain.has(number)));
        expect(countCommon(sets.map(({ set }) => set))).toBe(common.length);
        for (const { set, plain } of sets) expect(countCommon([set])).toBe(plain.size);
      }),
      { numRuns: 60 },
    );
  });

  test("law: is not changed by what is made of it", () => {
    fc.assert(
      fc.property(changes, runs, fc.boolean(), (before, numbers, isIn) => {
        const { set, plain } = built(before);
        changed(set, Float64Array.from(numbers), isIn);
        expect(countCommon([set])).toBe(plain.size);
      }),
      { numRuns: 60 },
    );
  });

  test("takes two bytes a number while it is sparse, and 8 KiB for each 65,536 once it is dense", () => {
    const every = (gap: number): NumberSet =>
      changed(
        EMPTY_SET,
        Float64Array.from({ length: CONTAINER / gap }, (_, i) => i * gap),
        true,
      );
    expect(bytesOf(every(64))).toBe((CONTAINER / 64) * 2);
    expect(bytesOf(every(16))).toBe(8_192);
    expect(bytesOf(every(8))).toBe(8_192);
    expect(bytesOf(every(1))).toBe(8_192);
    const emptied = changed(
      every(8),
      Float64Array.from({ length: CONTAINER }, (_, i) => i),
      false,
    );
    expect(emptied.bytes).toBe(0);
    expect(emptied.containers.size).toBe(0);
  });

  test("says what it takes, its containers' own costs included", () => {
    fc.assert(
      fc.property(changes, (all) => {
        const { set } = built(all);
        const overhead = set.bytes - bytesOf(set);
        expect(overhead).toBe(set.containers.size * 256);
      }),
      { numRuns: 60 },
    );
  });
});
