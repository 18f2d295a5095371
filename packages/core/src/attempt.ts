/**
 * The bytes of one attempt at an artifact: got from wherever its source says, staged under keys that are this attempt's
 * alone, and taken away again. Whether they are what they should be, and where they go, is ingest.ts's.
 */

import type { Artifact, Fragment } from "./artifact.ts";
import { attemptKey, attemptsFolder, fragmentKey } from "./blob-keys.ts";
import type { Context } from "./context.ts";
import { sizeLimitError } from "./context.ts";
import { DocyardError } from "./errors.ts";
import { requireRoom } from "./intake.ts";
import type { Lease } from "./lease.ts";
import type { IngestPorts, MediaInput, SourceBody } from "./ports-ingest.ts";
import { resolvePresigned } from "./studio.ts";

/** Bytes under a staging key, verified as they were written. */
export interface Staged {
  readonly key: string;
  readonly size: number;
  readonly digest: string;
}

/**
 * Gets the bytes, and verifies them as far as their source can be.
 * @throws DocyardError `source_failed`, `upstream_failed`, `policy_rejected`, `too_large` or `no_space`, with a message
 *   for the client; anything else is our own storage or key file, and for the log.
 */
export async function stage(context: Context, ports: IngestPorts, lease: Lease): Promise<Staged> {
  const { source, stagingKey } = lease.artifact();
  const key = attemptKey(lease.artifact());
  switch (source.kind) {
    case "upload":
      return attested(context, lease, stagingKey!, "The uploaded bytes are gone");
    case "url":
    case "s3":
      await requireRoom(context, 0);
      return stageSingle(context, ports, lease, source, key);
    case "fragments":
      await requireRoom(context, 0);
      return stageFragments(context, ports, lease, source.fragments, key);
  }
}

async function stageSingle(
  context: Context,
  ports: IngestPorts,
  lease: Lease,
  source: Fragment["source"],
  key: string,
): Promise<Staged> {
  const { settings } = context;
  const options = { sizeMax: settings.sizeMax, signal: lease.signal };
  if (source.kind === "url") return save(context, lease, key, await ports.fetchUrl.open(source.url, options));

  const artifact = lease.artifact();
  const presigned = await resolvePresigned(context, artifact.dockId, source.s3Path);
  if (presigned !== null) {
    return attested(context, lease, presigned, "Nothing has been uploaded to this s3Path");
  }
  const apiKey = await context.accounts.find("key", { id: artifact.createdBy });
  if (apiKey === null || apiKey.s3Credentials === null) {
    throw new DocyardError("source_failed", "The API key has no S3 credentials for this s3Path");
  }
  const credentials = await ports.sealer.open(apiKey.s3Credentials, apiKey.id).catch((cause: unknown) => {
    // The operator's fault, who may put the key file right: for the log, and worth another try.
    throw new Error(`the S3 credentials of key ${apiKey.id} cannot be opened`, { cause });
  });
  return save(context, lease, key, await ports.s3.open(source.s3Path, credentials, options));
}

async function save(context: Context, lease: Lease, key: string, source: SourceBody): Promise<Staged> {
  const { sizeMax } = context.settings;
  try {
    if (source.size !== null && source.size > sizeMax) throw sizeLimitError(sizeMax);
    return {
      key,
      ...(await context.blobs.put(key, source.body, { sizeMax, signal: lease.signal, mayVanish: true })),
    };
  } catch (error) {
    letGo(source.body);
    throw error;
  }
}

/** A body may not have been asked for its first byte yet, and then holds its connection or its file. */
function letGo(body: AsyncIterable<Uint8Array>): void {
  const leave = async (): Promise<unknown> => body[Symbol.asyncIterator]().return?.();
  // Not waited for: one that is stuck may never answer. What went wrong before is the reason to tell.
  leave().catch(() => {});
}

/** Bytes that a client has staged: the store says what they are, or reads them to know. */
async function attested(context: Context, lease: Lease, key: string, absent: string): Promise<Staged> {
  const { blobs } = context;
  const info = await blobs.stat(key);
  if (info === null) throw new DocyardError("source_failed", absent);
  if (info.digest !== null) return { key, size: info.size, digest: info.digest };
  const read = await blobs.digest(key, { signal: lease.signal });
  if (read === null) throw new DocyardError("source_failed", absent);
  return { key, ...read };
}

async function stageFragments(
  context: Context,
  ports: IngestPorts,
  lease: Lease,
  fragments: readonly Fragment[],
  key: string,
): Promise<Staged> {
  const artifact = lease.artifact();
  const clips: { input: MediaInput; startMs: number }[] = [];
  let total = 0;
  for (const [index, fragment] of fragments.entries()) {
    let staged: Staged;
    try {
      staged = await stageSingle(context, ports, lease, fragment.source, fragmentKey(artifact, index));
    } catch (error) {
      throw naming(`Fragment ${index + 1}`, error);
    }
    total += staged.size;
    if (total > context.settings.sizeMax) throw sizeLimitError(context.settings.sizeMax);
    clips.push({ input: blobInput(context, staged), startMs: fragment.startTime * 1_000 });
  }
  const joined = await ports.media.join(clips, {
    type: artifact.mediaType === "audio" ? "audio" : "video",
    signal: lease.signal,
  });
  return save(context, lease, key, joined);
}

/** The same error, saying which part of the request it is about. */
function naming(part: string, error: unknown): unknown {
  if (!(error instanceof DocyardError)) return error;
  const { code, message, cause = error, retryAfterMs } = error;
  return new DocyardError(code, `${part}: ${message}`, {
    cause,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** A stored blob as media readers want it: any range, on demand. */
export function blobInput({ blobs }: Context, { key, size }: Staged): MediaInput {
  return {
    size,
    async read(start, end) {
      const { body } = await blobs.get(key, { range: { start, end: Math.min(end, size) } });
      const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start));
      let filled = 0;
      for await (const chunk of body) {
        bytes.set(chunk, filled);
        filled += chunk.length;
      }
      return bytes;
    },
  };
}

/** Deletes what this attempt staged, and nothing else: an attempt's number is its own. */
export async function dropOwnAttempt({ blobs }: Context, artifact: Artifact): Promise<void> {
  const { source } = artifact;
  // What was uploaded is staged elsewhere, and only there.
  if (source.kind === "upload") return;
  const fragments = source.kind === "fragments" ? source.fragments : [];
  for (const index of fragments.keys()) await blobs.delete(fragmentKey(artifact, index), { mayReturn: true });
  await blobs.delete(attemptKey(artifact), { mayReturn: true });
}

/** Keys removed at a time: more than one attempt can leave, which are a fragment each and their join. */
const ATTEMPT_KEYS_MAX = 2_000;

/** Attempts before this one can write the row no more; what a crash left of them goes now. */
export async function dropEarlierAttempts({ blobs }: Context, artifact: Artifact): Promise<void> {
  if (artifact.attempts === 1) return;
  const folder = attemptsFolder(artifact);
  for (const { key } of await blobs.list(folder, { limit: ATTEMPT_KEYS_MAX })) {
    const attempt = Number.parseInt(key.slice(folder.length), 10);
    if (attempt < artifact.attempts) await blobs.delete(key, { mayReturn: true });
  }
}
