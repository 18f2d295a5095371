/**
 * Export and import of one dock: its completed artifacts with their metadata and bytes, and nothing that belongs to the
 * server (accounts, secrets, events). An import may be cut off and repeated: what is there already is left as it is.
 */

import type { Dock } from "./access.ts";
import type { Artifact, ArtifactSummary, Face, Source } from "./artifact.ts";
import { FACES, filenameFault, isId, MEDIA_TYPES } from "./artifact.ts";
import type { ArchiveReader, ArchiveWriter, Manifest } from "./archive.ts";
import { finishArchive, readManifest, recordsWriter } from "./archive.ts";
import type { BackupOptions, CopyOptions, CopyPorts, LostArtifact } from "./backup.ts";
import { COPY_WIDTH, copyBlobs, placeBlob, recordsOf } from "./backup.ts";
import { machineStorageKey, ownBlobKey, studioStorageKey } from "./blob-keys.ts";
import { ROUNDS_MAX } from "./context.ts";
import { DocyardError, isDocyardError } from "./errors.ts";
import { metadataFault } from "./filter.ts";
import { siblingId } from "./id.ts";
import { inOrder } from "./in-order.ts";
import { isJsonObject } from "./json.ts";
import { sha256 } from "./sha256.ts";
import { CONTENT_TYPE } from "./upload.ts";
import type { Damage } from "./verify.ts";
import { FINDINGS_MAX } from "./verify.ts";

export interface ExportReport {
  readonly manifest: Manifest;
  readonly kept: number;
  /** Artifacts that were deleted while the export ran: not in it. */
  readonly ended: number;
  /** Artifacts whose bytes are missing or damaged here: not in it either. */
  readonly lost: readonly Damage[];
}

/** Rows asked for at a time. */
const PAGE = 1_000;

/** Rejects with the signal's reason when it aborts: the archive is not complete then, and running it again goes on. */
export async function exportDock(
  ports: CopyPorts,
  dock: Dock,
  archive: ArchiveWriter,
  options: BackupOptions,
): Promise<ExportReport> {
  const { now = Date.now, version, signal } = options;
  const createdAt = now();
  const records = recordsWriter(archive, createdAt);
  let artifacts = 0;
  let ended = 0;
  const copied = await copyBlobs(ports, archive, {
    ...options,
    rows: completedOf(ports, dock.id),
    total: (await ports.store.artifacts.usage(dock.id)).artifacts,
    onEnded: () => ended++,
    async onCopied(artifact) {
      artifacts++;
      await records.add("artifacts", { kind: "artifact", artifact: portable(artifact) });
    },
  });
  const files = await records.flush();
  signal?.throwIfAborted();
  const { blobs, bytes, lostCount: lost } = copied;
  const manifest = await finishArchive(archive, createdAt, {
    kind: "export",
    dock: dock.id,
    docyard: version,
    counts: { accounts: 0, artifacts, events: 0, blobs, bytes, lost },
    files,
  });
  return { manifest, kept: copied.kept, ended, lost: copied.lost };
}

/** Newest first; what arrives meanwhile is not among them. */
async function* completedOf({ store }: CopyPorts, dockId: string): AsyncGenerator<Artifact, void, void> {
  for (const face of FACES) {
    let after: ArtifactSummary | undefined;
    for (;;) {
      const page = await store.artifacts.find({
        dockId,
        face,
        statuses: ["upload_completed"],
        start: after === undefined ? { offset: 0 } : { after },
        limit: PAGE,
      });
      for (const { id } of page.rows) {
        const artifact = await store.artifacts.get({ id });
        if (artifact?.status === "upload_completed") yield artifact;
      }
      after = page.rows.at(-1);
      if (!page.more || after === undefined) break;
    }
  }
}

/** Without what only this server can use, and without what a URL may have been signed with. */
function portable(artifact: Artifact): Artifact {
  return {
    ...artifact,
    source: withoutQueries(artifact.source),
    version: 1,
    uploadId: null,
    stagingKey: null,
    blobKey: null,
    sharesBlob: false,
    attempts: 0,
    dueAt: null,
    createdBy: "",
  };
}

