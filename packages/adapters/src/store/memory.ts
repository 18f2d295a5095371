/**
 * The store in memory: the reference that the others are compared with, and the one for tests and trials.
 * Rows in one map, and for each question that a request asks an index that answers without a scan; a law in the tests
 * holds every answer against a scan. Forgets everything when the process ends.
 */

import type {
  AccountKind,
  AccountOf,
  AccountRecord,
  AccountStore,
  Artifact,
  ArtifactEvent,
  ArtifactStatus,
  ArtifactStore,
  FindQuery,
  NewEvent,
  Quota,
  Store,
  StoreRecord,
  Usage,
} from "@docyard/core";
import {
  addUsage,
  compareNewestFirst,
  DocyardError,
  foldName,
  handleOf,
  match,
  NO_USAGE,
  requireQuota,
  summaryOf,
  usageChange,
} from "@docyard/core";
import { changed, organizationOf } from "./account.ts";

export function memoryStore(): Store {
  let isClosed = false;
  /** Every call takes effect at once, in the order of the calls, and is answered later. */
  const call = async <T>(work: () => T): Promise<T> => {
    if (isClosed) throw new Error("the store is closed");
    return work();
  };
  const artifacts = memoryArtifacts(call);
  const accounts = memoryAccounts(call);
  return {
    artifacts: artifacts.port,
    accounts: accounts.port,
    async *dump({ signal } = {}) {
      const records = await call(() => [...accounts.dump(), ...artifacts.dump()]);
      for (let start = 0; start < records.length; start += DUMP_BATCH) {
        signal?.throwIfAborted();
        yield records.slice(start, start + DUMP_BATCH);
      }
    },
    load: (records) =>
      call(() => {
        const undo = [accounts.snapshot(), artifacts.snapshot()];
        try {
          return records.filter((record) =>
            record.kind === "account" ? accounts.load(record.account) : artifacts.load(record),
          ).length;
        } catch (error) {
          for (const restore of undo) restore();
          throw error;
        }
      }),
    ready: () => call(() => undefined),
    close: async () => {
      isClosed = true;
    },
  };
}

type Call = <T>(work: () => T) => Promise<T>;

/** Records in one batch of a dump. */
const DUMP_BATCH = 1_000;

/** A port, and the same rows for `dump` and `load`. */
interface Loadable<Port, Loaded> {
  readonly port: Port;
  dump(): StoreRecord[];
  /** False for what is there already. */
  load(record: Loaded): boolean;
  /** Remembers everything; the result brings it back. */
  snapshot(): () => void;
}

