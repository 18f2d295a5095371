/** Lulls: who waits for one, how long, and that it comes once. */

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { atLull, WAIT_MAX_MS } from "../../packages/adapters/src/lull.ts";

/** What one turn of the event loop brings. */
interface Turn {
  readonly events: number;
  readonly ms: number;
  readonly isFull: boolean;
}

const turns = fc.array(
  fc.record({
    events: fc.nat({ max: 2 }),
    ms: fc.constantFrom(0, 0.25, 1),
    isFull: fc.boolean(),
  }),
  { maxLength: 12 },
);

/** After how many turns it calls back, in a loop that brings these and then nothing any more. */
async function turnsUntilLull(brought: readonly Turn[]): Promise<number> {
  const loop = { turns: 0, events: 7, now: 1_000, isFull: false };
  const heardAt: number[] = [];
  const lull = (): void => void heardAt.push(loop.turns);
  await new Promise<void>((resolve) => {
    const turn = (): void => {
      const { events = 0, ms = 0, isFull = false } = brought[loop.turns++] ?? {};
      loop.events += events;
      loop.now += ms;
      loop.isFull = isFull;
      if (loop.turns > brought.length + 2) resolve();
      else setImmediate(turn);
    };
    // Before the lull's own: each turn has brought what it brings when it is looked at.
    setImmediate(turn);
    atLull(lull, () => loop.isFull, { now: () => loop.now, events: () => loop.events });
  });
  expect(heardAt).toHaveLength(1);
  return heardAt[0]!;
}

test("a lull is the first turn without an event, sooner where it is full or has taken too long", async () => {
  await fc.assert(
    fc.asyncProperty(turns, async (brought) => {
      let taken = 0;
      const ends = brought.map(({ events, ms, isFull }) => {
        taken += ms;
        return events === 0 || isFull || taken >= WAIT_MAX_MS;
      });
      const expected = ends.includes(true) ? ends.indexOf(true) + 1 : brought.length + 1;
      expect(await turnsUntilLull(brought)).toBe(expected);
    }),
  );
});