function withoutQueries(source: Source): Source {
  const plain = <S extends Source>(one: S): S => {
    if (one.kind !== "url") return one;
    return { ...one, url: one.url.replace(/[?#].*$/s, "").replace(/\/\/[^/@]*@/, "//") };
  };
  if (source.kind !== "fragments") return plain(source);
  return {
    ...source,
    fragments: source.fragments.map((fragment) => ({ ...fragment, source: plain(fragment.source) })),
  };
}

// ---- import ----------------------------------------------------------------------------------------------------

export interface ImportOptions extends CopyOptions {
  /** Who is named in the rows and the log. */
  readonly by: string;
  /** Milliseconds since 1970 UTC; default `Date.now`. */
  readonly now?: () => number;
}

export interface ImportReport {
  readonly manifest: Manifest;
  readonly imported: number;
  /** Left as they were: the dock has them from an earlier run, or has always had them. */
  readonly present: number;
  /** The dock has the same content as another artifact. */
  readonly duplicates: number;
  /** Imported under another id, since theirs is taken. */
  readonly renamed: number;
  /** Without their bytes nothing is imported: the first `FINDINGS_MAX`, and how many in all. */
  readonly lost: readonly LostArtifact[];
  readonly lostCount: number;
}

type Outcome = "imported" | "renamed" | "present" | "duplicate" | LostArtifact["fault"];

/**
 * Adds what an export holds to a dock. Rejects with the signal's reason when it aborts.
 * @throws DocyardError `data_loss` when the archive's records are damaged; `quota_exceeded`. What was imported by then
 *   stays, and running it again goes on.
 */
export async function importDock(
  ports: CopyPorts,
  archive: ArchiveReader,
  dock: Dock,
  options: ImportOptions,
): Promise<ImportReport> {
  const { signal, onProgress = () => {}, width = COPY_WIDTH } = options;
  const manifest = readManifest(archive.manifest);
  if (manifest.kind !== "export") {
    throw new DocyardError("invalid_argument", "This archive is a backup of a whole server: restore it");
  }
  const sums = { imported: 0, renamed: 0, present: 0, duplicate: 0, absent: 0, damaged: 0 };
  const lost: LostArtifact[] = [];
  let [done, bytes] = [0, 0];
  const work = async (row: Artifact) => {
    signal?.throwIfAborted();
    return { row, outcome: await importArtifact(ports, archive, dock, row, options) };
  };
  const rows = async function* (): AsyncGenerator<Artifact, void, void> {
    for await (const batch of recordsOf(archive, manifest.files, "artifacts")) {
      for (const record of batch) if (record.kind === "artifact") yield checked(record.artifact);
    }
  };
  for await (const { row, outcome } of inOrder(rows(), width, work)) {
    signal?.throwIfAborted();
    sums[outcome]++;
    const { id, filename } = row;
    if (outcome === "absent" || outcome === "damaged") {
      if (lost.length < FINDINGS_MAX) lost.push({ id, dockId: dock.id, filename, fault: outcome });
    } else if (outcome !== "present" && outcome !== "duplicate") bytes += row.size!;
    onProgress({ stage: "blobs", done: ++done, total: manifest.counts.artifacts, bytes });
  }
  return {
    manifest,
    imported: sums.imported + sums.renamed,
    present: sums.present,
    duplicates: sums.duplicate,
    renamed: sums.renamed,
    lost,
    lostCount: sums.absent + sums.damaged,
  };
}

/** Bytes first, then one insert that the store's unique rules decide; whoever loses a race looks again. */
async function importArtifact(
  { store, blobs }: CopyPorts,
  archive: ArchiveReader,
  dock: Dock,
  row: Artifact,
  { by, now = Date.now, signal }: ImportOptions,
): Promise<Outcome> {
  const { artifacts } = store;
  const digest = row.digest!;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const id = await idFor(artifacts, dock.id, row);
    if (id === null) return "present";
    // Machines ask for content, and a dock has each once; people make as many artifacts of one content as they like.
    if (row.face === "machine" && (await artifacts.findByDigest(dock.id, digest, "machine")) !== null) {
      return "duplicate";
    }
    const holder = await artifacts.findByDigest(dock.id, digest);
    const place = { ...row, id, dockId: dock.id, storageKey: placeOf(row, dock.id, id) };
    const ownKey = ownBlobKey(place, digest);
    const blobKey = holder?.blobKey ?? ownKey;
    const placed = await placeBlob(blobs, archive, blobKey, row, signal);
    if (placed !== "placed") return placed;
    // An import that was killed may have placed them here, before equal content came to be held elsewhere.
    if (blobKey !== ownKey) await blobs.delete(ownKey);
    try {
      await artifacts.insert(
        { ...place, blobKey, sharesBlob: holder !== null, createdBy: by },
        { type: "artifact.completed", at: now(), by, data: { imported: true } },
        dock.quota,
      );
      return id === row.id ? "imported" : "renamed";
    } catch (error) {
      // Another artifact of the same content, or of this id, came first; a full dock takes no bytes either. After any
      // other failure the row may be there yet (the answer to a commit got lost): then its bytes must be, too.
      const isRefused = isDocyardError(error, "already_exists") || isDocyardError(error, "quota_exceeded");
      if (isRefused && holder === null && !(await artifacts.isBlobInUse(blobKey)))
        await blobs.delete(blobKey);
      if (!isDocyardError(error, "already_exists")) throw error;
    }
  }
  throw new Error(`artifact ${row.id} could not be imported in ${ROUNDS_MAX} rounds`);
}

/** Ids tried for one artifact: its own, and others that follow from it, so that a second import tries the same. */
const IDS_MAX = 8;

/** The first free id for this artifact in this dock; null when the dock has it already under one of them. */
async function idFor(
  artifacts: CopyPorts["store"]["artifacts"],
  dockId: string,
  row: Artifact,
): Promise<string | null> {
  for (let n = 0; n < IDS_MAX; n++) {
    const id = n === 0 ? row.id : siblingId(row.id, await sha256(`${dockId} ${row.id} ${n}`));
    const held = await artifacts.get({ id });
    if (held === null) return id;
    const { status, face, digest } = held;
    if (
      held.dockId === dockId &&
      status === "upload_completed" &&
      face === row.face &&
      digest === row.digest
    ) {
      return null;
    }
  }
  throw new DocyardError("already_exists", `Every id for artifact ${row.id} is taken`);
}

function placeOf({ face, mediaType, createdAt }: Artifact, dockId: string, id: string): string {
  return face === "studio"
    ? studioStorageKey(dockId, id, mediaType!)
    : machineStorageKey(dockId, id, createdAt);
}

const ID: Readonly<Record<Face, RegExp>> = {
  machine: /^art_[0-9A-HJKMNP-TV-Z]{26}$/,
  studio: /^[0-9a-f]{24}$/,
};
/** The end of the year 9999: later ones have five digits, and no place in a key. */
const TIME_MAX = Date.UTC(10_000, 0) - 1;

/**
 * An artifact of an archive that anyone may have written, as this server would have made it itself.
 * @throws DocyardError `data_loss`
 */
function checked(said: Artifact): Artifact {
  const { id, face, filename, contentType, size, digest, metadata, mediaType, durationMs, createdAt } = said;
  const isTime = (ms: unknown): boolean =>
    Number.isSafeInteger(ms) && (ms as number) >= 0 && (ms as number) <= TIME_MAX;
  const faults = [
    (face !== "machine" && face !== "studio") || typeof id !== "string" || !ID[face].test(id) ? "id" : null,
    typeof filename !== "string" || filenameFault(filename) !== null ? "filename" : null,
    typeof contentType !== "string" || !CONTENT_TYPE.test(contentType) ? "contentType" : null,
    !(Number.isSafeInteger(size) && size! >= 0) ? "size" : null,
    typeof digest !== "string" || !/^[0-9a-f]{64}$/.test(digest) ? "digest" : null,
    !isJsonObject(metadata) || metadataFault(metadata) !== null ? "metadata" : null,
    (face === "studio") !== (MEDIA_TYPES as readonly unknown[]).includes(mediaType) ? "mediaType" : null,
    durationMs !== null && !(Number.isFinite(durationMs) && durationMs >= 0) ? "durationMs" : null,
    !isTime(createdAt) || !isTime(said.updatedAt) ? "createdAt" : null,
    said.status !== "upload_completed" ? "status" : null,
    !isSource(said.source) ? "source" : null,
  ].filter((fault) => fault !== null);
  if (faults.length > 0) {
    const name = typeof id === "string" && isId(id) ? id : "an artifact";
    throw new DocyardError("data_loss", `The archive is damaged: ${name} has no valid ${faults.join(", ")}`);
  }
  return {
    id,
    dockId: "",
    face,
    version: 1,
    status: "upload_completed",
    filename,
    contentType,
    size,
    digest,
    metadata,
    mediaType: face === "studio" ? mediaType : null,
    source: said.source,
    durationMs,
    failure: null,
    uploadId: null,
    stagingKey: null,
    storageKey: "",
    blobKey: null,
    sharesBlob: false,
    duplicateOf: null,
    attempts: 0,
    dueAt: null,
    createdBy: "",
    createdAt,
    updatedAt: said.updatedAt,
  };
}

/** Only shown from here on; nothing is fetched from it any more. */
function isSource(value: unknown): boolean {
  if (!isJsonObject(value)) return false;
  switch (value["kind"]) {
    case "upload":
      return true;
    case "url":
      return typeof value["url"] === "string";
    case "s3":
      return typeof value["s3Path"] === "string";
    case "fragments": {
      const { fragments } = value;
      return (
        Array.isArray(fragments) &&
        fragments.every(
          (one: unknown) =>
            isJsonObject(one) && typeof one["startTime"] === "number" && isSource(one["source"]),
        )
      );
    }
    default:
      return false;
  }
}
