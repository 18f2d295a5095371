/**
 * Marks along a listing, one for each stretch of time: how many of its rows were created in it, so that a page far from
 * both ends is found by adding up stretches, and between which numbers these lie, which tells the time of a number. Kept
 * by `sql-listing.ts`, used by `sql-find.ts`.
 */

import type { Face } from "@docyard/core";
import { sql } from "kysely";
import type { ListingStretchTable } from "./schema.ts";
import { forEach } from "./sql-each.ts";
import type { Dialect, Sql, Values } from "./sql.ts";
import { all, first, integer, statement, statements, text, unread } from "./sql.ts";

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

/** What a mark knows of a row. */
export interface MarkedRow {
  readonly n: number;
  readonly created_at: number;
}

export interface MarkedListing {
  readonly n: number;
  readonly dockId: string;
  readonly face: Face;
}

export interface Marks {
  /** Rows join the listing. */
  add(listing: number, rows: readonly MarkedRow[]): Sql<void>;
  remove(listing: number, row: MarkedRow): Sql<void>;
  /** The stretch that holds the row which so many others come before, from the newest or the oldest on. */
  seek(listing: number, offset: number, oldestFirst: boolean): Sql<Stretch | undefined>;
  /** No row with that number or a lower one was created later; milliseconds since 1970 UTC. */
  lastTime(listing: MarkedListing, n: number): Sql<number>;
  /** No row with that number or a higher one was created earlier. */
  firstTime(listing: MarkedListing, n: number): Sql<number>;
}

export function marksSql({ db }: Dialect): Marks {
  const added = forEach(
    MARK_COLUMNS,
    (rows: ListingStretchTable[]) =>
      db
        .insertInto("listing_stretch")
        .values(rows)
        .onConflict((conflict) =>
          conflict.columns(["listing", "stretch"]).doUpdateSet({
            documents: sql<number>`listing_stretch.documents + excluded.documents`,
            lowest: sql<number>`case when excluded.lowest < listing_stretch.lowest
              then excluded.lowest else listing_stretch.lowest end`,
            highest: sql<number>`case when excluded.highest > listing_stretch.highest
              then excluded.highest else listing_stretch.highest end`,
          }),
        ),
    { unread: true },
  );
  const removed = statement((p: { listing: number; stretch: number }) =>
    db
      .updateTable("listing_stretch")
      .set({ documents: sql<number>`documents - 1` })
      .where("listing", "=", p.listing)
      .where("stretch", "=", p.stretch),
  );
  const tidied = statement((p: { listing: number; stretch: number }) =>
    db
      .deleteFrom("listing_stretch")
      .where("listing", "=", p.listing)
      .where("stretch", "=", p.stretch)
      .where("documents", "=", 0),
  );
  const walked = (direction: "asc" | "desc") =>
    statement((p: { listing: number; past: number; limit: number }) =>
      db
        .selectFrom("listing_stretch")
        .select(["stretch", "documents"])
        .where("listing", "=", integer(p.listing))
        .where("stretch", direction === "asc" ? ">" : "<", p.past)
        .orderBy("stretch", direction)
        .limit(integer(p.limit)),
    );
  const [upwards, downwards] = [walked("asc"), walked("desc")];

  const marked = (side: Side) => {
    const { kept, beyond, direction } = SIDES[side];
    return statement((p: { listing: number; n: number }) =>
      db
        .selectFrom("listing_stretch")
        .select("stretch")
        .where("listing", "=", integer(p.listing))
        .where(kept, beyond, p.n)
        .orderBy("stretch", direction)
        .limit(sql.lit(1)),
    );
  };
  const created = statements<Values, { created_at: number }>();
  /** By the marks as far as a stretch, and row by row in it. */
  const timeOf = (side: Side) => {
    const stretchBeyond = marked(side);
    const { beyond, direction } = SIDES[side];
    return function* ({ n: listing, dockId, face }: MarkedListing, n: number): Sql<number> {
      const found = yield* first(stretchBeyond({ listing, n }));
      // Nobody has such a number, or had: any time will do.
      if (found === undefined) return 0;
      const from = found.stretch * STRETCH_MS;
      const to = from + STRETCH_MS - 1;
      // The face is written out, as in `sql-page.ts`.
      const query = created(`${side} ${face}`, (p) =>
        db
          .selectFrom("artifact")
          .select("created_at")
          .where("dock_id", "=", text(p["dockId"]))
          .where("face", "=", sql.lit(face))
          .where("status", "=", sql.lit("upload_completed" as const))
          .where("created_at", ">=", p["from"] as number)
          .where("created_at", "<=", p["to"] as number)
          .where("n", beyond, p["n"] as number)
          .orderBy("created_at", direction)
          .orderBy("id", direction)
          .limit(sql.lit(1)),
      );
      const row = yield* first(query({ dockId, from, to, n }));
      // Whoever had the number has left: others are in stretches further on.
      return row?.created_at ?? (side === "last" ? from : to);
    };
  };

  return {
    *add(listing, rows) {
      const stretches = new Map<number, ListingStretchTable>();
      for (const { n, created_at: time } of rows) {
        const stretch = stretchOf(time);
        const mark = stretches.get(stretch) ?? { listing, stretch, documents: 0, lowest: n, highest: n };
        mark.documents++;
        mark.lowest = Math.min(mark.lowest, n);
        mark.highest = Math.max(mark.highest, n);
        stretches.set(stretch, mark);
      }
      // In order: who takes several locks takes them in one order.
      yield* added([...stretches.values()].sort((a, b) => a.stretch - b.stretch));
    },
    *remove(listing, { created_at: time }) {
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
    lastTime: timeOf("last"),
    firstTime: timeOf("first"),
  };
}

const MARK_COLUMNS = ["listing", "stretch", "documents", "lowest", "highest"] as const;

/** The last time is looked for from the newest stretch on that has a number low enough, the first the other way round. */
const SIDES = {
  last: { kept: "lowest", beyond: "<=", direction: "desc" },
  first: { kept: "highest", beyond: ">=", direction: "asc" },
} as const;
type Side = keyof typeof SIDES;

function stretchOf(time: number): number {
  return Math.floor(time / STRETCH_MS);
}
