/** The machine face's words as this client gives and gets them (contract 1A to 1D). Types only. */

import type { JsonObject } from "./json.ts";
import type { UploadTarget } from "./send.ts";

/** How far an artifact is. */
export type ArtifactStatus = "created" | "upload_started" | "upload_completed" | "upload_failed";

/** What every answer says of an artifact. */
export interface Artifact {
  /** `art_…` */
  readonly id: string;
  readonly dockId: string;
  /** Exactly as it was given. */
  readonly filename: string;
  readonly contentType: string;
  /** Bytes; null while nobody knows. */
  readonly size: number | null;
  /** `sha256:` and 64 lower-case hex digits; declared until the upload is completed, verified from then on. */
  readonly hash: string | null;
  readonly metadata: JsonObject;
  /** ISO 8601, UTC, with milliseconds. */
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** An artifact whose bytes are verified and durable. */
export interface StoredArtifact extends Artifact {
  readonly size: number;
  readonly hash: string;
  /** Where the server keeps it; for people to read. */
  readonly storageKey: string;
  /** Whether the dock held these bytes already: then this is the artifact from back then, its metadata too. */
  readonly isDuplicate: boolean;
}

/** A registered artifact that waits for its bytes. */
export interface PendingArtifact extends Artifact, UploadTarget {
  readonly storageKey: string;
  readonly isDuplicate: false;
  /** `upload_…`; what `complete` asks for. */
  readonly uploadId: string;
}

/** What `create` answers: somewhere to send the bytes, or the artifact that has them. */
export type CreatedArtifact = PendingArtifact | (StoredArtifact & { readonly isDuplicate: true });

/** A row of a list, with a URL for its bytes. */
export interface ListedArtifact extends Artifact {
  /** Signed: whoever has it can read the bytes. Null while there are none. */
  readonly downloadUrl: string | null;
  /** When `downloadUrl` ends: an hour from the answer on, as servers are set up by default. */
  readonly expiresAt: string | null;
  /** Only where the query names `status`. */
  readonly status?: ArtifactStatus;
  readonly errorMessage?: string | null;
}

/** A single artifact, whatever its status. */
export interface StatedArtifact extends ListedArtifact {
  readonly status: ArtifactStatus;
  /** Why it failed; else null. */
  readonly errorMessage: string | null;
}

export interface CreateInput {
  /** 1 to 255 bytes of UTF-8, no path separators or control characters. */
  readonly filename: string;
  /** Default: by the filename's extension, else `application/octet-stream`. */
  readonly contentType?: string | undefined;
  /** Bytes; others than so many are refused. */
  readonly size?: number | undefined;
  readonly metadata?: JsonObject | undefined;
  /** SHA-256 in hex, with or without `sha256:`; other bytes are refused, and known ones need not be sent. */
  readonly hash?: string | undefined;
}

/** Which artifacts, newest first. All conditions must hold. */
export interface ArtifactQuery {
  /** Part of the filename, blind to case. */
  readonly search?: string | undefined;
  /** Each field must be there with this value; `"5"` is not `5`. */
  readonly metadata?: JsonObject | undefined;
  /** Registered from this moment on: a Date, or ISO 8601. What is completed late is listed late, by default up to a day. */
  readonly createdAfter?: Date | string | undefined;
  /** Before this moment. */
  readonly createdBefore?: Date | string | undefined;
  /** Default: completed ones only. */
  readonly status?: ArtifactStatus | readonly ArtifactStatus[] | undefined;
  /** Rows per page, at most 1000. Default 20 for `list`, 100 for `artifacts`. */
  readonly limit?: number | undefined;
}

export interface PageQuery extends ArtifactQuery {
  /** Rows to skip; not together with `cursor`. */
  readonly offset?: number | undefined;
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined;
}

export interface Page {
  readonly data: readonly ListedArtifact[];
  readonly meta: {
    /** Rows that match, on all pages. */
    readonly total: number;
    readonly page: number;
    readonly pageSize: number;
    readonly hasMore: boolean;
    /** For `list({ cursor })`; null on the last page. */
    readonly nextCursor: string | null;
  };
}
