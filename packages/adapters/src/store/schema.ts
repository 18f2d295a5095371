/**
 * The tables of the SQL stores as types, and the way between a row and an artifact.
 * How the tables come to be is in `migrations.ts`; what they answer is in the `sql-*.ts` files.
 */

import type {
  Artifact,
  ArtifactChange,
  ArtifactStatus,
  ArtifactSummary,
  EventType,
  Face,
  JsonObject,
  MediaType,
} from "@docyard/core";
import { foldName, parseJson } from "@docyard/core";
import type { ColumnType, Generated, Selectable } from "kysely";

/** One artifact. JSON is kept as text: `JSON.stringify` escapes what databases refuse (NUL, unpaired surrogates). */
export interface ArtifactTable {
  /** Short reference for index entries; never leaves the store. */
  n: Generated<number>;
  id: string;
  dock_id: string;
  face: Face;
  version: number;
  status: ArtifactStatus;
  filename: string;
  /** `foldName(filename)`: what searches are compared with. */
  folded: string;
  content_type: string;
  size: number | null;
  digest: string | null;
  metadata: string;
  media_type: MediaType | null;
  source: string;
  duration_ms: number | null;
  failure: string | null;
  upload_id: string | null;
  staging_key: string | null;
  storage_key: string;
  blob_key: string | null;
  /** 0 or 1. */
  shares_blob: number;
  duplicate_of: string | null;
  attempts: number;
  due_at: number | null;
  created_by: string;
  created_at: number;
  updated_at: number;
}

/** The event log (design idea 5); `seq` comes from `dock_count`. */
export interface EventTable {
  dock_id: string;
  seq: number;
  artifact_id: string;
  type: EventType;
  at: number;
  by: string | null;
  data: string;
}

/**
 * What is counted for each dock: the last sequence number of its events, and its `Usage`. Its row is locked while a
 * change is written, so numbers have no gaps and no race overdraws a quota.
 */
export interface DockCountTable {
  dock_id: string;
  seq: number;
  artifacts: number;
  open: number;
  bytes: number;
}

/** The completed artifacts of one face of a dock: what the metadata and name indexes are about. */
export interface ListingTable {
  n: Generated<number>;
  dock_id: string;
  face: Face;
  /** How many there are: the total of the plain list. */
  completed: number;
  /** Grows with every row that joins, leaves or changes; pages and totals of before hold while it stands still. */
  changes: number;
}

/** The rows of a listing that were created in one stretch of time; what is kept of them is used by `sql-marks.ts`. */
export interface ListingStretchTable {
  listing: number;
  /** `created_at` divided by the length of a stretch, rounded down. */
  stretch: number;
  documents: number;
  /** No row of them has a lower number; one that has left may have had it. */
  lowest: number;
  /** The same at the other end. */
  highest: number;
}

/** One term (`terms` in core) of a listing, and how many of its documents have it. */
export interface TermTable {
  id: Generated<number>;
  listing: number;
  path: string;
  value: string;
  documents: number;
}

/** Which documents have a term, in the list's order: equality, order and position are one index walk. */
export interface PostingTable {
  term: number;
  created_at: number;
  id: string;
  n: number;
}

/** Organisations, docks, clients and keys: what they are found by, and the record as JSON. */
export interface AccountTable {
  kind: string;
  id: string;
  handle: string;
  organization_id: string | null;
  created_at: number;
  body: string;
}

export interface MigrationTable {
  number: number;
  name: string;
  applied_at: ColumnType<number, number, never>;
}

export interface Schema {
  artifact: ArtifactTable;
  event: EventTable;
  dock_count: DockCountTable;
  listing_count: ListingTable;
  listing_stretch: ListingStretchTable;
  term: TermTable;
  posting: PostingTable;
  account: AccountTable;
  migration: MigrationTable;
}

export type ArtifactRow = Selectable<ArtifactTable>;
/** A row before the database has numbered it. */
export type NewArtifactRow = Omit<ArtifactRow, "n">;

/** What lists read of a row as it is. Dock and face they know already. */
export const SUMMARY_COLUMNS = [
  "id",
  "version",
  "status",
  "filename",
  "content_type",
  "size",
  "digest",
  "metadata",
  "media_type",
  "duration_ms",
  "failure",
  "storage_key",
  "blob_key",
  "created_by",
  "created_at",
  "updated_at",
] as const;

