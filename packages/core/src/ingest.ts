/**
 * The worker's use case: take one artifact whose bytes are not here yet, get them, prove them, publish them; through
 * crashes, lost leases and failing sources. A worker that lost its lease (`lease.ts`) can write nothing any more, and
 * deletes only what it made itself (`attempt.ts`).
 */

import type { Artifact, Failure, MediaType } from "./artifact.ts";
import { contentFault, nextStatus } from "./artifact.ts";
import type { Staged } from "./attempt.ts";
import { blobInput, dropEarlierAttempts, dropOwnAttempt, stage } from "./attempt.ts";
import { ownBlobKey } from "./blob-keys.ts";
import type { Context } from "./context.ts";
import { hasBytesOr, ring, ROUNDS_MAX, tombstone } from "./context.ts";
import { DocyardError, isDocyardError } from "./errors.ts";
import type { Lease } from "./lease.ts";
import { claim, holdLease, LeaseLost } from "./lease.ts";
import type { IngestPorts, MediaFacts } from "./ports-ingest.ts";

/**
 * How one ring ended. `idle`: there was nothing to do, or someone else is doing it. `lost`: the lease was lost on the
 * way. `released`: asked to stop, and given back.
 */
export type IngestOutcome = "completed" | "failed" | "retrying" | "idle" | "lost" | "released";

