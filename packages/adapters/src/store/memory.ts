/**
 * The store in memory: the reference that the others are compared with, and the one for tests and trials.
 * Obviously right rather than fast: it scans, and forgets everything when the process ends.
 */

import type {
  AccountKind,
  AccountOf,
  AccountRecord,
  AccountStore,
  Artifact,
  ArtifactEvent,
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
  const idsByUpload = new Map<string, string>();
  const logs = new Map<string, ArtifactEvent[]>();
  const usages = new Map<string, Usage>();

  const log = (artifact: Artifact, event: NewEvent): number => {
    const events = logs.get(artifact.dockId) ?? [];
    const seq = (events.at(-1)?.seq ?? 0) + 1;
    const { type, at, by, data = {} } = event;
    events.push(frozen({ dockId: artifact.dockId, artifactId: artifact.id, seq, type, at, by, data }));
    logs.set(artifact.dockId, events);
    return seq;
  };

  const usageOfDock = (dockId: string): Usage => usages.get(dockId) ?? NO_USAGE;

  /** Puts the row in place, if the dock's quota allows it. */
  const put = (before: Artifact | null, after: Artifact, quota: Quota = {}): void => {
    const change = usageChange(before, after);
    const usage = addUsage(usageOfDock(after.dockId), change);
    requireQuota(usage, change, quota);
    rows.set(after.id, after);
    usages.set(after.dockId, usage);
    if (after.uploadId !== null) idsByUpload.set(after.uploadId, after.id);
  };

  const requireFreeId = ({ id, uploadId }: Artifact): void => {
    if (rows.has(id) || (uploadId !== null && idsByUpload.has(uploadId))) {
      throw taken(`The id or upload id of ${id} is taken`);
    }
  };

  const byId = (): Artifact[] => [...rows.values()].sort((a, b) => (a.id < b.id ? -1 : 1));

  const taken = (message: string): DocyardError => new DocyardError("already_exists", message);

  /** The two unique rules of `ArtifactStore.update`. */
  const requireUniqueContent = (artifact: Artifact): void => {
    if (artifact.status !== "upload_completed" || artifact.digest === null) return;
    for (const other of rows.values()) {
      if (other.id === artifact.id || !holds(other, artifact.dockId, artifact.digest)) continue;
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
        put(null, frozen(artifact), quota);
        return log(artifact, event);
      }),

    get: (key) => call(() => rows.get("id" in key ? key.id : (idsByUpload.get(key.uploadId) ?? "")) ?? null),

    update: (id, version, change, event, quota) =>
      call(() => {
        const before = rows.get(id);
        if (before === undefined || before.version !== version) return null;
        const given = Object.entries(change).filter(([, value]) => value !== undefined);
        const after: Artifact = frozen({ ...before, ...Object.fromEntries(given), version: version + 1 });
        requireUniqueContent(after);
        put(before, after, quota);
        if (event !== null) log(after, event);
        return after;
      }),

    find: (query) =>
      call(() => {
        const found = [...rows.values()].filter((row) => isWanted(row, query)).sort(compareNewestFirst);
        const { after, offset } = query.start;
        const start =
          after === undefined ? offset : found.filter((row) => compareNewestFirst(row, after) <= 0).length;
        const page = found.slice(start, start + query.limit);
        return {
          rows: page,
          total: found.length,
          more: page.length > 0 && start + page.length < found.length,
        };
      }),

    findByDigest: (dockId, digest, face) =>
      call(() => {
        const holders = [...rows.values()].filter(
          (row) => holds(row, dockId, digest) && (face === undefined || row.face === face),
        );
        return holders.find((row) => !row.sharesBlob) ?? holders[0] ?? null;
      }),

    isBlobInUse: (blobKey) =>
      call(() =>
        [...rows.values()].some((row) => row.status === "upload_completed" && row.blobKey === blobKey),
      ),

    usage: (dockId) => call(() => usageOfDock(dockId)),

    walk: (after, limit) =>
      call(() =>
        byId()
          .filter(({ id }) => id > after)
          .slice(0, limit),
      ),

    due: (now, limit) =>
      call(() =>
        [...rows.values()]
          .filter((row) => row.dueAt !== null && row.dueAt <= now)
          .sort((a, b) => a.dueAt! - b.dueAt! || (a.id < b.id ? -1 : 1))
          .slice(0, limit),
      ),

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
        put(null, frozen(artifact));
        return true;
      }
      const { event } = record;
      const events = logs.get(event.dockId) ?? [];
      if (events.some(({ seq }) => seq === event.seq)) return false;
      logs.set(
        event.dockId,
        [...events, frozen(event)].sort((a, b) => a.seq - b.seq),
      );
      return true;
    },
    snapshot: () => {
      const maps = [rows, idsByUpload, logs, usages] as Map<string, unknown>[];
      const copies = maps.map((map) => new Map(map));
      return () => {
        for (const [i, map] of maps.entries()) {
          map.clear();
          for (const [key, value] of copies[i]!) map.set(key, value);
        }
      };
    },
  };
}

function holds(row: Artifact, dockId: string, digest: string): boolean {
  return row.status === "upload_completed" && row.dockId === dockId && row.digest === digest;
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
        records = requireUnique([...records, ...added.map((record) => frozen(record))]);
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
        const after = frozen(changed(before, change));
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
      records = requireUnique([...records, frozen(account)]);
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
function frozen<T>(value: T): T {
  return freeze(structuredClone(value));
}

function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const member of Object.values(value)) freeze(member);
    Object.freeze(value);
  }
  return value;
}