function memoryArtifacts(
  call: Call,
): Loadable<ArtifactStore, Exclude<StoreRecord, { readonly kind: "account" }>> {
  const rows = new Map<string, Artifact>();
  const byUpload = createIndex(({ uploadId }) => uploadId);
  const byDock = createIndex(({ dockId }) => dockId);
  const byContent = createIndex((row) =>
    row.status === "upload_completed" && row.digest !== null ? contentName(row.dockId, row.digest) : null,
  );
  const byBlob = createIndex(({ status, blobKey }) => (status === "upload_completed" ? blobKey : null));
  const byDue = createIndex(({ status, dueAt }) => (dueAt === null ? null : status));
  const indexes = [byUpload, byDock, byContent, byBlob, byDue];
  /** No row of the status is due before: what spares an idle sweep the look at every open upload. */
  const earliestDue = new Map<ArtifactStatus, number>();
  const logs = new Map<string, ArtifactEvent[]>();
  const usages = new Map<string, Usage>();

  const log = (artifact: Artifact, event: NewEvent): void => {
    const events = logs.get(artifact.dockId) ?? [];
    const seq = (events.at(-1)?.seq ?? 0) + 1;
    const { type, at, by, data = {} } = event;
    const { dockId, id: artifactId } = artifact;
    events.push(Object.freeze({ dockId, artifactId, seq, type, at, by, data: frozenCopy(data) }));
    logs.set(dockId, events);
  };

  const usageOfDock = (dockId: string): Usage => usages.get(dockId) ?? NO_USAGE;

  /** Puts the row in place, if the dock's quota allows it. */
  const put = (before: Artifact | null, after: Artifact, quota: Quota = {}): void => {
    const change = usageChange(before, after);
    const usage = addUsage(usageOfDock(after.dockId), change);
    requireQuota(usage, change, quota);
    usages.set(after.dockId, usage);
    rows.set(after.id, after);
    for (const index of indexes) index.move(before, after);
    if (after.dueAt !== null) {
      earliestDue.set(after.status, Math.min(earliestDue.get(after.status) ?? after.dueAt, after.dueAt));
    }
  };

  const requireFreeId = ({ id, uploadId }: Artifact): void => {
    if (rows.has(id) || (uploadId !== null && byUpload.first(uploadId) !== null)) {
      throw taken(`The id or upload id of ${id} is taken`);
    }
  };

  const byId = (): Artifact[] => [...rows.values()].sort((a, b) => (a.id < b.id ? -1 : 1));

  const taken = (message: string): DocyardError => new DocyardError("already_exists", message);

  /** The two unique rules of `ArtifactStore.update`. */
  const requireUniqueContent = (artifact: Artifact): void => {
    if (artifact.status !== "upload_completed" || artifact.digest === null) return;
    for (const other of byContent.all(contentName(artifact.dockId, artifact.digest))) {
      if (other.id === artifact.id) continue;
      const areMachine = artifact.face === "machine" && other.face === "machine";
      if (areMachine || (!artifact.sharesBlob && !other.sharesBlob)) {
        throw taken(`The dock already has the content of ${artifact.id} as a completed artifact`);
      }
    }
  };

  const port: ArtifactStore = {
    insert: (artifact, event, quota) =>
      call(() => {
        requireFreeId(artifact);
        requireUniqueContent(artifact);
        put(null, frozenCopy(artifact), quota);
        log(artifact, event);
      }),

    get: (key) => call(() => ("id" in key ? (rows.get(key.id) ?? null) : byUpload.first(key.uploadId))),

    status: (id) => call(() => rows.get(id)?.status ?? null),

    update: (id, version, change, event, quota) =>
      call(() => {
        const before = rows.get(id);
        if (before === undefined || before.version !== version) return null;
        const given = Object.entries(frozenCopy(change)).filter(([, value]) => value !== undefined);
        const after: Artifact = Object.freeze({
          ...before,
          ...Object.fromEntries(given),
          version: version + 1,
        });
        requireUniqueContent(after);
        put(before, after, quota);
        if (event !== null) log(after, event);
        return after;
      }),

    find: (query) =>
      call(() => {
        const found = [...byDock.all(query.dockId)]
          .filter((row) => isWanted(row, query))
          .sort(compareNewestFirst);
        const { after, offset } = query.start;
        const start =
          after === undefined ? offset : found.filter((row) => compareNewestFirst(row, after) <= 0).length;
        const page = found.slice(start, start + query.limit);
        return {
          rows: page.map(summaryOf),
          total: found.length,
          more: page.length > 0 && start + page.length < found.length,
        };
      }),

    findByDigest: (dockId, digest, face) =>
      call(() => {
        const holders = [...byContent.all(contentName(dockId, digest))].filter(
          (row) => face === undefined || row.face === face,
        );
        return holders.find((row) => !row.sharesBlob) ?? holders[0] ?? null;
      }),

    isBlobInUse: (blobKey) => call(() => byBlob.first(blobKey) !== null),

    usage: (dockId) => call(() => usageOfDock(dockId)),

    walk: (after, limit) =>
      call(() =>
        byId()
          .filter(({ id }) => id > after)
          .slice(0, limit),
      ),

    due: ({ status, until, after, limit }) =>
      call(() => {
        if (until < (earliestDue.get(status) ?? Number.POSITIVE_INFINITY)) return [];
        const all = [...byDue.all(status)].sort(compareDue);
        earliestDue.set(status, all[0]?.dueAt ?? Number.POSITIVE_INFINITY);
        return all
          .filter((row) => row.dueAt! <= until && (after === undefined || compareDue(row, after) > 0))
          .slice(0, limit);
      }),

    events: (dockId, after, limit) =>
      call(() => (logs.get(dockId) ?? []).filter(({ seq }) => seq > after).slice(0, limit)),
  };

  return {
    port,
    dump: () => [
      ...byId().map((artifact) => ({ kind: "artifact", artifact }) as const),
      ...[...logs.keys()]
        .sort()
        .flatMap((dockId) => logs.get(dockId)!)
        .map((event) => ({ kind: "event", event }) as const),
    ],
    load(record) {
      if (record.kind === "artifact") {
        const { artifact } = record;
        if (rows.has(artifact.id)) return false;
        requireFreeId(artifact);
        requireUniqueContent(artifact);
        put(null, frozenCopy(artifact));
        return true;
      }
      const { event } = record;
      const events = logs.get(event.dockId) ?? [];
      if (events.some(({ seq }) => seq === event.seq)) return false;
      logs.set(
        event.dockId,
        [...events, frozenCopy(event)].sort((a, b) => a.seq - b.seq),
      );
      return true;
    },
    snapshot: () => {
      const maps = [rows, logs, usages] as Map<string, unknown>[];
      const copies = maps.map((map) => new Map(map));
      return () => {
        for (const [i, map] of maps.entries()) {
          map.clear();
          for (const [key, value] of copies[i]!) map.set(key, value);
        }
        for (const index of indexes) index.rebuild(rows.values());
      };
    },
  };
}

