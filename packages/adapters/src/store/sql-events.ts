/**
 * The event log in SQL: one sequence of numbers for each dock, without gaps.
 * Which change writes which event is core's; they share a transaction because `sql-artifacts.ts` says so.
 */

import type { Artifact, ArtifactEvent, JsonObject, NewEvent } from "@docyard/core";
import { parseJson } from "@docyard/core";
import { sql } from "kysely";
import type { EventTable } from "./schema.ts";
import type { Dialect, Sql } from "./sql.ts";
import { all, integer, statement, text, unread } from "./sql.ts";

/** The dock's next number must have been counted already (`sql-counts.ts`): an event takes the last one. */
export interface EventSql {
  append(artifact: Artifact, event: NewEvent): Sql<void>;
  read(dockId: string, after: number, limit: number): Sql<ArtifactEvent[]>;
}

type NewEventRow = Omit<EventTable, "seq">;

export function eventSql({ db }: Dialect): EventSql {
  const insert = statement((p: NewEventRow) =>
    db.insertInto("event").values({
      dock_id: p.dock_id,
      seq: sql<number>`(select seq from dock_count where dock_id = ${p.dock_id})`,
      artifact_id: p.artifact_id,
      type: p.type,
      at: p.at,
      by: p.by,
      data: p.data,
    }),
  );
  const after = statement((p: { dockId: string; after: number; limit: number }) =>
    db
      .selectFrom("event")
      .selectAll()
      .where("dock_id", "=", text(p.dockId))
      .where("seq", ">", p.after)
      .orderBy("seq")
      .limit(integer(p.limit)),
  );

  return {
    *append(artifact, event) {
      yield unread(insert(toNewRow(artifact, event)));
    },
    *read(dockId, seq, limit) {
      return (yield* all(after({ dockId, after: seq, limit }))).map(fromRow);
    },
  };
}

function toNewRow({ id, dockId }: Artifact, { type, at, by, data }: NewEvent): NewEventRow {
  const text = data === undefined ? "{}" : JSON.stringify(data);
  return { dock_id: dockId, artifact_id: id, type, at, by, data: text };
}

export function toRow({ dockId, artifactId, seq, type, at, by, data }: ArtifactEvent): EventTable {
  return { dock_id: dockId, artifact_id: artifactId, seq, type, at, by, data: JSON.stringify(data) };
}

export function fromRow(row: EventTable): ArtifactEvent {
  return {
    dockId: row.dock_id,
    seq: row.seq,
    artifactId: row.artifact_id,
    type: row.type,
    at: row.at,
    by: row.by,
    data: parseJson(row.data) as JsonObject,
  };
}
