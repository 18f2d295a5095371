/**
 * The indexes over completed rows: per listing a count and marks, per metadata term its documents, and the names.
 * Rows join when they become `upload_completed` and leave when they stop being it; reading is in `sql-find.ts`.
 */

import type { Face, JsonObject, Term } from "@docyard/core";
import { sql } from "kysely";
import type { ArtifactRow, PostingTable } from "./schema.ts";
import { forEach } from "./sql-each.ts";
import { compareTerms, storedTerms } from "./sql-filter.ts";
import { marksSql } from "./sql-marks.ts";
import type { Step } from "./sql-recent.ts";
import type { Dialect, Sql } from "./sql.ts";
import { fillingIn, first, integer, statement, unread } from "./sql.ts";

/** The parts of a row that the indexes are made of; none of them ever changes. */
export type ListedRow = Pick<
  ArtifactRow,
  "n" | "id" | "dock_id" | "face" | "media_type" | "folded" | "created_at"
>;

/** A row that joins, and what it can be found by. */
export interface Joining {
  readonly row: ListedRow;
  readonly metadata: JsonObject;
}

/** Which listing has changed, and its `changes` with that. */
export type Place = Pick<Step, "listing" | "change">;

export interface Listings {
  join(row: ListedRow, metadata: JsonObject): Sql<Place>;
  /** The same for many rows, in few statements. */
  joinAll(joining: readonly Joining[]): Sql<void>;
  leave(row: ListedRow, metadata: JsonObject): Sql<Place>;
  /** For a change of a row that stays where it is. */
  touch(row: ListedRow): Sql<Place>;
}

interface TermKey extends Term {
  readonly listing: number;
}

interface ListingKey {
  readonly dockId: string;
  readonly face: Face;
}

interface Counted {
  readonly documents: number;
}

interface Entry {
  readonly createdAt: number;
  readonly id: string;
  readonly n: number;
}

