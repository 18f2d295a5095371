/**
 * The artifact: one file and its facts, and the table that says how its status may move.
 * Pure: computes changes, applies none. `docyard.ts` applies them through the store's guarded update.
 */

import type { ErrorCode } from "./errors.ts";
import { DocyardError } from "./errors.ts";
import type { JsonObject } from "./json.ts";

/** The public words, in the order in which an artifact comes to them. */
export const VISIBLE_STATUSES = ["created", "upload_started", "upload_completed", "upload_failed"] as const;
export type VisibleStatus = (typeof VISIBLE_STATUSES)[number];

/** `deleted` is a tombstone that no face ever shows. */
export type ArtifactStatus = VisibleStatus | "deleted";
export const ARTIFACT_STATUSES: readonly ArtifactStatus[] = [...VISIBLE_STATUSES, "deleted"];

/** Which public API made the artifact; each face sees only its own. */
export const FACES = ["machine", "studio"] as const;
export type Face = (typeof FACES)[number];

/** Studio's kinds of media; `null` on machine artifacts. */
export const MEDIA_TYPES = ["video", "audio", "script"] as const;
export type MediaType = (typeof MEDIA_TYPES)[number];

/** How the bytes arrive. Studio's `s3` and `fragments` carry the client's own paths verbatim. */
export type Source =
  | { readonly kind: "upload" }
  | { readonly kind: "url"; readonly url: string }
  | { readonly kind: "s3"; readonly s3Path: string }
  | { readonly kind: "fragments"; readonly fragments: readonly Fragment[] };

export interface Fragment {
  readonly source: Exclude<Source, { readonly kind: "upload" | "fragments" }>;
  /** Position on the output's timeline, in seconds, >= 0 (ruling 11). */
  readonly startTime: number;
}

export interface Failure {
  readonly code: ErrorCode;
  /** A sentence that a person can act on. */
  readonly message: string;
}