/** Longest due first, ids break ties. */
function compareDue(a: Pick<Artifact, "dueAt" | "id">, b: Pick<Artifact, "dueAt" | "id">): number {
  return a.dueAt! - b.dueAt! || (a.id < b.id ? -1 : Number(a.id > b.id));
}

/** Rows by a name that each has, or has not. */
interface Index {
  /** In the order in which they came by the name. */
  all(name: string): Iterable<Artifact>;
  first(name: string): Artifact | null;
  /** `after` takes the place of `before`, the row with its id. */
  move(before: Artifact | null, after: Artifact): void;
  rebuild(rows: Iterable<Artifact>): void;
}

function createIndex(nameOf: (row: Artifact) => string | null): Index {
  const named = new Map<string, Map<string, Artifact>>();
  const remove = (row: Artifact, name: string): void => {
    const group = named.get(name)!;
    group.delete(row.id);
    if (group.size === 0) named.delete(name);
  };
  const index: Index = {
    all: (name) => named.get(name)?.values() ?? [],
    first: (name) => named.get(name)?.values().next().value ?? null,
    move(before, after) {
      const [old, name] = [before === null ? null : nameOf(before), nameOf(after)];
      if (before !== null && old !== null && old !== name) remove(before, old);
      if (name === null) return;
      const group = named.get(name) ?? new Map<string, Artifact>();
      named.set(name, group.set(after.id, after));
    },
    rebuild(rows) {
      named.clear();
      for (const row of rows) index.move(null, row);
    },
  };
  return index;
}

/** Of bytes in a dock: no dock's id has a blank in it. */
function contentName(dockId: string, digest: string): string {
  return `${dockId} ${digest}`;
}

function isWanted(row: Artifact, query: FindQuery): boolean {
  return (
    row.dockId === query.dockId &&
    row.face === query.face &&
    query.statuses.includes(row.status) &&
    (query.mediaType === undefined || row.mediaType === query.mediaType) &&
    match(row.metadata, query.filter ?? {}) &&
    hasPart(row.filename, query.search ?? "") &&
    row.createdAt >= (query.createdAfter ?? -Infinity) &&
    row.createdAt < (query.createdBefore ?? Infinity)
  );
}

/** Half of a surrogate pair is no part of a name: a name is made of code points. */
function hasPart(name: string, part: string): boolean {
  return part.isWellFormed() && foldName(name).includes(foldName(part));
}

function memoryAccounts(call: Call): Loadable<AccountStore, AccountRecord> {
  let records: readonly AccountRecord[] = [];

  /** All records, if no two of a kind have an id or a handle in common. */
  const requireUnique = (next: readonly AccountRecord[]): readonly AccountRecord[] => {
    const ids = new Set(next.map((record) => `${record.kind} ${record.id}`));
    const handles = new Set(next.map((record) => `${record.kind} ${handleOf(record)}`));
    if (ids.size < next.length || handles.size < next.length) {
      throw new DocyardError("already_exists", "An id or handle of these records is taken within its kind");
    }
    return next;
  };
  const ofKind = <K extends AccountKind>(kind: K): AccountOf<K>[] =>
    records.filter((record): record is AccountOf<K> => record.kind === kind);

  const port: AccountStore = {
    insert: (added) =>
      call(() => {
        records = requireUnique([...records, ...added.map((record) => frozenCopy(record))]);
      }),

    find: (kind, by) =>
      call(
        () =>
          ofKind(kind).find((record) =>
            "id" in by ? record.id === by.id : handleOf(record) === by.handle,
          ) ?? null,
      ),

    list: (kind, organizationId) =>
      call(() =>
        ofKind(kind)
          .filter((record) => organizationId === undefined || organizationOf(record) === organizationId)
          .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)),
      ),

    update: (kind, id, change) =>
      call(() => {
        const before = ofKind(kind).find((record) => record.id === id);
        if (before === undefined) return null;
        const after = frozenCopy(changed(before, change));
        records = requireUnique(records.map((record) => (record === before ? after : record)));
        return after;
      }),
  };

  return {
    port,
    dump: () =>
      [...records]
        .sort((a, b) => Number(b.kind === "organization") - Number(a.kind === "organization"))
        .map((account) => ({ kind: "account", account })),
    load(account) {
      if (records.some(({ kind, id }) => kind === account.kind && id === account.id)) return false;
      records = requireUnique([...records, frozenCopy(account)]);
      return true;
    },
    snapshot: () => {
      const before = records;
      return () => {
        records = before;
      };
    },
  };
}

/** A copy that nobody can change, neither the caller who handed the value in nor one who is handed it out. */
function frozenCopy<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return Object.freeze(value.map(frozenCopy)) as T;
  // From entries, since a plain assignment would take a member named __proto__ for something else.
  return Object.freeze(
    Object.fromEntries(Object.entries(value).map(([name, member]) => [name, frozenCopy(member)])),
  ) as T;
}
