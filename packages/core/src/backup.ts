/**
 * Backup and restore of everything: rows as of one moment and the bytes they name, from any store to any other. Both may
 * be cut off anywhere and run again; the medium is the archive's (archive.ts).
 */

import type { AccountRecord } from "./access.ts";
import type { Artifact } from "./artifact.ts";
import type {
  ArchiveProgress,
  ArchiveReader,
  ArchiveWriter,
  Manifest,
  RecordKind,
  RecordsFile,
} from "./archive.ts";
import { finishArchive, readManifest, readRecords, recordsWriter } from "./archive.ts";
import { FINAL_PREFIX, STAGING_PREFIX } from "./blob-keys.ts";
import type { DigestMap } from "./digest-map.ts";
import { digestMap } from "./digest-map.ts";
import { DocyardError, isDocyardError } from "./errors.ts";
import { inOrder } from "./in-order.ts";
import type { BlobStore, Store, StoreRecord } from "./ports.ts";
import { sha256 } from "./sha256.ts";
import type { Damage } from "./verify.ts";
import { damageOf, FINDINGS_MAX } from "./verify.ts";

export interface CopyPorts {
  readonly store: Store;
  readonly blobs: BlobStore;
}

export interface CopyOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ArchiveProgress) => void;
  /** Blobs copied at a time. Default 4. */
  readonly width?: number;
}

export interface BackupOptions extends CopyOptions {
  /** Of the program, for the manifest. */
  readonly version: string;
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
}

export interface BackupReport {
  readonly manifest: Manifest;
  /** Blobs that an earlier run had left in the archive. */
  readonly kept: number;
  /** Artifacts that were deleted, bytes and all, while the backup ran: they are in it as deleted. */
  readonly amended: number;
  /** Artifacts whose bytes are missing or damaged here: their rows are in the archive, their bytes are not. */
  readonly lost: readonly Damage[];
}

/** Blobs copied at a time. */
export const COPY_WIDTH = 4;

/** Rejects with the signal's reason when it aborts: the archive is not complete then, and running it again goes on. */
export async function backup(
  { store, blobs }: CopyPorts,
  archive: ArchiveWriter,
  options: BackupOptions,
): Promise<BackupReport> {
  const { now = Date.now, signal, onProgress = () => {}, version } = options;
  const createdAt = now();
  const records = recordsWriter(archive, createdAt);
  const counts = { accounts: 0, artifacts: 0, events: 0 };
  for await (const batch of store.dump(signal === undefined ? {} : { signal })) {
    signal?.throwIfAborted();
    for (const record of batch) {
      const kind = KINDS[record.kind];
      counts[kind]++;
      await records.add(kind, record);
    }
    onProgress({ stage: "records", done: sum(counts), total: null, bytes: 0 });
  }
  const files = [...(await records.flush())];

  const amended: Artifact[] = [];
  const copied = await copyBlobs({ store, blobs }, archive, {
    ...options,
    rows: completedRows(archive, files),
    total: counts.artifacts,
    onEnded: (row) => amended.push(row),
  });
  for (const artifact of amended) await records.add("amended", { kind: "artifact", artifact });

  const allFiles = await records.flush();
  signal?.throwIfAborted();
  const manifest = await finishArchive(archive, createdAt, {
    kind: "backup",
    dock: null,
    docyard: version,
    counts: { ...counts, blobs: copied.blobs, bytes: copied.bytes, lost: copied.lostCount },
    files: allFiles,
  });
  return { manifest, kept: copied.kept, amended: amended.length, lost: copied.lost };
}

const KINDS = { account: "accounts", artifact: "artifacts", event: "events" } as const satisfies Record<
  StoreRecord["kind"],
  RecordKind
>;

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((all, count) => all + count, 0);
}

/** The artifacts of some files, `completed` ones only. */
async function* completedRows(
  archive: Pick<ArchiveReader, "readRecords">,
  files: readonly RecordsFile[],
): AsyncGenerator<Artifact, void, void> {
  for await (const batch of recordsOf(archive, files, "artifacts")) {
    for (const record of batch) {
      if (record.kind === "artifact" && record.artifact.status === "upload_completed") yield record.artifact;
    }
  }
}