export function listingsSql(dialect: Dialect): Listings {
  const { db, names } = dialect;
  const marks = marksSql(dialect);
  const joining = (p: ListingKey & Counted) =>
    db
      .insertInto("listing_count")
      .values({
        dock_id: p.dockId,
        face: p.face,
        completed: integer(p.documents),
        changes: integer(p.documents),
      })
      .onConflict((conflict) =>
        conflict.columns(["dock_id", "face"]).doUpdateSet({
          completed: sql<number>`listing_count.completed + excluded.completed`,
          changes: sql<number>`listing_count.changes + excluded.changes`,
        }),
      );
  const joined = fillingIn(dialect, {
    returning: (p: ListingKey & Counted) => joining(p).returning(["n", "changes"]),
    plain: joining,
    reread: (p: ListingKey & Counted) =>
      db
        .selectFrom("listing_count")
        .select(["n", "changes"])
        .where("dock_id", "=", p.dockId)
        .where("face", "=", p.face),
  });
  const changing = (p: ListingKey) =>
    db
      .updateTable("listing_count")
      .set({ changes: sql<number>`changes + 1` })
      .where("dock_id", "=", p.dockId)
      .where("face", "=", p.face)
      .returning(["n", "changes"]);
  const touched = statement(changing);
  const left = statement((p: ListingKey) => changing(p).set({ completed: sql<number>`completed - 1` }));
  const counted = statement((p: TermKey) =>
    db
      .insertInto("term")
      .values({ listing: p.listing, path: p.path, value: p.value, documents: 1 })
      .onConflict((conflict) =>
        conflict
          .columns(["listing", "path", "value"])
          .doUpdateSet({ documents: sql<number>`term.documents + 1` }),
      ),
  );
  const countedEach = forEach(TERM_COLUMNS, (rows: (TermKey & Counted)[]) =>
    db
      .insertInto("term")
      .values(rows)
      .onConflict((conflict) =>
        conflict
          .columns(["listing", "path", "value"])
          .doUpdateSet({ documents: sql<number>`term.documents + excluded.documents` }),
      )
      .returning(["id", "path", "value"]),
  );
  const postedEach = forEach(
    POSTING_COLUMNS,
    (rows: PostingTable[]) => db.insertInto("posting").values(rows),
    { unread: true },
  );
  const discounted = statement((p: TermKey) =>
    db
      .updateTable("term")
      .set({ documents: sql<number>`documents - 1` })
      .where("listing", "=", p.listing)
      .where("path", "=", p.path)
      .where("value", "=", p.value)
      .returning(["id", "documents"]),
  );
  const forgotten = statement((p: { id: number }) => db.deleteFrom("term").where("id", "=", p.id));
  const posted = statement((p: TermKey & Entry) =>
    db.insertInto("posting").values({
      term: sql<number>`(select id from term
        where listing = ${p.listing} and path = ${p.path} and value = ${p.value})`,
      created_at: p.createdAt,
      id: p.id,
      n: p.n,
    }),
  );
  const withdrawn = statement((p: { term: number } & Omit<Entry, "n">) =>
    db
      .deleteFrom("posting")
      .where("term", "=", p.term)
      .where("created_at", "=", p.createdAt)
      .where("id", "=", p.id),
  );

  return {
    *join(row, metadata) {
      const { n: listing, changes } = yield* joined({ dockId: row.dock_id, face: row.face, documents: 1 });
      yield* marks.add(listing, [row]);
      for (const { path, value } of storedTerms(metadata, row.media_type)) {
        yield unread(counted({ listing, path, value }));
        yield unread(posted({ listing, path, value, createdAt: row.created_at, id: row.id, n: row.n }));
      }
      if (names.write !== null) yield names.write.add({ listing, n: row.n, folded: row.folded });
      return { listing, change: changes };
    },
    *joinAll(all) {
      // All listings before any term, each in order: who takes several locks takes them in one order.
      const groups: [listing: number, group: readonly Joining[]][] = [];
      for (const group of listingsOf(all)) {
        const { dock_id: dockId, face } = group[0]!.row;
        groups.push([(yield* joined({ dockId, face, documents: group.length })).n, group]);
      }
      for (const [listing, group] of groups) {
        yield* marks.add(
          listing,
          group.map(({ row }) => row),
        );
        const terms = new Map<string, { readonly term: Term; readonly rows: ListedRow[] }>();
        for (const { row, metadata } of group) {
          for (const term of storedTerms(metadata, row.media_type)) {
            const found = terms.get(nameOf(term)) ?? { term, rows: [] };
            found.rows.push(row);
            terms.set(nameOf(term), found);
          }
          if (names.write !== null) yield names.write.add({ listing, n: row.n, folded: row.folded });
        }
        const counts = [...terms.values()]
          .map(({ term: { path, value }, rows }) => ({ listing, path, value, documents: rows.length }))
          .sort(compareTerms);
        const postings: PostingTable[] = [];
        for (const { id: term, ...stored } of yield* countedEach(counts)) {
          const { rows } = terms.get(nameOf(stored))!;
          postings.push(...rows.map(({ created_at, id, n }) => ({ term, created_at, id, n })));
        }
        yield* postedEach(postings);
      }
    },
    *leave(row, metadata) {
      const { n: listing, changes } = (yield* first(left({ dockId: row.dock_id, face: row.face })))!;
      yield* marks.remove(listing, row);
      for (const term of storedTerms(metadata, row.media_type)) {
        const found = yield* first(discounted({ listing, path: term.path, value: term.value }));
        if (found === undefined) throw new Error(`the metadata index lacks a term of ${row.id}`);
        yield unread(withdrawn({ term: found.id, createdAt: row.created_at, id: row.id }));
        if (found.documents === 0) yield unread(forgotten({ id: found.id }));
      }
      if (names.write !== null) yield names.write.remove({ listing, n: row.n, folded: row.folded });
      return { listing, change: changes };
    },
    *touch({ dock_id: dockId, face }) {
      const { n: listing, changes } = (yield* first(touched({ dockId, face })))!;
      return { listing, change: changes };
    },
  };
}

const TERM_COLUMNS = ["listing", "path", "value", "documents"] as const;
const POSTING_COLUMNS = ["term", "created_at", "id", "n"] as const;

/** Unlike for unlike terms. */
function nameOf({ path, value }: Term): string {
  return JSON.stringify([path, value]);
}

/** Rows by their listing, listings in order. */
function listingsOf(all: readonly Joining[]): Joining[][] {
  const groups = new Map<string, Joining[]>();
  for (const joining of all) {
    const key = `${joining.row.dock_id} ${joining.row.face}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [joining]);
    else group.push(joining);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}
