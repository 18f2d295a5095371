/**
 * A store's records page by page, each page an operation that goes on where the last one ended.
 * That all pages are of one moment is the driver's affair (`Snapshot`); the way back in is `sql-load.ts`.
 */

import type { AccountKind, StoreRecord } from "@docyard/core";
import { fromRow as fromArtifactRow } from "./schema.ts";
import { fromBody } from "./sql-accounts.ts";
import { fromRow as fromEventRow } from "./sql-events.ts";
import type { Dialect, Sql } from "./sql.ts";
import { all, integer, statement, text } from "./sql.ts";

/** A page, and the operation that reads the one after it; null behind the last. */
export interface DumpPage {
  readonly records: readonly StoreRecord[];
  readonly next: DumpStep | null;
}

export type DumpStep = () => Sql<DumpPage>;

/** Reads of one moment of the database. */
export interface Snapshot {
  read<T>(operation: () => Sql<T>): Promise<T>;
  /** Lets go of the moment; repeating it is harmless, later reads reject. */
  close(): Promise<void>;
}

/** Records in a page: with metadata as long as core allows a page is some 16 MB. */
const PAGE = 250;
/** In this order: an organisation before what is its, a dock before what is bound to it. */
const KINDS: readonly AccountKind[] = ["organization", "dock", "client", "key", "serverKey"];

/** The first step of a dump. */
export function dumpSql({ db }: Dialect): DumpStep {
  const accounts = statement((p: { kind: string; createdAt: number; id: string }) =>
    db
      .selectFrom("account")
      .select(["created_at", "id", "body"])
      .where("kind", "=", text(p.kind))
      .where((e) => e(e.refTuple("created_at", "id"), ">", e.tuple(p.createdAt, p.id)))
      .orderBy("created_at")
      .orderBy("id")
      .limit(integer(PAGE)),
  );
  const artifacts = statement((p: { id: string }) =>
    db.selectFrom("artifact").selectAll().where("id", ">", p.id).orderBy("id").limit(integer(PAGE)),
  );
  const events = statement((p: { dockId: string; seq: number }) =>
    db
      .selectFrom("event")
      .selectAll()
      .where((e) => e(e.refTuple("dock_id", "seq"), ">", e.tuple(p.dockId, p.seq)))
      .orderBy("dock_id")
      .orderBy("seq")
      .limit(integer(PAGE)),
  );

  const accountsAfter = (kind: number, createdAt: number, id: string): DumpStep =>
    function* () {
      const rows = yield* all(accounts({ kind: KINDS[kind]!, createdAt, id }));
      const records = rows.map(({ body }) => ({ kind: "account", account: fromBody(body) }) as const);
      const last = rows[PAGE - 1];
      if (last !== undefined) return { records, next: accountsAfter(kind, last.created_at, last.id) };
      const hasMore = kind + 1 < KINDS.length;
      return { records, next: hasMore ? accountsAfter(kind + 1, EARLIEST, "") : artifactsAfter("") };
    };
  const artifactsAfter = (id: string): DumpStep =>
    function* () {
      const rows = yield* all(artifacts({ id }));
      const records = rows.map((row) => ({ kind: "artifact", artifact: fromArtifactRow(row) }) as const);
      const last = rows[PAGE - 1];
      return { records, next: last === undefined ? eventsAfter("", 0) : artifactsAfter(last.id) };
    };
  const eventsAfter = (dockId: string, seq: number): DumpStep =>
    function* () {
      const rows = yield* all(events({ dockId, seq }));
      const records = rows.map((row) => ({ kind: "event", event: fromEventRow(row) }) as const);
      const last = rows[PAGE - 1];
      return { records, next: last === undefined ? null : eventsAfter(last.dock_id, last.seq) };
    };
  return accountsAfter(0, EARLIEST, "");
}

/** Before every time that a record can have. */
const EARLIEST = Number.MIN_SAFE_INTEGER;

/**
 * Walks all pages in a snapshot. It is let go of when the walk is over, however it ends: at once when the signal
 * aborts, whether or not anyone asks for the next page.
 */
export async function* dump(
  first: DumpStep,
  open: () => Promise<Snapshot>,
  signal?: AbortSignal,
): AsyncGenerator<readonly StoreRecord[]> {
  signal?.throwIfAborted();
  const snapshot = await open();
  const letGo = (): void => void snapshot.close();
  signal?.addEventListener("abort", letGo, { once: true });
  try {
    for (let step: DumpStep | null = first; step !== null;) {
      signal?.throwIfAborted();
      const { records, next }: DumpPage = await snapshot.read(step);
      signal?.throwIfAborted();
      if (records.length > 0) yield records;
      step = next;
    }
  } catch (error) {
    // The signal closed the snapshot under the read: what it says is the reason.
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", letGo);
    await snapshot.close();
  }
}
