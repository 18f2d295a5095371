/**
 * The two rules about account records that every store shares: whose a record is, and what a change makes of it.
 * Handles are `handleOf` in core.
 */

import type { AccountKind, AccountOf, AccountRecord } from "@docyard/core";

/** The organisation that a record belongs to; an organisation is its own, a server key nobody's. */
export function organizationOf(record: AccountRecord): string | null {
  if (record.kind === "organization") return record.id;
  return record.kind === "serverKey" ? null : record.organizationId;
}

/** The record after a change: fields that are absent or undefined stay, and identity never changes. */
export function changed<K extends AccountKind>(
  record: AccountOf<K>,
  change: Partial<Omit<AccountOf<K>, "kind" | "id">>,
): AccountOf<K> {
  const given = Object.entries(change).filter(([, value]) => value !== undefined);
  return { ...record, ...Object.fromEntries(given), kind: record.kind, id: record.id };
}
