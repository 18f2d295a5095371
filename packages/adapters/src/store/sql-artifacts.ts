/**
 * ArtifactStore in SQL: guarded writes with their events, and lookups by key.
 * Lists are in `sql-find.ts`, the indexes behind them in `sql-listing.ts`, transactions in the drivers.
 */

import type {
  Artifact,
  ArtifactChange,
  ArtifactEvent,
  ArtifactKey,
  ArtifactStatus,
  DuePlace,
  DueQuery,
  Face,
  FindQuery,
  Found,
  NewEvent,
  Quota,
  Usage,
} from "@docyard/core";
import { usageChange } from "@docyard/core";
import { sql } from "kysely";
import type { ArtifactRow, NewArtifactRow } from "./schema.ts";
import { ARTIFACT_COLUMNS, CHANGEABLE, fromRow, toRow } from "./schema.ts";
import { readAheadSql } from "./sql-ahead.ts";
import { countSql } from "./sql-counts.ts";
import { eventSql } from "./sql-events.ts";
import { findSql } from "./sql-find.ts";
import { listingsSql } from "./sql-listing.ts";
import type { AskedRow, Step } from "./sql-recent.ts";
import { createRecent } from "./sql-recent.ts";
import { termSets } from "./sql-sets.ts";
import type { Dialect, Sql } from "./sql.ts";
import { all, first, integer, statement, statements, text, unread } from "./sql.ts";

/**
 * The port's methods as operations; each must run within one transaction. Writes put the steps that listings take into
 * `steps`, for `note` once they are committed.
 */
export interface ArtifactSql {
  insert(artifact: Artifact, event: NewEvent, quota?: Quota, steps?: Step[]): Sql<void>;
  get(key: ArtifactKey): Sql<Artifact | null>;
  status(id: string): Sql<ArtifactStatus | null>;
  update(
    id: string,
    version: number,
    change: ArtifactChange,
    event: NewEvent | null,
    quota?: Quota,
    steps?: Step[],
  ): Sql<Artifact | null>;
  note(steps: readonly Step[]): void;
  find(query: FindQuery): Sql<Found>;
  /** Reads what lists are likely to need, with pauses. */
  readAhead(): Sql<void>;
  findByDigest(dockId: string, digest: string, face?: Face): Sql<Artifact | null>;
  isBlobInUse(blobKey: string): Sql<boolean>;
  usage(dockId: string): Sql<Usage>;
  walk(after: string, limit: number): Sql<Artifact[]>;
  due(query: DueQuery): Sql<Artifact[]>;
  events(dockId: string, after: number, limit: number): Sql<ArtifactEvent[]>;
}

/** No row is due before 1970. */
const BEFORE_ALL: DuePlace = { dueAt: -1, id: "" };

type UpdateValues = Partial<NewArtifactRow> & { n: number; version: number };

