/**
 * A Store out of SQL operations and a driver that runs them: the same few lines for every database.
 * Reads are in `sql-artifacts.ts` and `sql-accounts.ts`, writes by name in `sql-writes.ts`, dumps in `sql-dump.ts`.
 */

import type { AccountKind, AccountOf, AccountRecord, Store } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { accountSql } from "./sql-accounts.ts";
import { artifactSql } from "./sql-artifacts.ts";
import type { Snapshot } from "./sql-dump.ts";
import { dump, dumpSql } from "./sql-dump.ts";
import type { WriteArgs, WriteName, WriteResult } from "./sql-writes.ts";
import type { Dialect, Sql } from "./sql.ts";

/** Runs operations. Each may be started anew, so a driver can repeat one whose transaction was refused. */
export interface Runner {
  /**
   * All queries of the operation see one moment of the database.
   * @param isSingle the operation makes one query only: that needs no transaction
   */
  readonly read: <T>(operation: () => Sql<T>, isSingle?: boolean) => Promise<T>;
  /**
   * All of the write or nothing of it, durable once resolved.
   * @param taken what a violated unique index means here: the message of the `already_exists` to reject with
   */
  readonly write: <N extends WriteName>(
    name: N,
    args: WriteArgs<N>,
    taken: string,
  ) => Promise<WriteResult<N>>;
  /**
   * Runs a read beside all others, who are to feel little of it: it rests at each pause. Ends when the store closes, and
   * where it fails. Absent where nobody would wait for what it reads.
   */
  readonly aside?: (operation: () => Sql<void>) => void;
  /**
   * Has itself told when the database that comes next may know less than the one so far: after a failover commits may be
   * missing, and others have their numbers. Absent where that cannot be.
   */
  readonly onLost?: (listener: () => void) => void;
  /** One moment of the database, for as long as it takes to read it; what is open when the store closes is closed. */
  readonly snapshot: () => Promise<Snapshot>;
  readonly ready: () => Promise<void>;
  readonly close: () => Promise<void>;
}

export function sqlStore(dialect: Dialect, runner: Runner): Store {
  const { read, aside, onLost, snapshot, ready, close } = runner;
  let artifacts = artifactSql(dialect);
  // With all that it remembers.
  onLost?.(() => (artifacts = artifactSql(dialect)));
  const accounts = accountSql(dialect);
  const turn = createTurnMemo();
  const firstPage = dumpSql(dialect);

  const write = async <N extends WriteName>(name: N, args: WriteArgs<N>, taken: string) => {
    const { value, steps } = await runner.write(name, args, taken);
    if (steps.length > 0) artifacts.note(steps);
    return value;
  };

  let isAhead = false;
  /** Begun by the first list: who never asks for one, as most commands do not, need not read for others. */
  const readAhead = (): void => {
    if (isAhead) return;
    isAhead = true;
    aside?.(() => artifacts.readAhead());
  };

  return {
    artifacts: {
      insert: (artifact, event, quota) =>
        write("insertArtifact", [artifact, event, quota], `The id or upload id of ${artifact.id} is taken`),
      get: (key) => read(() => artifacts.get(key), true),
      status: (id) => read(() => artifacts.status(id), true),
      update: (id, version, change, event, quota) =>
        write(
          "updateArtifact",
          [id, version, change, event, quota],
          `The dock already has the content of ${id} as a completed artifact`,
        ),
      find(query) {
        readAhead();
        return read(() => artifacts.find(query));
      },
      // Of the machine face it is one query, else two.
      findByDigest: (dockId, digest, face) =>
        read(() => artifacts.findByDigest(dockId, digest, face), face === "machine"),
      isBlobInUse: (blobKey) => read(() => artifacts.isBlobInUse(blobKey), true),
      usage: (dockId) => read(() => artifacts.usage(dockId), true),
      walk: (after, limit) => read(() => artifacts.walk(after, limit), true),
      due: (query) => read(() => artifacts.due(query), true),
      events: (dockId, after, limit) => read(() => artifacts.events(dockId, after, limit), true),
    },
    accounts: {
      insert: (records) =>
        turn.forgottenBy(
          write("insertAccounts", [records], "An id or handle of these records is taken within its kind"),
        ),
      find: <K extends AccountKind>(kind: K, by: { readonly id: string } | { readonly handle: string }) =>
        turn.shared("id" in by ? `${kind} id ${by.id}` : `${kind} handle ${by.handle}`, () =>
          read(() => accounts.find(kind, by), true),
        ),
      list: <K extends AccountKind>(kind: K, organizationId?: string) =>
        read(() => accounts.list(kind, organizationId), true),
      update: <K extends AccountKind>(
        kind: K,
        id: string,
        change: Partial<Omit<AccountOf<K>, "kind" | "id">>,
      ) =>
        turn.forgottenBy(
          write(
            "updateAccount",
            [kind, id, change],
            `The handle of ${id} is taken within its kind`,
          ) as Promise<AccountOf<K> | null>,
        ),
    },
    dump: ({ signal } = {}) => dump(firstPage, snapshot, signal),
    load: (records) =>
      turn.forgottenBy(
        write("load", [records], "The id, handle or content of one of these records is another's here"),
      ),
    ready,
    close,
  };
}

/** What a write is refused with where the database has no room for it. */
export function noSpace(cause: unknown): DocyardError {
  return new DocyardError("no_space", "There is no space left on the database's disk", { cause });
}

/**
 * Requests that come in one turn of the event loop are mostly the same client's in the same dock: each record is read
 * once for all of them. No longer than that, and never across a change made here: who is locked out is so at once.
 */
function createTurnMemo() {
  const reads = new Map<string, Promise<unknown>>();
  return {
    shared<R extends AccountRecord>(name: string, read: () => Promise<R | null>): Promise<R | null> {
      const known = reads.get(name);
      if (known !== undefined) return known as Promise<R | null>;
      if (reads.size === 0) setImmediate(() => reads.clear());
      const reading = read();
      reads.set(name, reading);
      return reading;
    },
    async forgottenBy<T>(change: Promise<T>): Promise<T> {
      try {
        return await change;
      } finally {
        reads.clear();
      }
    },
  };
}
