/**
 * The rows that joined and left listings lately, as this process has committed them: with them, what was counted before
 * is counted on instead of anew. Sound across processes: a change that another one made is missing here, and nothing is
 * counted on across a gap. A database that has lost commits is `sql-store.ts`'s to notice.
 */

import { setBounded } from "../bounded-map.ts";
import type { ArtifactRow } from "./schema.ts";

/** Steps remembered. */
const STEPS_MAX = 1_000;
/** Longest metadata of a row that is remembered, in UTF-16 units of JSON: with it a few megabytes in all. */
const METADATA_MAX = 2_000;

/** A row as a question sees it; none of this ever changes. */
export type AskedRow = Pick<ArtifactRow, "n" | "folded" | "media_type" | "created_at" | "metadata">;

/** One change of a listing. */
export interface Step {
  readonly listing: number;
  /** The listing's `changes` with this one. */
  readonly change: number;
  /** 1: the row joined; -1: it left; 0: something of it changed that nobody can ask for. */
  readonly by: 1 | -1 | 0;
  readonly row: AskedRow;
}

/** A listing and what it has been through, as of the moment that is asked about. */
export interface Changed {
  readonly n: number;
  readonly changes: number;
}

export interface Recent {
  /** Makes known what has been committed. */
  note(steps: readonly Step[]): void;
  /** All steps after so many changes, in order; null where that is not known. */
  since(listing: Changed, changes: number): readonly Step[] | null;
}

export function createRecent(): Recent {
  const steps = new Map<string, Step>();
  const keyOf = (listing: number, change: number): string => `${listing} ${change}`;
  return {
    note(noted) {
      for (const step of noted) {
        if (step.row.metadata.length > METADATA_MAX) continue;
        setBounded(steps, keyOf(step.listing, step.change), step, STEPS_MAX);
      }
    },
    since(listing, changes) {
      if (changes > listing.changes || listing.changes - changes > STEPS_MAX) return null;
      const found: Step[] = [];
      for (let change = changes + 1; change <= listing.changes; change++) {
        const step = steps.get(keyOf(listing.n, change));
        if (step === undefined) return null;
        found.push(step);
      }
      return found;
    },
  };
}