/** The records of one kind, file by file. */
export async function* recordsOf(
  archive: Pick<ArchiveReader, "readRecords">,
  files: readonly RecordsFile[],
  kind: RecordKind,
): AsyncGenerator<StoreRecord[], void, void> {
  for (const file of files) if (file.kind === kind) yield await readRecords(archive, file);
}

// ---- bytes into an archive -------------------------------------------------------------------------------------

export interface BlobCopy extends CopyOptions {
  readonly rows: AsyncIterable<Artifact>;
  readonly total: number | null;
  /** Told of an artifact that ended since, and whose bytes are gone. */
  readonly onEnded: (row: Artifact) => void;
  /** Told, in order, of every artifact whose bytes the archive has. */
  readonly onCopied?: (row: Artifact) => Promise<void>;
}

export interface BlobsCopied {
  /** Distinct ones that the archive holds now, and their bytes; `kept` were there before. */
  readonly blobs: number;
  readonly bytes: number;
  readonly kept: number;
  /** The first `FINDINGS_MAX`, and how many in all. */
  readonly lost: readonly Damage[];
  readonly lostCount: number;
}

/** The bytes of every row, each digest once. */
export async function copyBlobs(
  { store, blobs }: CopyPorts,
  archive: ArchiveWriter,
  { rows, total, onEnded, onCopied, signal, onProgress = () => {}, width = COPY_WIDTH }: BlobCopy,
): Promise<BlobsCopied> {
  const done: DigestMap = digestMap();
  const underWay = new Map<string, Promise<boolean>>();
  const lost: Damage[] = [];
  const sums = { bytes: 0, kept: 0, lostCount: 0, rows: 0 };

  /** Whether the archive holds the bytes now. */
  const copyOnce = async (row: Artifact): Promise<boolean> => {
    const digest = row.digest!;
    const size = row.size!;
    signal?.throwIfAborted();
    if (await archive.holds(digest, size)) sums.kept++;
    else if (!(await copyBlob(row))) return false;
    done.set(digest, size);
    sums.bytes += size;
    return true;
  };

  const copyBlob = async (row: Artifact): Promise<boolean> => {
    if (await transfer(row)) return true;
    const current = await store.artifacts.get({ id: row.id });
    if (current === null || current.status !== "upload_completed") {
      onEnded(current ?? { ...row, status: "deleted", version: row.version + 1 });
      return false;
    }
    // Not read as it should be: perhaps put right meanwhile, perhaps damaged.
    const damage = await damageOf({ artifacts: store.artifacts, blobs }, row, signal);
    if (damage === null && (await transfer(row))) return true;
    sums.lostCount++;
    if (damage !== null && lost.length < FINDINGS_MAX) lost.push(damage);
    return false;
  };

  /** False when the source is not what the row says; failures of the archive itself are thrown. */
  const transfer = async (row: Artifact): Promise<boolean> => {
    const source: { error?: unknown } = {};
    const body = async function* (): AsyncGenerator<Uint8Array, void, void> {
      try {
        yield* (await blobs.get(row.blobKey!, signal === undefined ? {} : { signal })).body;
      } catch (error) {
        source.error = error;
        throw error;
      }
    };
    const expected = { digest: row.digest!, size: row.size! };
    try {
      const written = await archive.writeBlob(expected, body());
      return written.digest === expected.digest && written.size === expected.size;
    } catch (error) {
      signal?.throwIfAborted();
      if (!("error" in source)) throw error;
      // Storage that is away is the end; one blob that cannot be read is a finding.
      await blobs.ready();
      return false;
    }
  };

  const copy = async (row: Artifact): Promise<{ row: Artifact; isHeld: boolean }> => {
    const digest = row.digest!;
    if (done.get(digest) !== undefined) return { row, isHeld: true };
    // Of those that waited for one that failed, one copies, and the others wait again.
    for (let before = underWay.get(digest); before !== undefined; before = underWay.get(digest)) {
      if (await before) return { row, isHeld: true };
    }
    const copying = copyOnce(row);
    underWay.set(digest, copying);
    try {
      return { row, isHeld: await copying };
    } finally {
      if (underWay.get(digest) === copying) underWay.delete(digest);
    }
  };

  for await (const { row, isHeld } of inOrder(rows, width, copy)) {
    signal?.throwIfAborted();
    if (isHeld) await onCopied?.(row);
    onProgress({ stage: "blobs", done: ++sums.rows, total, bytes: sums.bytes });
  }
  return { blobs: done.size, bytes: sums.bytes, kept: sums.kept, lost, lostCount: sums.lostCount };
}

