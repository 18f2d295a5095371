/**
 * ArtifactStore in SQL: guarded writes with their events, and lookups by key.
 * Lists are in `sql-find.ts`, the indexes behind them in `sql-listing.ts`, transactions in the drivers.
 */

import type {
  Artifact,
  ArtifactChange,
  ArtifactEvent,
  ArtifactKey,
  Face,
  FindQuery,
  Found,
  NewEvent,
} from "@docyard/core";
import { sql } from "kysely";
import { parseStored } from "./json.ts";
import type { ArtifactRow, EventTable, NewArtifactRow } from "./schema.ts";
import { ARTIFACT_COLUMNS, CHANGEABLE, fromRow, toRow } from "./schema.ts";
import { findSql } from "./sql-find.ts";
import { listingsSql } from "./sql-listing.ts";
import type { Dialect, Sql } from "./sql.ts";
import { all, first, statement, statements } from "./sql.ts";

/** The port's methods as operations; each must run within one transaction. */
export interface ArtifactSql {
  insert(artifact: Artifact, event: NewEvent): Sql<number>;
  get(key: ArtifactKey): Sql<Artifact | null>;
  update(id: string, version: number, change: ArtifactChange, event: NewEvent | null): Sql<Artifact | null>;
  find(query: FindQuery): Sql<Found>;
  findByDigest(dockId: string, digest: string, face?: Face): Sql<Artifact | null>;
  isBlobInUse(blobKey: string): Sql<boolean>;
  due(now: number, limit: number): Sql<Artifact[]>;
  events(dockId: string, after: number, limit: number): Sql<ArtifactEvent[]>;
}

type UpdateValues = Partial<NewArtifactRow> & { n: number; version: number };

export function artifactSql(dialect: Dialect): ArtifactSql {
  const { db, lock } = dialect;
  const listings = listingsSql(dialect);

  const insertRow = statement((p: NewArtifactRow) => {
    const values = Object.fromEntries(ARTIFACT_COLUMNS.map((column) => [column, p[column]]));
    return db
      .insertInto("artifact")
      .values(values as unknown as NewArtifactRow)
      .returning("n");
  });
  const nextSeq = statement((p: { dockId: string }) =>
    db
      .insertInto("dock_log")
      .values({ dock_id: p.dockId, seq: 1 })
      .onConflict((conflict) =>
        conflict.column("dock_id").doUpdateSet({ seq: sql<number>`dock_log.seq + 1` }),
      )
      .returning("seq"),
  );
  const insertEvent = statement((p: EventTable) =>
    db.insertInto("event").values({
      dock_id: p.dock_id,
      seq: p.seq,
      artifact_id: p.artifact_id,
      type: p.type,
      at: p.at,
      by: p.by,
      data: p.data,
    }),
  );
  const byId = statement((p: { id: string }) => db.selectFrom("artifact").selectAll().where("id", "=", p.id));
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
      .where("dock_id", "=", p.dockId)
      .where("digest", "=", p.digest)
      // Written out, not bound: this is how the partial indexes are recognised.
      .where(sql<boolean>`status = 'upload_completed'`);
  const holder = statement((p: { dockId: string; digest: string }) =>
    digestColumns(p).where(sql<boolean>`shares_blob = 0`),
  );
  const sharer = statement((p: { dockId: string; digest: string; face: Face }) =>
    digestColumns(p)
      .where(sql<boolean>`shares_blob = 1`)
      .where("face", "=", p.face)
      .orderBy("n")
      .limit(1),
  );
  const anySharer = statement((p: { dockId: string; digest: string }) =>
    digestColumns(p)
      .where(sql<boolean>`shares_blob = 1`)
      .orderBy("n")
      .limit(1),
  );
  const blobUser = statement((p: { blobKey: string }) =>
    db
      .selectFrom("artifact")
      .select("n")
      .where("blob_key", "=", p.blobKey)
      .where(sql<boolean>`status = 'upload_completed'`)
      .limit(1),
  );
  const dueRows = statement((p: { now: number; limit: number }) =>
    db
      .selectFrom("artifact")
      .selectAll()
      .where("due_at", "<=", p.now)
      .where("due_at", "is not", null)
      .orderBy("due_at")
      .orderBy("id")
      .limit(p.limit),
  );
  const eventRows = statement((p: { dockId: string; after: number; limit: number }) =>
    db
      .selectFrom("event")
      .selectAll()
      .where("dock_id", "=", p.dockId)
      .where("seq", ">", p.after)
      .orderBy("seq")
      .limit(p.limit),
  );

  /** The dock's counter stays locked until the commit: that is what keeps numbers without gaps and in order. */
  function* log(dockId: string, artifactId: string, event: NewEvent): Sql<number> {
    const { seq } = (yield* first(nextSeq({ dockId })))!;
    yield* all(
      insertEvent({
        dock_id: dockId,
        seq,
        artifact_id: artifactId,
        type: event.type,
        at: event.at,
        by: event.by,
        data: event.data === undefined ? "{}" : JSON.stringify(event.data),
      }),
    );
    return seq;
  }

  return {
    *insert(artifact, event) {
      const row = toRow(artifact);
      const { n } = (yield* first(insertRow(row)))!;
      if (row.status === "upload_completed") yield* listings.join({ ...row, n });
      return yield* log(artifact.dockId, artifact.id, event);
    },

    *get(key) {
      const row = yield* first("id" in key ? byId(key) : byUploadId(key));
      return row === undefined ? null : fromRow(row);
    },

    *update(id, version, change, event) {
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
      yield* all(update(after));
      const isListed = after.status === "upload_completed";
      const wasListed = before.status === "upload_completed";
      if (isListed && !wasListed) yield* listings.join(after);
      if (wasListed && !isListed) yield* listings.leave(before);
      if (event !== null) yield* log(after.dock_id, id, event);
      return fromRow(after);
    },

    find: findSql(dialect),

    *findByDigest(dockId, digest, face) {
      let row = yield* first(holder({ dockId, digest }));
      if (row === undefined || (face !== undefined && row.face !== face)) {
        const query = face === undefined ? anySharer({ dockId, digest }) : sharer({ dockId, digest, face });
        row = yield* first(query);
      }
      return row === undefined ? null : fromRow(row);
    },

    *isBlobInUse(blobKey) {
      return (yield* first(blobUser({ blobKey }))) !== undefined;
    },

    *due(now, limit) {
      return (yield* all(dueRows({ now, limit }))).map(fromRow);
    },

    *events(dockId, after, limit) {
      return (yield* all(eventRows({ dockId, after, limit }))).map((row) => ({
        dockId: row.dock_id,
        seq: row.seq,
        artifactId: row.artifact_id,
        type: row.type,
        at: row.at,
        by: row.by,
        data: parseStored(row.data),
      }));
    },
  };
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
