/**
 * AccountStore in SQL: records as JSON beside the columns they are found by.
 * What a record means is core's; transactions are the drivers'.
 */

import type { AccountKind, AccountOf, AccountRecord } from "@docyard/core";
import { handleOf } from "@docyard/core";
import { setBounded } from "../bounded-map.ts";
import { frozen } from "../frozen.ts";
import { changed, organizationOf } from "./account.ts";
import type { AccountTable } from "./schema.ts";
import type { Dialect, Sql } from "./sql.ts";
import { all, first, statement, text, unread } from "./sql.ts";

/** The port's methods as operations; each must run within one transaction. */
export interface AccountSql {
  insert(records: readonly AccountRecord[]): Sql<void>;
  /** Frozen: as long as it is as it was, whoever asks is given the same record. */
  find<K extends AccountKind>(
    kind: K,
    by: { readonly id: string } | { readonly handle: string },
  ): Sql<AccountOf<K> | null>;
  list<K extends AccountKind>(kind: K, organizationId?: string): Sql<AccountOf<K>[]>;
  update<K extends AccountKind>(
    kind: K,
    id: string,
    change: Partial<Omit<AccountOf<K>, "kind" | "id">>,
  ): Sql<AccountOf<K> | null>;
}

/** Records of which the parsed form is kept. */
const PARSED_MAX = 1_000;

export function accountSql({ db, lock }: Dialect): AccountSql {
  /** By id or handle. What is written in the row is read each time, and parsed only where it is not the same. */
  const parsed = new Map<string, { readonly body: string; readonly record: AccountRecord }>();
  const bodies = db.selectFrom("account").select("body");
  const added = statement((p: AccountTable) =>
    db.insertInto("account").values({
      kind: p.kind,
      id: p.id,
      handle: p.handle,
      organization_id: p.organization_id,
      created_at: p.created_at,
      body: p.body,
    }),
  );
  const byId = statement((p: { kind: string; id: string }) =>
    bodies.where("kind", "=", p.kind).where("id", "=", p.id),
  );
  const locked = statement((p: { kind: string; id: string }) =>
    bodies.where("kind", "=", p.kind).where("id", "=", p.id).modifyEnd(lock),
  );
  const byHandle = statement((p: { kind: string; handle: string }) =>
    bodies.where("kind", "=", p.kind).where("handle", "=", p.handle),
  );
  const everyOne = statement((p: { kind: string }) =>
    bodies.where("kind", "=", text(p.kind)).orderBy("created_at").orderBy("id"),
  );
  const everyOneOf = statement((p: { kind: string; organizationId: string }) =>
    bodies
      .where("kind", "=", text(p.kind))
      .where("organization_id", "=", text(p.organizationId))
      .orderBy("created_at")
      .orderBy("id"),
  );
  const replaced = statement((p: AccountTable) =>
    db
      .updateTable("account")
      .set({
        handle: p.handle,
        organization_id: p.organization_id,
        created_at: p.created_at,
        body: p.body,
      })
      .where("kind", "=", p.kind)
      .where("id", "=", p.id),
  );

  return {
    *insert(records) {
      for (const record of records) yield unread(added(toRow(record)));
    },
    *find<K extends AccountKind>(kind: K, by: { readonly id: string } | { readonly handle: string }) {
      const row = yield* first(
        "id" in by ? byId({ kind, id: by.id }) : byHandle({ kind, handle: by.handle }),
      );
      if (row === undefined) return null;
      const name = "id" in by ? by.id : by.handle;
      const known = parsed.get(name);
      if (known?.body === row.body) return known.record as AccountOf<K>;
      const record = frozen(fromBody<K>(row.body));
      setBounded(parsed, name, { body: row.body, record }, PARSED_MAX);
      return record;
    },
    *list<K extends AccountKind>(kind: K, organizationId?: string) {
      const query = organizationId === undefined ? everyOne({ kind }) : everyOneOf({ kind, organizationId });
      return (yield* all(query)).map((row) => fromBody<K>(row.body));
    },
    *update<K extends AccountKind>(kind: K, id: string, change: Partial<Omit<AccountOf<K>, "kind" | "id">>) {
      const row = yield* first(locked({ kind, id }));
      if (row === undefined) return null;
      const record = changed(fromBody<K>(row.body), change);
      yield unread(replaced(toRow(record)));
      return record;
    },
  };
}

export function toRow(record: AccountRecord): AccountTable {
  return {
    kind: record.kind,
    id: record.id,
    handle: handleOf(record),
    organization_id: organizationOf(record),
    created_at: record.createdAt,
    body: JSON.stringify(record),
  };
}

export function fromBody<K extends AccountKind>(body: string): AccountOf<K> {
  return JSON.parse(body) as AccountOf<K>;
}