// ---- and back --------------------------------------------------------------------------------------------------

export interface RestoreReport {
  readonly manifest: Manifest;
  /** Blobs put in place, those of an earlier run included. */
  readonly blobs: number;
  /** Artifacts whose bytes the archive does not have, or has damaged: the first `FINDINGS_MAX`, and how many in all. */
  readonly lost: readonly LostArtifact[];
  readonly lostCount: number;
}

export interface LostArtifact {
  readonly id: string;
  readonly dockId: string;
  readonly filename: string;
  /** `absent`: the backup did not find them either; `damaged`: the archive's own bytes are. */
  readonly fault: "absent" | "damaged";
}

/** Begins the key that lies with the bytes while a restore is unfinished; what follows tells which one. */
export const RESTORE_MARK: string = `${STAGING_PREFIX}restore-`;
/** Records loaded at a time: one transaction. */
const LOAD_BATCH = 500;

/**
 * Fills an empty store and an empty blob store: bytes first, then rows, so that no row is ever without its bytes.
 * Rejects with the signal's reason when it aborts; running it again goes on.
 * @throws DocyardError `failed_precondition` where something else is there already; `data_loss` when the archive's
 *   records are damaged; nothing wrong is stored then.
 */
export async function restore(
  ports: CopyPorts,
  archive: ArchiveReader,
  options: CopyOptions = {},
): Promise<RestoreReport> {
  const manifest = readManifest(archive.manifest);
  if (manifest.kind !== "backup") {
    throw new DocyardError("invalid_argument", "This archive is an export of one dock: import it");
  }
  const mark = `${RESTORE_MARK}${await sha256(archive.manifest)}`;
  await begin(ports, archive, manifest, mark);
  const copied = await restoreBlobs(ports, archive, manifest, options);
  await loadRecords(ports.store, archive, manifest, options);
  await requireCounts(ports.store, manifest);
  await ports.blobs.delete(mark);
  return { manifest, ...copied };
}

async function begin(
  { store, blobs }: CopyPorts,
  archive: ArchiveReader,
  manifest: Manifest,
  mark: string,
): Promise<void> {
  if ((await blobs.stat(mark)) !== null) {
    await requireOwnAccounts(store, archive, manifest);
    return;
  }
  for await (const batch of store.dump()) {
    if (batch.length > 0) throw inUse("The store has rows already");
  }
  for (const prefix of [FINAL_PREFIX, STAGING_PREFIX]) {
    if ((await blobs.list(prefix, { limit: 1 })).length > 0) throw inUse("The blob store has bytes already");
  }
  await blobs.put(mark, emptyBody(), { sizeMax: 0 });
}

function inUse(what: string): DocyardError {
  return new DocyardError(
    "failed_precondition",
    `${what}, and they are not of this restore: restore into an empty store and an empty blob store`,
  );
}

async function* emptyBody(): AsyncGenerator<Uint8Array, void, void> {}

/** The bytes say that this restore was begun here: the rows, if there are any, must be its own as well. */
async function requireOwnAccounts(store: Store, archive: ArchiveReader, manifest: Manifest): Promise<void> {
  const nameOf = ({ kind, id }: AccountRecord): string => `${kind} ${id}`;
  const known = new Set<string>();
  for await (const batch of recordsOf(archive, manifest.files, "accounts")) {
    for (const record of batch) if (record.kind === "account") known.add(nameOf(record.account));
  }
  for await (const batch of store.dump()) {
    for (const record of batch) {
      if (record.kind !== "account") return;
      if (!known.has(nameOf(record.account))) throw inUse("The store has rows already");
    }
  }
}

