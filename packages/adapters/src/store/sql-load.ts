/**
 * Records into the tables in bulk, with everything that hangs on them: lists, terms, names, counts and the log.
 * What a change of one row does is in `sql-artifacts.ts`; the way out is `sql-dump.ts`.
 */

import type { AccountRecord, Artifact, ArtifactEvent, StoreRecord, Usage } from "@docyard/core";
import { addUsage, NO_USAGE, usageOf } from "@docyard/core";
import type { AccountTable, EventTable, NewArtifactRow } from "./schema.ts";
import { ARTIFACT_COLUMNS, toRow as toArtifactRow } from "./schema.ts";
import { toRow as toAccountRow } from "./sql-accounts.ts";
import { countSql } from "./sql-counts.ts";
import { forEach } from "./sql-each.ts";
import { toRow as toEventRow } from "./sql-events.ts";
import { listingsSql } from "./sql-listing.ts";
import type { Dialect, Sql } from "./sql.ts";

/** Adds records, must run within one transaction, and says how many were not there yet. */
export function loadSql(dialect: Dialect): (records: readonly StoreRecord[]) => Sql<number> {
  const counts = countSql(dialect);
  const listings = listingsSql(dialect);
  const { db } = dialect;
  const insertAccounts = forEach(ACCOUNT_COLUMNS, (rows: AccountTable[]) =>
    db
      .insertInto("account")
      .values(rows)
      .onConflict((conflict) => conflict.columns(["kind", "id"]).doNothing())
      .returning("id"),
  );
  const insertArtifacts = forEach(ARTIFACT_COLUMNS, (rows: NewArtifactRow[]) =>
    db
      .insertInto("artifact")
      .values(rows)
      .onConflict((conflict) => conflict.column("id").doNothing())
      .returning(["n", "id"]),
  );
  const insertEvents = forEach(EVENT_COLUMNS, (rows: EventTable[]) =>
    db
      .insertInto("event")
      .values(rows)
      .onConflict((conflict) => conflict.columns(["dock_id", "seq"]).doNothing())
      .returning("seq"),
  );

  /** The rows that were not there, listed where they are completed. */
  function* addArtifacts(artifacts: readonly Artifact[]): Sql<Artifact[]> {
    const byId = firstOfEach(artifacts, ({ id }) => id);
    const rows = new Map([...byId].map(([id, artifact]) => [id, toArtifactRow(artifact)]));
    const added = yield* insertArtifacts([...rows.values()]);
    const listed = added
      .map(({ n, id }) => ({ ...rows.get(id)!, n }))
      .filter(({ status }) => status === "upload_completed")
      .map((row) => ({ row, metadata: byId.get(row.id)!.metadata }));
    yield* listings.joinAll(listed);
    return added.map(({ id }) => byId.get(id)!);
  }

  return function* (records) {
    if (dialect.loadAlone !== undefined) yield dialect.loadAlone;
    const accounts: AccountRecord[] = [];
    const artifacts: Artifact[] = [];
    const events: ArtifactEvent[] = [];
    for (const record of records) {
      if (record.kind === "account") accounts.push(record.account);
      else if (record.kind === "artifact") artifacts.push(record.artifact);
      else events.push(record.event);
    }
    const newAccounts = firstOfEach(accounts, ({ kind, id }) => `${kind} ${id}`);
    const addedAccounts = yield* insertAccounts([...newAccounts.values()].map(toAccountRow));
    const addedArtifacts = yield* addArtifacts(artifacts);
    // Before the events: this is what locks the dock's numbers.
    for (const [dockId, { seq, usage }] of countsOf(addedArtifacts, events)) {
      yield* counts.load(dockId, seq, usage);
    }
    const newEvents = firstOfEach(events, ({ dockId, seq }) => `${seq} ${dockId}`);
    const addedEvents = yield* insertEvents([...newEvents.values()].map(toEventRow));
    return addedAccounts.length + addedArtifacts.length + addedEvents.length;
  };
}

const ACCOUNT_COLUMNS: readonly (keyof AccountTable)[] = [
  "kind",
  "id",
  "handle",
  "organization_id",
  "created_at",
  "body",
];
const EVENT_COLUMNS: readonly (keyof EventTable)[] = [
  "dock_id",
  "seq",
  "artifact_id",
  "type",
  "at",
  "by",
  "data",
];

/** Of those with one key the first, as if they had been written one after the other. */
function firstOfEach<T>(values: readonly T[], keyOf: (value: T) => string): Map<string, T> {
  const firsts = new Map<string, T>();
  for (const value of values) {
    const key = keyOf(value);
    if (!firsts.has(key)) firsts.set(key, value);
  }
  return firsts;
}

interface DockCounts {
  readonly seq: number;
  readonly usage: Usage;
}

/** What is to be counted for each dock, docks in order: who takes several locks takes them in one order. */
function countsOf(artifacts: readonly Artifact[], events: readonly ArtifactEvent[]): [string, DockCounts][] {
  const docks = new Map<string, DockCounts>();
  const of = (dockId: string): DockCounts => docks.get(dockId) ?? { seq: 0, usage: NO_USAGE };
  for (const artifact of artifacts) {
    const { seq, usage } = of(artifact.dockId);
    docks.set(artifact.dockId, { seq, usage: addUsage(usage, usageOf(artifact)) });
  }
  for (const { dockId, seq } of events) {
    const dock = of(dockId);
    docks.set(dockId, { ...dock, seq: Math.max(dock.seq, seq) });
  }
  return [...docks].sort(([a], [b]) => (a < b ? -1 : 1));
}
