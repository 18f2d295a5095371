/**
 * Long counts in slices: whoever has more to read than others should wait for reads a part of it, keeps that, and comes
 * again. What is kept, and that it stays exact meanwhile, is its owner's affair; what a pause does is the driver's.
 */

import type { Query, Sql } from "./sql.ts";

/** How often something may be begun before it is done at once: others change too much, or ask for too much. */
const BEGUN_MAX = 16;

/** There is more to count than may be counted now: what has been is kept, and the same again goes on from there. */
export class Unfinished extends Error {
  override readonly name = "Unfinished";
  /** Whether it was begun with this. */
  readonly isBegun: boolean;
  constructor(isBegun: boolean) {
    super("there is more to count");
    this.isBegun = isBegun;
  }
}

/** What an attempt may count: nothing that takes long, one slice of it, or all. */
export type Allowance = "nothing" | "slice" | "all";

/** A driver that knows nothing of pauses does nothing to speak of. */
export const PAUSE: Query = { sql: "select 1", parameters: [], pause: true };

/**
 * Makes attempts until one is finished; each may see another moment of the database.
 * @param attempt must not throw `Unfinished` where it may count all
 * @param begunMax how often it may be begun before that
 */
export function* untilFinished<T>(
  attempt: (allowance: Allowance) => Sql<T>,
  begunMax: number = BEGUN_MAX,
): Sql<T> {
  let allowance: Allowance = "nothing";
  for (let begun = 0; ;) {
    try {
      return yield* attempt(allowance);
    } catch (error) {
      if (!(error instanceof Unfinished)) throw error;
      if (error.isBegun) begun++;
    }
    yield PAUSE;
    allowance = begun < begunMax ? "slice" : "all";
  }
}
