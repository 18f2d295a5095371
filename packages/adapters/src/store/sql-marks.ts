/**
 * Marks along a listing: how many of its rows were created in each stretch of time, so that a page far from both ends is
 * found by adding up stretches instead of walking past rows. Kept by `sql-listing.ts`, used by `sql-find.ts`.
 */

import { sql } from "kysely";
import type { ListingMarkTable } from "./schema.ts";
import { forEach } from "./sql-each.ts";
import type { Dialect, Sql } from "./sql.ts";
import { all, integer, statement, unread } from "./sql.ts";

/** Milliseconds of a stretch: 17 minutes, some thousand rows of a busy dock. Part of the schema. */
export const STRETCH_MS = 1_048_576;
/** Marks read at once. */
const BATCH = 1_000;

/** A stretch and how many rows of the listing come before it. */
export interface Stretch {
  /** Milliseconds since 1970 UTC. */
  readonly from: number;
  readonly to: number;
  readonly before: number;
}

export interface Marks {
  /** Rows created at these times join the listing. */
  add(listing: number, times: readonly number[]): Sql<void>;
  remove(listing: number, time: number): Sql<void>;
  /** The stretch that holds the row which so many others come before, from the newest or the oldest on. */
  seek(listing: number, offset: number, oldestFirst: boolean): Sql<Stretch | undefined>;
}

export function marksSql({ db }: Dialect): Marks {
  const added = forEach(
    MARK_COLUMNS,
    (rows: ListingMarkTable[]) =>
      db
        .insertInto("listing_mark")
        .values(rows)
        .onConflict((conflict) =>
          conflict
            .columns(["listing", "stretch"])
            .doUpdateSet({ documents: sql<number>`listing_mark.documents + excluded.documents` }),
        ),
    { unread: true },
  );
  const removed = statement((p: { listing: number; stretch: number }) =>
    db
      .updateTable("listing_mark")
      .set({ documents: sql<number>`documents - 1` })
      .where("listing", "=", p.listing)
      .where("stretch", "=", p.stretch),
  );
  const tidied = statement((p: { listing: number; stretch: number }) =>
    db
      .deleteFrom("listing_mark")
      .where("listing", "=", p.listing)
      .where("stretch", "=", p.stretch)
      .where("documents", "=", 0),
  );
  const walked = (direction: "asc" | "desc") =>
    statement((p: { listing: number; past: number; limit: number }) =>
      db
        .selectFrom("listing_mark")
        .select(["stretch", "documents"])
        .where("listing", "=", integer(p.listing))
        .where("stretch", direction === "asc" ? ">" : "<", p.past)
        .orderBy("stretch", direction)
        .limit(integer(p.limit)),
    );
  const [upwards, downwards] = [walked("asc"), walked("desc")];

  return {
    *add(listing, times) {
      const stretches = new Map<number, number>();
      for (const time of times) {
        const stretch = stretchOf(time);
        stretches.set(stretch, (stretches.get(stretch) ?? 0) + 1);
      }
      // In order: who takes several locks takes them in one order.
      const rows = [...stretches].sort(([a], [b]) => a - b);
      yield* added(rows.map(([stretch, documents]) => ({ listing, stretch, documents })));
    },
    *remove(listing, time) {
      const stretch = stretchOf(time);
      yield unread(removed({ listing, stretch }));
      yield unread(tidied({ listing, stretch }));
    },
    *seek(listing, offset, oldestFirst) {
      let before = 0;
      let past = oldestFirst ? Number.MIN_SAFE_INTEGER : Number.MAX_SAFE_INTEGER;
      for (;;) {
        const batch = yield* all((oldestFirst ? upwards : downwards)({ listing, past, limit: BATCH }));
        for (const { stretch, documents } of batch) {
          if (before + documents > offset) {
            return { from: stretch * STRETCH_MS, to: (stretch + 1) * STRETCH_MS, before };
          }
          before += documents;
          past = stretch;
        }
        if (batch.length < BATCH) return undefined;
      }
    },
  };
}

const MARK_COLUMNS = ["listing", "stretch", "documents"] as const;

function stretchOf(time: number): number {
  return Math.floor(time / STRETCH_MS);
}