/** One row. Every time is milliseconds since 1970 UTC; every digest is 64 lower-case hex digits. */
export interface Artifact {
  readonly id: string;
  readonly dockId: string;
  readonly face: Face;
  /** Starts at 1 and grows by one with each update: the guard of every write, and a worker's fencing token. */
  readonly version: number;
  readonly status: ArtifactStatus;
  /** Verbatim as the client sent it; never part of a path (ruling 9). */
  readonly filename: string;
  readonly contentType: string;
  /** Bytes. What the client declared (or null) until `upload_completed`, measured from then on. */
  readonly size: number | null;
  /** SHA-256. What the client declared (or null) until `upload_completed`, verified from then on. */
  readonly digest: string | null;
  readonly metadata: JsonObject;
  readonly mediaType: MediaType | null;
  readonly source: Source;
  /** Length of the media; null for scripts and machine artifacts, and until it is known. */
  readonly durationMs: number | null;
  /** Set exactly while the status is `upload_failed`. */
  readonly failure: Failure | null;
  /** The upload session; null where nothing is uploaded by the client. */
  readonly uploadId: string | null;
  /** Where the client's signed PUT lands, until `complete` takes the bytes; null where nothing is uploaded. */
  readonly stagingKey: string | null;
  /** This artifact's own place for bytes. Shown on the wire, never accepted as authority (contract 41). */
  readonly storageKey: string;
  /** Where the verified bytes are: a key below `storageKey`, or below another artifact's. Null until completed. */
  readonly blobKey: string | null;
  /** Whether `blobKey` is another artifact's: equal content is stored once per dock, whichever face it came by. */
  readonly sharesBlob: boolean;
  /** On a tombstone: the artifact that already held the same content. */
  readonly duplicateOf: string | null;
  /** How many times a worker has begun. */
  readonly attempts: number;
  /**
   * When this row wants attention, or null. Expiry of an unfinished upload, next attempt or lapsed lease of a
   * worker, moment from which a dead row's bytes may go: the sweep serves them all from this one column.
   */
  readonly dueAt: number | null;
  /** Id of the machine client or API key that made it. */
  readonly createdBy: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/**
 * An artifact as lists tell of it. Of the source the kind only: with a thousand fragments it is as long as a request, and
 * a page of such artifacts would be a gigabyte.
 */
export type ArtifactSummary = Pick<Artifact, (typeof SUMMARY_FIELDS)[number]> & {
  readonly source: Pick<Source, "kind">;
};

const SUMMARY_FIELDS = [
  "id",
  "dockId",
  "face",
  "version",
  "status",
  "filename",
  "contentType",
  "size",
  "digest",
  "metadata",
  "mediaType",
  "durationMs",
  "failure",
  "storageKey",
  "blobKey",
  "createdBy",
  "createdAt",
  "updatedAt",
] as const;

export function summaryOf(artifact: Artifact): ArtifactSummary {
  const fields = SUMMARY_FIELDS.map((name) => [name, artifact[name]] as const);
  return { ...Object.fromEntries(fields), source: { kind: artifact.source.kind } } as ArtifactSummary;
}

/** What an update may touch. Identity, ownership and origin never change. */
export type ArtifactChange = Partial<
  Pick<
    Artifact,
    | "status"
    | "contentType"
    | "size"
    | "digest"
    | "durationMs"
    | "failure"
    | "blobKey"
    | "sharesBlob"
    | "duplicateOf"
    | "attempts"
    | "dueAt"
    | "updatedAt"
  >
>;

/** What can happen to an artifact. */
export type Transition = "begin" | "retry" | "finish" | "fail" | "remove";

const TRANSITIONS: Record<Transition, Partial<Record<ArtifactStatus, ArtifactStatus>>> = {
  /** A worker takes it: bytes are being fetched, joined or hashed. */
  begin: { created: "upload_started", upload_started: "upload_started" },
  /** A transient failure or a lapsed lease; the public word never moves back. */
  retry: { upload_started: "upload_started" },
  /** Verified bytes are in place. */
  finish: { created: "upload_completed", upload_started: "upload_completed" },
  /** Permanent failure, or the upload window has passed. */
  fail: { created: "upload_failed", upload_started: "upload_failed" },
  /** The row stays as a tombstone; its bytes go later. */
  remove: {
    created: "deleted",
    upload_started: "deleted",
    upload_completed: "deleted",
    upload_failed: "deleted",
  },
};

/** The status after `transition`, or null where the table refuses it. */
export function statusAfter(status: ArtifactStatus, transition: Transition): ArtifactStatus | null {
  return TRANSITIONS[transition][status] ?? null;
}

/**
 * The status after `transition`.
 * @throws DocyardError `failed_precondition` where the table refuses it.
 */
export function nextStatus(
  artifact: Pick<Artifact, "id" | "status">,
  transition: Transition,
): ArtifactStatus {
  const next = statusAfter(artifact.status, transition);
  if (next === null) {
    throw new DocyardError(
      "failed_precondition",
      `Artifact ${artifact.id} is ${artifact.status} and cannot ${transition}`,
    );
  }
  return next;
}

/** Every kind of line in the event log (design idea 5). */
export type EventType =
  | "artifact.created"
  | "artifact.started"
  | "artifact.retried"
  | "artifact.completed"
  | "artifact.failed"
  | "artifact.deleted"
  /** Dead bytes are gone, or the row needs no more attention. */
  | "artifact.cleaned"
  /** Stored bytes no longer match their digest. */
  | "artifact.corrupt";

/** An event as a writer hands it over; the store adds dock, artifact and sequence number. */
export interface NewEvent {
  readonly type: EventType;
  /** Milliseconds since 1970 UTC. */
  readonly at: number;
  /** Machine client or API key that caused it; null for the server itself. */
  readonly by: string | null;
  readonly data?: JsonObject;
}

/** One line of the log: `seq` starts at 1 in each dock and has no gaps. */
export interface ArtifactEvent extends Required<NewEvent> {
  readonly dockId: string;
  readonly artifactId: string;
  readonly seq: number;
}

/** How bytes differ from what was declared of them, for the client to read, or null (rulings 2 and 4). */
export function contentFault(
  declared: Pick<Artifact, "size" | "digest">,
  bytes: { readonly size: number; readonly digest: string | null },
): string | null {
  if (declared.size !== null && declared.size !== bytes.size) {
    return `Uploaded ${bytes.size} bytes, but size was declared as ${declared.size}`;
  }
  if (declared.digest !== null && bytes.digest !== null && declared.digest !== bytes.digest) {
    return `Uploaded bytes have hash sha256:${bytes.digest}, but sha256:${declared.digest} was declared`;
  }
  return null;
}

/** Whether this can be an id at all. What cannot is not looked up: databases have their own ideas of odd text. */
export function isId(text: string): boolean {
  return /^[A-Za-z0-9_-]{1,64}$/.test(text);
}

const DIGEST = /^(?:sha256:)?([0-9a-f]{64})$/i;

/** A digest as clients write it (bare or `sha256:` hex, any case; contract 7) in its stored form, or null. */
export function parseDigest(text: string): string | null {
  return DIGEST.exec(text)?.[1]?.toLowerCase() ?? null;
}

/** The most UTF-8 bytes a filename may have: what common file systems accept. */
export const FILENAME_BYTES_MAX = 255;

/**
 * Why this filename is refused, or null (ruling 9, lesson R-28): empty, too long, path separators, control or
 * bidirectional-override characters, unpaired surrogates, `.` and `..`. Accepted names are kept verbatim.
 */
export function filenameFault(name: string): string | null {
  if (name.length === 0) return "filename should not be empty";
  if (!name.isWellFormed()) return "filename must be well-formed Unicode";
  if (new TextEncoder().encode(name).length > FILENAME_BYTES_MAX) {
    return `filename must be at most ${FILENAME_BYTES_MAX} bytes of UTF-8`;
  }
  if (/[/\\]/.test(name)) return "filename must not contain path separators";
  // C0, DEL, C1, line and paragraph separators; then the bidirectional overrides and isolates.
  if (/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u.test(name)) {
    return "filename must not contain control characters";
  }
  if (name === "." || name === "..") return "filename must not be . or ..";
  return null;
}

const ASCII = /^[\0-\x7f]*$/;

/**
 * A filename folded for search: blind to case and to how letters are composed. Case is folded one code point at a time
 * (up, then down: that joins ß with SS and both small sigmas), so that folding never depends on the neighbours and a
 * folded part is always found in the folded whole. Folding twice changes nothing more.
 */
export function foldName(name: string): string {
  // Nearly all names are ASCII, of which this is the same, and a tenth of the work.
  if (ASCII.test(name)) return name.toLowerCase();
  let folded = "";
  for (const char of name.normalize("NFC")) {
    for (const upper of char.toLowerCase().toUpperCase()) folded += upper.toLowerCase();
  }
  return folded.normalize("NFC");
}