async function restoreBlobs(
  { blobs }: CopyPorts,
  archive: ArchiveReader,
  manifest: Manifest,
  { signal, onProgress = () => {}, width = COPY_WIDTH }: CopyOptions,
): Promise<Pick<RestoreReport, "blobs" | "lost" | "lostCount">> {
  const ended = new Set<string>();
  for await (const batch of recordsOf(archive, manifest.files, "amended")) {
    for (const record of batch) if (record.kind === "artifact") ended.add(record.artifact.id);
  }
  const lost: LostArtifact[] = [];
  const sums = { rows: 0, blobs: 0, bytes: 0, lost: 0 };
  const place = async (row: Artifact): Promise<"placed" | "shared" | LostArtifact["fault"]> => {
    signal?.throwIfAborted();
    if (ended.has(row.id)) return "shared";
    const found = await placeBlob(blobs, archive, row.blobKey!, row, signal);
    return found === "placed" && row.sharesBlob ? "shared" : found;
  };
  const work = async (row: Artifact) => ({ row, outcome: await place(row) });
  for await (const { row, outcome } of inOrder(completedRows(archive, manifest.files), width, work)) {
    signal?.throwIfAborted();
    const { id, dockId, filename } = row;
    if (outcome === "absent" || outcome === "damaged") {
      sums.lost++;
      if (lost.length < FINDINGS_MAX) lost.push({ id, dockId, filename, fault: outcome });
    } else if (outcome === "placed") {
      sums.blobs++;
      sums.bytes += row.size!;
    }
    const total = manifest.counts.artifacts;
    onProgress({ stage: "blobs", done: ++sums.rows, total, bytes: sums.bytes });
  }
  return { blobs: sums.blobs, lost, lostCount: sums.lost };
}

/**
 * Puts the bytes of a digest under a final key, unless they are there. Straight to where they belong: the archive's body
 * rejects before its end when a byte is wrong, and a store takes a body whole or not at all.
 */
export async function placeBlob(
  blobs: Pick<BlobStore, "stat" | "put">,
  archive: Pick<ArchiveReader, "readBlob">,
  key: string,
  expected: Pick<Artifact, "size" | "digest">,
  signal?: AbortSignal,
): Promise<"placed" | "absent" | "damaged"> {
  const there = await blobs.stat(key);
  if (there?.size === expected.size && (there?.digest ?? expected.digest) === expected.digest)
    return "placed";
  const blob = await archive.readBlob(expected.digest!);
  if (blob === null) return "absent";
  if (blob.size !== expected.size) return "damaged";
  try {
    await blobs.put(key, blob.body, { sizeMax: blob.size, ...(signal === undefined ? {} : { signal }) });
    return "placed";
  } catch (error) {
    signal?.throwIfAborted();
    if (isDocyardError(error, "data_loss")) return "damaged";
    throw error;
  }
}

async function loadRecords(
  store: Store,
  archive: ArchiveReader,
  manifest: Manifest,
  { signal, onProgress = () => {} }: CopyOptions,
): Promise<void> {
  const { accounts, artifacts, events } = manifest.counts;
  let done = 0;
  // What has ended since goes first: `load` leaves alone what is there already.
  for (const kind of ["accounts", "amended", "artifacts", "events"] as const) {
    for await (const records of recordsOf(archive, manifest.files, kind)) {
      for (let start = 0; start < records.length; start += LOAD_BATCH) {
        signal?.throwIfAborted();
        const batch = records.slice(start, start + LOAD_BATCH);
        await store.load(batch);
        done += batch.length;
        onProgress({ stage: "rows", done, total: accounts + artifacts + events, bytes: 0 });
      }
    }
  }
}

async function requireCounts(store: Store, { counts }: Manifest): Promise<void> {
  const found = { accounts: 0, artifacts: 0, events: 0 };
  for await (const batch of store.dump()) for (const { kind } of batch) found[KINDS[kind]]++;
  for (const kind of ["accounts", "artifacts", "events"] as const) {
    if (found[kind] !== counts[kind]) {
      throw new DocyardError(
        "data_loss",
        `The store has ${found[kind]} ${kind} now, and the backup had ${counts[kind]}`,
      );
    }
  }
}