/** Every column that a writer fills. */
export const ARTIFACT_COLUMNS: readonly (keyof NewArtifactRow)[] = [
  ...SUMMARY_COLUMNS,
  "dock_id",
  "face",
  "folded",
  "source",
  "upload_id",
  "staging_key",
  "shares_blob",
  "duplicate_of",
  "attempts",
  "due_at",
];

/** As much of a row as lists tell. */
export type SummaryRow = Pick<ArtifactRow, "n" | (typeof SUMMARY_COLUMNS)[number]> & {
  /** Null where it is longer than `SINGLE_SOURCE_BYTES_MAX`: then it has fragments. */
  readonly source: string | null;
};

/** The column of each field that an update may touch. */
export const CHANGEABLE: Readonly<Record<keyof ArtifactChange, keyof NewArtifactRow>> = {
  status: "status",
  contentType: "content_type",
  size: "size",
  digest: "digest",
  durationMs: "duration_ms",
  failure: "failure",
  blobKey: "blob_key",
  sharesBlob: "shares_blob",
  duplicateOf: "duplicate_of",
  attempts: "attempts",
  dueAt: "due_at",
  updatedAt: "updated_at",
};

export function toRow(artifact: Artifact): NewArtifactRow {
  return {
    id: artifact.id,
    dock_id: artifact.dockId,
    face: artifact.face,
    version: artifact.version,
    status: artifact.status,
    filename: artifact.filename,
    folded: foldName(artifact.filename),
    content_type: artifact.contentType,
    size: artifact.size,
    digest: artifact.digest,
    metadata: JSON.stringify(artifact.metadata),
    media_type: artifact.mediaType,
    source: JSON.stringify(artifact.source),
    duration_ms: artifact.durationMs,
    failure: artifact.failure === null ? null : JSON.stringify(artifact.failure),
    upload_id: artifact.uploadId,
    staging_key: artifact.stagingKey,
    storage_key: artifact.storageKey,
    blob_key: artifact.blobKey,
    shares_blob: artifact.sharesBlob ? 1 : 0,
    duplicate_of: artifact.duplicateOf,
    attempts: artifact.attempts,
    due_at: artifact.dueAt,
    created_by: artifact.createdBy,
    created_at: artifact.createdAt,
    updated_at: artifact.updatedAt,
  };
}

/** The source of whatever a client uploads itself, as it is kept: nearly all rows of a list have it. */
const UPLOAD = JSON.stringify({ kind: "upload" } satisfies Artifact["source"]);

export function fromRow(row: ArtifactRow): Artifact {
  return {
    ...sharedFields(row, { dockId: row.dock_id, face: row.face }),
    source: sourceOf(row.source),
    uploadId: row.upload_id,
    stagingKey: row.staging_key,
    sharesBlob: row.shares_blob === 1,
    duplicateOf: row.duplicate_of,
    attempts: row.attempts,
    dueAt: row.due_at,
  };
}

function sourceOf(source: string): Artifact["source"] {
  return source === UPLOAD ? { kind: "upload" } : (JSON.parse(source) as Artifact["source"]);
}

/** Whose rows a list is about. */
type Owner = Pick<Artifact, "dockId" | "face">;

export function fromSummaryRow(row: SummaryRow, owner: Owner): ArtifactSummary {
  const kind = row.source === null ? "fragments" : sourceOf(row.source).kind;
  return { ...sharedFields(row, owner), source: { kind } };
}

function sharedFields(
  row: Omit<SummaryRow, "source">,
  { dockId, face }: Owner,
): Omit<ArtifactSummary, "source"> {
  return {
    id: row.id,
    dockId,
    face,
    version: row.version,
    status: row.status,
    filename: row.filename,
    contentType: row.content_type,
    size: row.size,
    digest: row.digest,
    metadata: parseJson(row.metadata) as JsonObject,
    mediaType: row.media_type,
    durationMs: row.duration_ms,
    failure: row.failure === null ? null : (JSON.parse(row.failure) as Artifact["failure"]),
    storageKey: row.storage_key,
    blobKey: row.blob_key,
    createdBy: row.created_by,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
