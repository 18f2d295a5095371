/**
 * All that writes, by name. Arguments and results are plain data, so that whoever runs a write need not be where it is
 * asked for. What each does is in `sql-artifacts.ts`, `sql-accounts.ts` and `sql-load.ts`.
 */

import type {
  AccountKind,
  AccountOf,
  AccountRecord,
  Artifact,
  ArtifactChange,
  NewEvent,
  Quota,
  StoreRecord,
} from "@docyard/core";
import { schemaVersion } from "./migrations.ts";
import { accountSql } from "./sql-accounts.ts";
import { artifactSql } from "./sql-artifacts.ts";
import { loadSql } from "./sql-load.ts";
import type { Step } from "./sql-recent.ts";
import type { Dialect, Sql } from "./sql.ts";

/** What a write has come to. */
export interface Written<T> {
  readonly value: T;
  /** What listings have been through by it; known to lists once it is durable, and only then. */
  readonly steps: readonly Step[];
}

/** Each must run within one transaction, and may be started anew where that was refused. */
export interface Writes {
  insertArtifact(artifact: Artifact, event: NewEvent, quota?: Quota): Sql<Written<void>>;
  updateArtifact(
    id: string,
    version: number,
    change: ArtifactChange,
    event: NewEvent | null,
    quota?: Quota,
  ): Sql<Written<Artifact | null>>;
  insertAccounts(records: readonly AccountRecord[]): Sql<Written<void>>;
  updateAccount(
    kind: AccountKind,
    id: string,
    change: Partial<Omit<AccountOf<AccountKind>, "kind" | "id">>,
  ): Sql<Written<AccountRecord | null>>;
  /** How many of them were not there yet. */
  load(records: readonly StoreRecord[]): Sql<Written<number>>;
  /** The schema's number, as a write finds it: nothing is written. */
  version(): Sql<Written<number>>;
}

export type WriteName = keyof Writes;
export type WriteArgs<N extends WriteName> = Parameters<Writes[N]>;
type ValueOf<S> = S extends Sql<Written<infer V>> ? V : never;
export type WriteResult<N extends WriteName> = Written<ValueOf<ReturnType<Writes[N]>>>;

export function writesSql(dialect: Dialect): Writes {
  const artifacts = artifactSql(dialect);
  const accounts = accountSql(dialect);
  const load = loadSql(dialect);
  return {
    insertArtifact: (artifact, event, quota) =>
      stepping((steps) => artifacts.insert(artifact, event, quota, steps)),
    updateArtifact: (id, version, change, event, quota) =>
      stepping((steps) => artifacts.update(id, version, change, event, quota, steps)),
    insertAccounts: (records) => stepping(() => accounts.insert(records)),
    updateAccount: (kind, id, change) => stepping(() => accounts.update(kind, id, change)),
    load: (records) => stepping(() => load(records)),
    version: () => stepping(() => schemaVersion(dialect)),
  };
}

/** The operation of a write. */
export function operationOf<N extends WriteName>(
  writes: Writes,
  name: N,
  args: WriteArgs<N>,
): Sql<WriteResult<N>> {
  return (writes[name] as (...args: WriteArgs<N>) => Sql<WriteResult<N>>)(...args);
}

function* stepping<T>(operation: (steps: Step[]) => Sql<T>): Sql<Written<T>> {
  const steps: Step[] = [];
  return { value: yield* operation(steps), steps };
}