export interface IngestOptions {
  /** Asks the worker to give the artifact back. */
  readonly signal?: AbortSignal;
  /** Told why an attempt failed, in full: for the log. The artifact itself only ever shows what its client may see. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Serves one ring. Never rejects for what a source does: that becomes a retry or a failure of the artifact. Rejects
 * when the store itself fails; the sweep rings again then.
 */
export async function ingest(
  context: Context,
  ports: IngestPorts,
  id: string,
  options: IngestOptions = {},
): Promise<IngestOutcome> {
  const claimed = await claim(context, id);
  if (claimed === null) return "idle";
  const lease = holdLease(context, claimed, options.signal);
  try {
    return await run(context, ports, lease, options.onError ?? (() => {}));
  } finally {
    lease.stop();
  }
}

async function run(
  context: Context,
  ports: IngestPorts,
  lease: Lease,
  onError: (error: unknown) => void,
): Promise<IngestOutcome> {
  try {
    const { attempts } = lease.artifact();
    if (attempts > context.settings.ingest.attemptsMax && !isPatient(context, lease.artifact())) {
      return await fail(context, lease, {
        code: "internal",
        message: `Processing was interrupted ${attempts - 1} times and is given up`,
      });
    }
    await dropEarlierAttempts(context, lease.artifact());
    const staged = await stage(context, ports, lease);
    const facts = await examine(context, ports, lease, staged);
    const outcome = await publish(context, lease, staged, facts);
    // What fails from here on leaves the row due, and the sweep does it.
    await afterwards(context, lease).catch(onError);
    return outcome;
  } catch (error) {
    if (error instanceof LeaseLost || lease.isLost()) {
      await tidy(context, lease.artifact());
      return "lost";
    }
    if (lease.isStopping()) return await release(context, lease);
    onError(error);
    return await concede(context, lease, error);
  }
}

// ---- proving and publishing ------------------------------------------------------------------------------------

/** What the bytes turned out to be, checked against what they were said to be. */
interface Examined {
  readonly contentType: string;
  readonly durationMs: number | null;
}

async function examine(
  context: Context,
  ports: IngestPorts,
  lease: Lease,
  staged: Staged,
): Promise<Examined> {
  const artifact = lease.artifact();
  const fault = contentFault(artifact, staged);
  if (fault !== null) throw new DocyardError("integrity_mismatch", fault);
  if (artifact.face === "machine") return { contentType: artifact.contentType, durationMs: null };
  const input = blobInput(context, staged);
  const contentType = await ports.media.contentType(input, sourceName(artifact));
  if (artifact.mediaType === "script") return { contentType, durationMs: null };
  const facts = await ports.media.probe(input, { signal: lease.signal });
  return {
    contentType: facts?.contentType ?? contentType,
    durationMs: checkMedia(artifact.mediaType!, facts),
  };
}

/** Contract 62: video needs a video stream, audio an audio stream. @returns the duration in milliseconds */
function checkMedia(type: Exclude<MediaType, "script">, facts: MediaFacts | null): number {
  if (facts === null) {
    throw new DocyardError("source_failed", `The file is not ${type} in a format that can be read`);
  }
  if (!facts.mediaTypes.includes(type)) {
    throw new DocyardError("source_failed", `The file has no ${type} stream`);
  }
  return facts.durationMs;
}

/** The name that a source gives its file: what tells text formats apart. */
function sourceName(artifact: Artifact): string {
  const { source } = artifact;
  // A question mark or a hash belongs to the name of an object, and ends that of a URL.
  const path =
    source.kind === "url" ? new URL(source.url).pathname : source.kind === "s3" ? source.s3Path : "";
  return path.slice(path.lastIndexOf("/") + 1) || artifact.filename;
}

/** Puts verified bytes in their final place and says so, in an order that a crash anywhere can be repeated from. */
async function publish(
  context: Context,
  lease: Lease,
  staged: Staged,
  facts: Examined,
): Promise<IngestOutcome> {
  const { artifacts, blobs, now } = context;
  const content = { size: staged.size, digest: staged.digest };
  const dock = await context.accounts.find("dock", { id: lease.artifact().dockId });
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const artifact = lease.artifact();
    const { dockId, face } = artifact;
    const twin = face === "machine" ? await artifacts.findByDigest(dockId, content.digest, face) : null;
    // Equal bytes are stored once per dock: whoever has them already lends them.
    const holder = twin ?? (await artifacts.findByDigest(dockId, content.digest));
    const blobKey = holder?.blobKey ?? ownBlobKey(artifact, content.digest);
    if (holder === null) await lease.check();
    const isKept =
      holder === null
        ? await blobs.copy(staged.key, blobKey, content)
        : await hasBytesOr(context, holder, staged.key);
    if (!isKept) {
      throw new DocyardError("upstream_failed", "The uploaded bytes changed while they were being read");
    }
    if (twin !== null) {
      const duplicateOf = twin.id;
      await lease.write({ ...tombstone(context, artifact), duplicateOf }, [
        "artifact.deleted",
        { duplicateOf },
      ]);
      return "completed";
    }
    try {
      await lease.write(
        {
          ...content,
          ...facts,
          blobKey,
          sharesBlob: holder !== null,
          status: nextStatus(artifact, "finish"),
          // Due at once: the staged bytes are still to go, and a crash now must not forget them.
          dueAt: now(),
          updatedAt: now(),
        },
        ["artifact.completed", content],
        dock?.quota,
      );
      return "completed";
    } catch (error) {
      if (!isDocyardError(error, "already_exists")) throw error;
    }
  }
  throw new Error(`artifact ${lease.artifact().id} could not be published in ${ROUNDS_MAX} rounds`);
}

// ---- giving up, giving back, cleaning up -----------------------------------------------------------------------