export function artifactSql(dialect: Dialect): ArtifactSql {
  const { db, lock } = dialect;
  const listings = listingsSql(dialect);
  const counts = countSql(dialect);
  const events = eventSql(dialect);
  const recent = createRecent();
  const sets = termSets(dialect, recent);

  const insertRow = statement((p: NewArtifactRow) => {
    const values = Object.fromEntries(ARTIFACT_COLUMNS.map((column) => [column, p[column]]));
    return db.insertInto("artifact").values(values as unknown as NewArtifactRow);
  });
  const numberOf = statement((p: { id: string }) =>
    db.selectFrom("artifact").select("n").where("id", "=", p.id),
  );
  const byId = statement((p: { id: string }) => db.selectFrom("artifact").selectAll().where("id", "=", p.id));
  const statusById = statement((p: { id: string }) =>
    db.selectFrom("artifact").select("status").where("id", "=", p.id),
  );
  const byUploadId = statement((p: { uploadId: string }) =>
    db.selectFrom("artifact").selectAll().where("upload_id", "=", p.uploadId),
  );
  const locked = statement((p: { id: string }) =>
    db.selectFrom("artifact").selectAll().where("id", "=", p.id).modifyEnd(lock),
  );
  const updates = statements<UpdateValues, unknown>();
  const digestColumns = (p: { dockId: string; digest: string }) =>
    db
      .selectFrom("artifact")
      .selectAll()
      .where("dock_id", "=", text(p.dockId))
      .where("digest", "=", text(p.digest))
      // Written out, not bound, like all that the partial indexes are about: this is how they are recognised.
      .where(sql<boolean>`status = 'upload_completed'`);
  const holder = statement((p: { dockId: string; digest: string }) =>
    digestColumns(p).where(sql<boolean>`shares_blob = 0`),
  );
  const anySharer = (p: { dockId: string; digest: string }) =>
    digestColumns(p)
      .where(sql<boolean>`shares_blob = 1`)
      .orderBy("n")
      .limit(sql.lit(1));
  const sharer = statement(anySharer);
  const studioSharer = statement((p: { dockId: string; digest: string }) =>
    anySharer(p).where(sql<boolean>`face = 'studio'`),
  );
  // One query: of this face there is never more than one, holder or not.
  const machineTwin = statement((p: { dockId: string; digest: string }) =>
    digestColumns(p).where(sql<boolean>`face = 'machine'`),
  );
  const blobUser = statement((p: { blobKey: string }) =>
    db
      .selectFrom("artifact")
      .select("n")
      .where("blob_key", "=", p.blobKey)
      .where(sql<boolean>`status = 'upload_completed'`)
      .limit(sql.lit(1)),
  );
  const rowsAfter = statement((p: { after: string; limit: number }) =>
    db.selectFrom("artifact").selectAll().where("id", ">", p.after).orderBy("id").limit(integer(p.limit)),
  );
  const dueRows = statement((p: { status: ArtifactStatus; until: number; limit: number } & DuePlace) =>
    db
      .selectFrom("artifact")
      .selectAll()
      .where(sql<boolean>`status = ${text(p.status)}`)
      .where("due_at", "<=", p.until)
      .where("due_at", "is not", null)
      .where((e) => e(e.refTuple("due_at", "id"), ">", e.tuple(p.dueAt, p.id)))
      .orderBy("due_at")
      .orderBy("id")
      .limit(integer(p.limit)),
  );
  return {
    *insert(artifact, event, quota, steps = []) {
      const row = toRow(artifact);
      yield unread(insertRow(row));
      if (row.status === "upload_completed") {
        const { n } = (yield* first(numberOf({ id: row.id })))!;
        const place = yield* listings.join({ ...row, n }, artifact.metadata);
        steps.push({ ...place, by: 1, row: asked({ ...row, n }) });
      }
      yield* counts.add(row.dock_id, 1, usageChange(null, artifact), quota);
      yield* events.append(artifact, event);
    },

    *get(key) {
      const row = yield* first("id" in key ? byId(key) : byUploadId(key));
      return row === undefined ? null : fromRow(row);
    },

    *status(id) {
      return (yield* first(statusById({ id })))?.status ?? null;
    },

    *update(id, version, change, event, quota, steps = []) {
      const before = yield* first(locked({ id }));
      if (before === undefined || before.version !== version) return null;
      const columns = changedColumns(change);
      const after: ArtifactRow = { ...before, ...columns, version: version + 1 };
      const shape = Object.keys(columns) as (keyof typeof columns)[];
      const update = updates(shape.join(), (p) =>
        db
          .updateTable("artifact")
          .set(Object.fromEntries([...shape, "version" as const].map((column) => [column, p[column]])))
          .where("n", "=", p.n),
      );
      yield unread(update(after));
      const artifact = fromRow(after);
      const isListed = after.status === "upload_completed";
      const wasListed = before.status === "upload_completed";
      const { metadata } = artifact;
      const row = asked(after);
      if (isListed && wasListed) steps.push({ ...(yield* listings.touch(after)), by: 0, row });
      else if (isListed) steps.push({ ...(yield* listings.join(after, metadata)), by: 1, row });
      else if (wasListed) steps.push({ ...(yield* listings.leave(after, metadata)), by: -1, row });
      yield* counts.add(after.dock_id, event === null ? 0 : 1, usageChange(before, after), quota);
      if (event !== null) yield* events.append(artifact, event);
      return artifact;
    },

    note: (steps) => recent.note(steps),

    find: findSql(dialect, recent, sets),
    readAhead: readAheadSql(dialect, sets),

    *findByDigest(dockId, digest, face) {
      let row: ArtifactRow | undefined;
      if (face === "machine") {
        row = yield* first(machineTwin({ dockId, digest }));
      } else {
        row = yield* first(holder({ dockId, digest }));
        if (row === undefined || (face !== undefined && row.face !== face)) {
          row = yield* first((face === undefined ? sharer : studioSharer)({ dockId, digest }));
        }
      }
      return row === undefined ? null : fromRow(row);
    },

    *isBlobInUse(blobKey) {
      return (yield* first(blobUser({ blobKey }))) !== undefined;
    },

    usage: (dockId) => counts.usage(dockId),

    *walk(after, limit) {
      return (yield* all(rowsAfter({ after, limit }))).map(fromRow);
    },

    *due({ after = BEFORE_ALL, ...query }) {
      return (yield* all(dueRows({ ...query, ...after }))).map(fromRow);
    },

    events: (dockId, after, limit) => events.read(dockId, after, limit),
  };
}

/** No more of a row than that: it is kept for a while. */
function asked({ n, folded, media_type, created_at, metadata }: ArtifactRow): AskedRow {
  return { n, folded, media_type, created_at, metadata };
}

/** The columns of a change, in the stored form. */
function changedColumns(change: ArtifactChange): Partial<NewArtifactRow> {
  const columns: Record<string, unknown> = {};
  for (const [field, column] of Object.entries(CHANGEABLE)) {
    const value = change[field as keyof ArtifactChange];
    if (value === undefined) continue;
    columns[column] =
      typeof value === "boolean"
        ? Number(value)
        : typeof value === "object" && value !== null
          ? JSON.stringify(value)
          : value;
  }
  return columns;
}
