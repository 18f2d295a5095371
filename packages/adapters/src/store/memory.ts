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
  Store,
} from "@docyard/core";
import { compareNewestFirst, DocyardError, foldName, handleOf, match } from "@docyard/core";
import { changed, organizationOf } from "./account.ts";

export function memoryStore(): Store {
  let isClosed = false;
  /** Every call takes effect at once, in the order of the calls, and is answered later. */
  const call = async <T>(work: () => T): Promise<T> => {
    if (isClosed) throw new Error("the store is closed");
    return work();
  };
  return {
    artifacts: memoryArtifacts(call),
    accounts: memoryAccounts(call),
    ready: () => call(() => undefined),
    close: async () => {
      isClosed = true;
    },
  };
}

type Call = <T>(work: () => T) => Promise<T>;

function memoryArtifacts(call: Call): ArtifactStore {
  const rows = new Map<string, Artifact>();
  const idsByUpload = new Map<string, string>();
  const logs = new Map<string, ArtifactEvent[]>();

  const log = (artifact: Artifact, event: NewEvent): number => {
    const events = logs.get(artifact.dockId) ?? [];
    const seq = events.length + 1;
    const { type, at, by, data = {} } = event;
    events.push(frozen({ dockId: artifact.dockId, artifactId: artifact.id, seq, type, at, by, data }));
    logs.set(artifact.dockId, events);
    return seq;
  };

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

  return {
    insert: (artifact, event) =>
      call(() => {
        const { id, uploadId } = artifact;
        if (rows.has(id) || (uploadId !== null && idsByUpload.has(uploadId))) {
          throw taken(`The id or upload id of ${id} is taken`);
        }
        requireUniqueContent(artifact);
        rows.set(id, frozen(artifact));
        if (uploadId !== null) idsByUpload.set(uploadId, id);
        return log(artifact, event);
      }),

    get: (key) => call(() => rows.get("id" in key ? key.id : (idsByUpload.get(key.uploadId) ?? "")) ?? null),

    update: (id, version, change, event) =>
      call(() => {
        const before = rows.get(id);
        if (before === undefined || before.version !== version) return null;
        const given = Object.entries(change).filter(([, value]) => value !== undefined);
        const after: Artifact = frozen({ ...before, ...Object.fromEntries(given), version: version + 1 });
        requireUniqueContent(after);
        rows.set(id, after);
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

function memoryAccounts(call: Call): AccountStore {
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

  return {
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