/** A failed attempt: another one later, or the end. */
async function concede(context: Context, lease: Lease, error: unknown): Promise<IngestOutcome> {
  const { settings, now } = context;
  const { attempts, id } = lease.artifact();
  const known = error instanceof DocyardError && error.code !== "internal" ? error : null;
  const isFull = known?.code === "no_space";
  const transient = known === null || known.code === "upstream_failed" || isFull;
  try {
    const isLast = isFull
      ? !isInWindow(context, lease.artifact())
      : attempts >= settings.ingest.attemptsMax && !isPatient(context, lease.artifact());
    if (!transient || isLast) {
      const tries = transient && attempts > 1 ? ` (tried ${attempts} times)` : "";
      return await fail(context, lease, {
        code: known?.code ?? "internal",
        message: `${known?.message ?? "Processing failed for an internal reason"}${tries}`,
      });
    }
    // Room takes an operator, and waiting for it is no attempt.
    const { backoffMaxMs } = settings.ingest;
    // A source may ask for more patience, within bounds: what comes sooner is refused again.
    const askedMs = Math.min(known?.retryAfterMs ?? 0, backoffMaxMs);
    const delayMs = isFull ? backoffMaxMs : Math.max(backoff(context, attempts), askedMs);
    const counted = isFull ? { attempts: attempts - 1 } : {};
    await tidy(context, lease.artifact());
    lease.stop();
    await lease.write({ ...counted, dueAt: now() + delayMs, updatedAt: now() }, [
      "artifact.retried",
      { attempt: attempts, reason: known?.message ?? "internal", delayMs },
    ]);
    await ring(context, id, delayMs);
    return "retrying";
  } catch (secondary) {
    if (secondary instanceof LeaseLost) return "lost";
    throw secondary;
  }
}

async function fail(context: Context, lease: Lease, failure: Failure): Promise<IngestOutcome> {
  const { settings, now } = context;
  lease.stop();
  await lease.write(
    {
      status: nextStatus(lease.artifact(), "fail"),
      failure,
      dueAt: now() + settings.graceMs,
      updatedAt: now(),
    },
    ["artifact.failed", { code: failure.code, reason: failure.message }],
  );
  await tidy(context, lease.artifact());
  return "failed";
}

/** Asked to stop: the row is due at once for the next worker, and the attempt does not count. */
async function release(context: Context, lease: Lease): Promise<IngestOutcome> {
  await tidy(context, lease.artifact());
  try {
    await lease.write({ dueAt: context.now(), attempts: lease.artifact().attempts - 1 }, null);
    return "released";
  } catch (error) {
    if (error instanceof LeaseLost) return "lost";
    throw error;
  }
}

/** Exponential, with full jitter on the upper half, so that many failures do not come back together. */
function backoff({ settings, random }: Context, attempts: number): number {
  const { backoffMs, backoffMaxMs } = settings.ingest;
  const ceiling = Math.min(backoffMaxMs, backoffMs * 2 ** (attempts - 1));
  return Math.round(ceiling / 2 + (random() * ceiling) / 2);
}

/** The published row's last chore; a crash before its end leaves it due, and the sweep does the same. */
async function afterwards(context: Context, lease: Lease): Promise<void> {
  const artifact = lease.artifact();
  if (artifact.status !== "upload_completed") return;
  await dropOwnAttempt(context, artifact);
  // Copied, and then found that an equal one had been published first.
  if (artifact.sharesBlob) await context.blobs.delete(ownBlobKey(artifact, artifact.digest!));
  if (artifact.stagingKey !== null) await context.blobs.delete(artifact.stagingKey);
  // An earlier worker may only be stopped, and go on with a step that was under way: what that leaves goes later.
  const dueAt = artifact.attempts > 1 ? context.now() + context.settings.graceMs : null;
  await lease.write({ dueAt }, null).catch((error: unknown) => {
    // The sweep was quicker, or the client has deleted it meanwhile: nothing is left to do.
    if (!(error instanceof LeaseLost)) throw error;
  });
}

/**
 * Whether an artifact is tried for as long as its upload may take, however often: its bytes are here already, and it is
 * our own storage that does not answer.
 */
function isPatient(context: Context, artifact: Artifact): boolean {
  return artifact.source.kind === "upload" && isInWindow(context, artifact);
}

function isInWindow({ settings, now }: Context, { createdAt }: Artifact): boolean {
  return now() < createdAt + settings.uploadWindowMs;
}

/** Clean-up that must not get in the way: what stays behind goes with the next attempt, or with the row. */
async function tidy(context: Context, artifact: Artifact): Promise<void> {
  await dropOwnAttempt(context, artifact).catch(() => {});
}
