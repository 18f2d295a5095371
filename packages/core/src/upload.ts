/**
 * The machine face's way in: create an artifact, take its upload, publish it once it is verified and durable.
 * `settle` is the one door from uploaded bytes to `upload_completed`.
 */

import type { Dock, Principal } from "./access.ts";
import type { Artifact, ArtifactChange } from "./artifact.ts";
import { contentFault, filenameFault, isId, nextStatus, parseDigest } from "./artifact.ts";
import { machineStorageKey, ownBlobKey, STAGING_PREFIX } from "./blob-keys.ts";
import type { Context } from "./context.ts";
import {
  bug,
  hasBytesOr,
  invalid,
  isThere,
  newEvent,
  ring,
  ROUNDS_MAX,
  shown,
  sizeLimitError,
  tombstone,
} from "./context.ts";
import { DocyardError, isDocyardError } from "./errors.ts";
import { metadataFault } from "./filter.ts";
import { requireIntake, requireWritable } from "./intake.ts";
import type { JsonObject } from "./json.ts";
import type { SignedUrl } from "./ports.ts";

export interface CreateInput {
  /** Kept verbatim; see `filenameFault` for what is refused. */
  readonly filename: string;
  /** Default `application/octet-stream`. */
  readonly contentType?: string;
  /** Bytes the client means to send; must then be what arrives. */
  readonly size?: number;
  /** SHA-256, bare or `sha256:` hex in any case. */
  readonly hash?: string;
  readonly metadata?: JsonObject;
}

/** A new artifact with its upload, or the one that already holds the declared content. */
export type Created =
  | { readonly artifact: Artifact; readonly isDuplicate: false; readonly upload: SignedUrl }
  | { readonly artifact: Artifact; readonly isDuplicate: true; readonly upload: null };

export interface CompleteInput {
  readonly uploadId: string;
  /** When given, must be the artifact's `storageKey`. */
  readonly storageKey?: string;
}

export interface Completed {
  /** The upload's own artifact, or the one that already held the same content (contract 11). */
  readonly artifact: Artifact;
  readonly isDuplicate: boolean;
}

const DEFAULT_CONTENT_TYPE = "application/octet-stream";
/** RFC 6838 names with optional parameters, in visible ASCII: it becomes a header of every download. */
export const CONTENT_TYPE: RegExp = /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}(?: ?;[\x20-\x7e]{0,256})?$/;

/** See `WritableDock.create`. */
export async function createUpload(
  context: Context,
  dock: Dock,
  principal: Principal,
  input: CreateInput,
): Promise<Created> {
  const { artifacts, blobs, ids, settings } = context;
  const { digest } = checkCreate(input);
  const size = input.size ?? null;
  if (size !== null && size > settings.sizeMax) throw sizeLimitError(settings.sizeMax);
  if (digest !== null) {
    const twin = await artifacts.findByDigest(dock.id, digest, "machine");
    // One whose bytes are gone is no answer: the upload that follows then brings them back.
    if (twin !== null && (await isThere(context, twin))) {
      return { artifact: twin, isDuplicate: true, upload: null };
    }
  }
  await requireIntake(context, size ?? 0);
  const at = context.now();
  const uploadId = ids.ulid("upload");
  const id = ids.ulid("art");
  const stagingKey = STAGING_PREFIX + uploadId;
  const artifact: Artifact = {
    id,
    dockId: dock.id,
    face: "machine",
    version: 1,
    status: "created",
    filename: input.filename,
    contentType: input.contentType ?? DEFAULT_CONTENT_TYPE,
    size,
    digest,
    metadata: input.metadata ?? {},
    mediaType: null,
    source: { kind: "upload" },
    durationMs: null,
    failure: null,
    uploadId,
    stagingKey,
    storageKey: machineStorageKey(dock.id, id, at),
    blobKey: null,
    sharesBlob: false,
    duplicateOf: null,
    attempts: 0,
    dueAt: at + settings.uploadWindowMs,
    createdBy: principal.id,
    createdAt: at,
    updatedAt: at,
  };
  // Before there is a row: a store may take less in one PUT than `sizeMax` says, or be unable to sign.
  const upload = await blobs.signPut(stagingKey, {
    expiresAt: at + settings.urlTtlMs,
    sizeMax: settings.sizeMax,
    ...(size === null ? {} : { size }),
    ...(digest === null ? {} : { digest }),
    artifactId: id,
  });
  await artifacts.insert(artifact, newEvent(context, "artifact.created", principal.id), dock.quota);
  return { artifact, isDuplicate: false, upload };
}

