/**
 * What is counted for each dock: its events, and what it holds. One row for each, locked by every change that counts.
 * The rules of usage and quota are core's; what is written beside the counts is in `sql-artifacts.ts`.
 */

import type { Quota, Usage } from "@docyard/core";
import { NO_USAGE, requireQuota } from "@docyard/core";
import { sql } from "kysely";
import type { Dialect, Sql } from "./sql.ts";
import { fillingIn, first, integer, statement, unread } from "./sql.ts";

export interface CountSql {
  /**
   * Counts a change and so many events.
   * @throws DocyardError `quota_exceeded` as `requireQuota` says; the transaction must not be committed then.
   */
  add(dockId: string, events: 0 | 1, change: Usage, quota?: Quota): Sql<void>;
  usage(dockId: string): Sql<Usage>;
  /** Counts what was added in bulk; `seq` is the highest number among its events, or 0. */
  load(dockId: string, seq: number, change: Usage): Sql<void>;
}

interface Counted extends Usage {
  readonly dockId: string;
  readonly events: number;
}

const USAGE = ["artifacts", "open", "bytes"] as const;

export function countSql(dialect: Dialect): CountSql {
  const { db } = dialect;
  // The row stays locked until the commit: so numbers have no gaps and appear in order, and no race overdraws a quota.
  const counting = (p: Counted, seq = sql<number>`dock_count.seq + excluded.seq`) =>
    db
      .insertInto("dock_count")
      .values({
        dock_id: p.dockId,
        seq: integer(p.events),
        artifacts: integer(p.artifacts),
        open: integer(p.open),
        bytes: integer(p.bytes),
      })
      .onConflict((conflict) =>
        conflict.column("dock_id").doUpdateSet({
          seq,
          artifacts: sql<number>`dock_count.artifacts + excluded.artifacts`,
          open: sql<number>`dock_count.open + excluded.open`,
          bytes: sql<number>`dock_count.bytes + excluded.bytes`,
        }),
      );
  const usageOfDock = (p: { dockId: string }) =>
    db.selectFrom("dock_count").select(USAGE).where("dock_id", "=", p.dockId);
  const count = statement((p: Counted) => counting(p));
  const countAndTell = fillingIn(dialect, {
    returning: (p: Counted) => counting(p).returning(USAGE),
    plain: (p: Counted) => counting(p),
    reread: usageOfDock,
  });
  const loaded = statement((p: Counted) =>
    counting(
      p,
      sql<number>`case when excluded.seq > dock_count.seq then excluded.seq else dock_count.seq end`,
    ),
  );
  const usage = statement(usageOfDock);

  return {
    *add(dockId, events, change, quota = {}) {
      if (events === 0 && USAGE.every((name) => change[name] === 0)) return;
      const counted = { ...change, dockId, events };
      if (USAGE.some((name) => quota[name] !== undefined && change[name] > 0)) {
        requireQuota(yield* countAndTell(counted), change, quota);
      } else {
        yield unread(count(counted));
      }
    },
    *usage(dockId) {
      return (yield* first(usage({ dockId }))) ?? NO_USAGE;
    },
    *load(dockId, seq, change) {
      yield unread(loaded({ ...change, dockId, events: seq }));
    },
  };
}