/** See `WritableDock.complete`. */
export async function completeUpload(
  context: Context,
  dock: Dock,
  principal: Principal,
  input: CompleteInput,
): Promise<Completed> {
  requireWritable(context);
  const artifact = isId(input.uploadId) ? await context.artifacts.get({ uploadId: input.uploadId }) : null;
  if (artifact === null || artifact.dockId !== dock.id || artifact.face !== "machine") {
    throw new DocyardError("not_found", `Upload ${shown(input.uploadId)} not found in dock ${dock.id}`);
  }
  if (input.storageKey !== undefined && input.storageKey !== artifact.storageKey) {
    throw new DocyardError("invalid_argument", "s3Key does not match the storageKey of this upload");
  }
  return settle(context, artifact, dock, principal.id);
}

/**
 * Copies the staged bytes to a key that names their digest, then lets one guarded write decide; whoever loses reads
 * again and returns what is true by then. A crash between any two steps leaves a row in `created` with its bytes still
 * staged: repeating the call finishes.
 */
async function settle(context: Context, first: Artifact, dock: Dock, by: string): Promise<Completed> {
  const { artifacts, blobs, settings } = context;
  let artifact = first;
  /** Set when equal content turned out to be held by an artifact of the other face. */
  let shareWith: Artifact | null = null;
  /** What this call has copied: all but the published one goes, once the row can publish no more. */
  const copied = new Set<string>();
  const dropCopiesBut = async (published: string | null): Promise<void> => {
    for (const key of copied) if (key !== published) await blobs.delete(key);
  };
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (artifact.status !== "created") {
      // Not while a worker has it: the key it is about to publish may be the one copied here.
      if (artifact.status !== "upload_started") await dropCopiesBut(artifact.blobKey);
      return endedUpload(context, artifact);
    }

    const stagingKey = artifact.stagingKey!;
    const staged = await blobs.stat(stagingKey);
    if (staged === null) {
      // A racing complete may have finished and dropped the staged bytes since this row was read.
      const current = await artifacts.get({ id: artifact.id });
      if (current !== null && current.version !== artifact.version) {
        artifact = current;
        continue;
      }
      throw new DocyardError(
        "failed_precondition",
        "No bytes have been uploaded yet: PUT them to uploadUrl, then complete",
      );
    }
    const fault = stagedFault(artifact, staged, settings.sizeMax);
    if (fault !== null) {
      await blobs.delete(stagingKey);
      throw fault;
    }
    if (staged.digest === null) {
      artifact = await verifyLater(context, artifact, by);
      continue;
    }

    const content = { size: staged.size, digest: staged.digest };
    // The client may have PUT other bytes since the last round.
    if (shareWith?.digest !== content.digest) shareWith = null;
    const twin = await artifacts.findByDigest(artifact.dockId, content.digest, "machine");
    const holder = twin ?? shareWith;
    // Refused when the client has PUT again meanwhile: look at the new bytes.
    if (holder !== null && !(await hasBytesOr(context, holder, stagingKey))) continue;
    const blobKey: string = shareWith?.blobKey ?? ownBlobKey(artifact, content.digest);
    if (twin === null && shareWith === null) {
      copied.add(blobKey);
      // The same here.
      if (!(await blobs.copy(stagingKey, blobKey, content))) continue;
    }
    let updated: Artifact | null;
    try {
      updated =
        twin === null
          ? await artifacts.update(
              artifact.id,
              artifact.version,
              finishChange(context, artifact, { ...content, blobKey, sharesBlob: shareWith !== null }),
              newEvent(context, "artifact.completed", by, content),
              dock.quota,
            )
          : await artifacts.update(
              artifact.id,
              artifact.version,
              { ...tombstone(context, artifact), duplicateOf: twin.id },
              newEvent(context, "artifact.deleted", by, { duplicateOf: twin.id }),
            );
    } catch (error) {
      if (!isDocyardError(error, "already_exists")) throw error;
      // Equal content won a unique index meanwhile. Of our own face: the next round finds the twin. Else: share it.
      const winner = await artifacts.findByDigest(artifact.dockId, content.digest);
      shareWith = winner !== null && winner.face !== "machine" ? winner : null;
      continue;
    }
    if (updated !== null) {
      // A duplicate's own bytes are left to the sweep: deleting gigabytes has no place in a request.
      if (twin !== null) return { artifact: twin, isDuplicate: true };
      // What fails from here on costs space until the sweep, and must not cost the client its answer.
      await Promise.all([
        dropCopiesBut(blobKey),
        // `sweepStaging` finds what comes back.
        blobs.delete(stagingKey, { mayReturn: true }),
      ]).catch(() => {});
      return { artifact: updated, isDuplicate: false };
    }
    const current = await artifacts.get({ id: artifact.id });
    if (current === null) break;
    artifact = current;
  }
  throw bug(`artifact ${artifact.id} did not settle in ${ROUNDS_MAX} rounds`);
}

/** What `complete` answers for an upload that needs no settling any more. */
async function endedUpload({ artifacts }: Context, artifact: Artifact): Promise<Completed> {
  if (artifact.status === "upload_failed") {
    throw new DocyardError(
      "failed_precondition",
      `This upload has failed (${artifact.failure?.message ?? "no reason recorded"}): create the artifact again`,
    );
  }
  if (artifact.status !== "deleted") return { artifact, isDuplicate: false };
  const twin = artifact.duplicateOf === null ? null : await artifacts.get({ id: artifact.duplicateOf });
  if (twin !== null && twin.status === "upload_completed") return { artifact: twin, isDuplicate: true };
  throw new DocyardError("not_found", `Artifact ${artifact.id} has been deleted`);
}

/**
 * Where the store cannot attest a digest, a worker reads the bytes (ruling 2: 202).
 * @returns the row as it is then, `upload_started` unless something else came first
 */
async function verifyLater(context: Context, artifact: Artifact, by: string): Promise<Artifact> {
  const { artifacts, now } = context;
  const started = await artifacts.update(
    artifact.id,
    artifact.version,
    { status: nextStatus(artifact, "begin"), dueAt: now(), updatedAt: now() },
    newEvent(context, "artifact.started", by),
  );
  if (started !== null) await ring(context, artifact.id);
  return started ?? (await artifacts.get({ id: artifact.id })) ?? artifact;
}

function finishChange(
  { now }: Context,
  artifact: Artifact,
  content: {
    readonly size: number;
    readonly digest: string;
    readonly blobKey: string;
    readonly sharesBlob: boolean;
  },
): ArtifactChange {
  // One that shares may have left a copy of its own behind: the sweep looks once.
  const dueAt = content.sharesBlob ? now() : null;
  return { ...content, status: nextStatus(artifact, "finish"), dueAt, updatedAt: now() };
}

/** Every fault of a create at once (contract 1A: messages come as an array). */
function checkCreate(input: CreateInput): { digest: string | null } {
  const issues: string[] = [];
  const nameFault = filenameFault(input.filename);
  if (nameFault !== null) issues.push(nameFault);
  if (input.contentType !== undefined && !CONTENT_TYPE.test(input.contentType)) {
    issues.push("contentType must be a media type such as application/pdf");
  }
  // Integers beyond exactness, too: they are over any limit, and that is what their client is to hear.
  if (input.size !== undefined && !(Number.isInteger(input.size) && input.size >= 0)) {
    issues.push("size must be a non-negative integer number of bytes");
  }
  const digest = input.hash === undefined ? null : parseDigest(input.hash);
  if (input.hash !== undefined && digest === null) {
    issues.push("hash must be a SHA-256 as 64 hex digits, optionally after sha256:");
  }
  const fault = input.metadata === undefined ? null : metadataFault(input.metadata);
  if (fault !== null) issues.push(fault);
  if (issues.length > 0) throw invalid(issues);
  return { digest };
}

/** Why these staged bytes are refused, or null. */
function stagedFault(
  artifact: Artifact,
  staged: { readonly size: number; readonly digest: string | null },
  sizeMax: number,
): DocyardError | null {
  if (staged.size > sizeMax) return sizeLimitError(sizeMax);
  const fault = contentFault(artifact, staged);
  if (fault === null) return null;
  return new DocyardError("integrity_mismatch", `${fault}: PUT the right bytes and complete again`);
}
