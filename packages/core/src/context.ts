/**
 * What every use case works with: the ports, the settings, time and identity, and the few rules that all of them share.
 * Internal to core; `docyard.ts` makes it once.
 */

import type { Artifact, ArtifactChange, EventType, NewEvent } from "./artifact.ts";
import { nextStatus } from "./artifact.ts";
import { DocyardError } from "./errors.ts";
import type { IdSource } from "./id.ts";
import type { JsonObject } from "./json.ts";
import type {
  AccountStore,
  ArtifactStore,
  BlobStore,
  LimitRule,
  Queue,
  RateLimit,
  SignedUrl,
} from "./ports.ts";
import type { Principal } from "./access.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export interface Settings {
  /** Largest artifact in bytes, declared or real (ruling 4). Default 5 GiB, the single-PUT limit of S3. */
  readonly sizeMax: number;
  /** How long an upload may stay unfinished (ruling 14). Default 24 h. */
  readonly uploadWindowMs: number;
  /**
   * Life of signed URLs, counted from the request (ruling 7), but for Studio's presigned uploads: those last for
   * `uploadWindowMs`. Default 1 h.
   */
  readonly urlTtlMs: number;
  /** How long the bytes of a dead row stay. Raised to `urlTtlMs`, so that no signed URL can still write them. Default 1 h. */
  readonly graceMs: number;
  /** Nothing is taken, deleted or changed for anyone; reads go on. Default false. */
  readonly readOnly: boolean;
  /**
   * Bytes of the storage that uploads leave free; 0: they do not care. Default 256 MiB. Only where the blob store knows
   * how much there is (`BlobStore.space`).
   */
  readonly freeMin: number;
  /** What Studio calls the bucket of everything kept here. Default `docyard`. */
  readonly bucketName: string;
  /** Per machine client or API key (ruling 8); `max` 0 switches a limit off. */
  readonly limits: {
    /** Default 100 a minute. */
    readonly list: LimitRule;
    /** Counted when a download URL is used. Default 1000 an hour. */
    readonly download: LimitRule;
    /** Tokens issued. Default 10 a minute. */
    readonly token: LimitRule;
    /** Studio requests of an API key. Default 60 a minute. */
    readonly studio: LimitRule;
    /** And 1000 a day (contract 1K). */
    readonly studioDaily: LimitRule;
  };
  /** Attempts, leases and waits of background ingestion; each has a default of its own. */
  readonly ingest: IngestSettings;
}

/** How the worker deals with what takes time and what fails. */
export interface IngestSettings {
  /** How often an artifact is tried in all, crashes included. Default 5. */
  readonly attemptsMax: number;
  /** How long a worker owns an artifact without renewing. Default 60 s; renewed at a third of it. */
  readonly leaseMs: number;
  /** Wait after the first failed attempt; doubles each time, with jitter. Default 2 s. */
  readonly backoffMs: number;
  /** Longest wait. Default 10 min. */
  readonly backoffMaxMs: number;
}

/** Settings as a caller gives them: whatever is left out keeps its default. */
export type SettingsInput = Partial<Omit<Settings, "limits" | "ingest">> & {
  readonly limits?: Partial<Settings["limits"]>;
  readonly ingest?: Partial<IngestSettings>;
};

export const DEFAULT_SETTINGS: Settings = {
  sizeMax: 5 * 1024 ** 3,
  uploadWindowMs: DAY_MS,
  urlTtlMs: HOUR_MS,
  graceMs: HOUR_MS,
  limits: {
    list: { max: 100, windowMs: MINUTE_MS },
    download: { max: 1_000, windowMs: HOUR_MS },
    token: { max: 10, windowMs: MINUTE_MS },
    studio: { max: 60, windowMs: MINUTE_MS },
    studioDaily: { max: 1_000, windowMs: DAY_MS },
  },
  readOnly: false,
  freeMin: 256 * 1024 ** 2,
  bucketName: "docyard",
  ingest: { attemptsMax: 5, leaseMs: MINUTE_MS, backoffMs: 2_000, backoffMaxMs: 10 * MINUTE_MS },
};

/** @throws RangeError or TypeError that names a setting which would bound nothing. */
export function completeSettings({ limits, ingest, ...rest }: SettingsInput = {}): Settings {
  const settings: Settings = {
    ...over(DEFAULT_SETTINGS, rest),
    limits: over(DEFAULT_SETTINGS.limits, limits),
    ingest: over(DEFAULT_SETTINGS.ingest, ingest),
  };
  checkSettings("settings", settings, DEFAULT_SETTINGS);
  return { ...settings, graceMs: Math.max(settings.graceMs, settings.urlTtlMs) };
}

/** What is undefined is left out, too. */
function over<T extends object>(defaults: T, given: Partial<T> = {}): T {
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...defaults, ...Object.fromEntries(known) };
}

/** NaN, as of an environment variable that is not there, is larger than nothing: a limit of it lets all through. */
function checkSettings(path: string, given: object, model: object): void {
  for (const [name, standard] of Object.entries(model) as [string, unknown][]) {
    const value: unknown = (given as Readonly<Record<string, unknown>>)[name];
    const at = `${path}.${name}`;
    if (typeof value !== typeof standard || value === null) {
      throw new TypeError(`${at} must be ${typeof standard === "object" ? "an" : "a"} ${typeof standard}`);
    }
    if (typeof standard === "object") checkSettings(at, value as object, standard as object);
    if (typeof value === "number" && !(Number.isSafeInteger(value) && value >= 0)) {
      throw new RangeError(`${at} must be a whole number of at least 0`);
    }
  }
}

export interface Context {
  readonly artifacts: ArtifactStore;
  readonly accounts: AccountStore;
  readonly blobs: BlobStore;
  readonly queue: Queue;
  readonly limit: RateLimit;
  readonly settings: Settings;
  readonly ids: IdSource;
  /** From 0 up to 1. */
  readonly random: () => number;
  /** Milliseconds since 1970 UTC. */
  readonly now: () => number;
}

/** A guarded write that keeps missing means that something else keeps winning: more than a few rounds is a bug. */
export const ROUNDS_MAX = 8;

export function newEvent(
  { now }: Context,
  type: EventType,
  by: string | null,
  data: JsonObject = {},
): NewEvent {
  return { type, at: now(), by, data };
}

const LIMIT_NOUNS: Record<keyof Settings["limits"], string> = {
  list: "list requests",
  download: "downloads",
  token: "tokens",
  studio: "requests",
  studioDaily: "requests",
};

/** @throws DocyardError `resource_exhausted` when this principal has used the limit up. */
export async function takeLimit(
  { limit, settings }: Context,
  name: keyof Settings["limits"],
  principalId: string,
): Promise<void> {
  const rule = settings.limits[name];
  if (rule.max === 0) return;
  const taken = await limit.take(`${name}:${principalId}`, rule);
  if (taken.allowed) return;
  throw new DocyardError(
    "resource_exhausted",
    `Rate limit exceeded: ${rule.max} ${LIMIT_NOUNS[name]} per ${windowName(rule.windowMs)}`,
    { retryAfterMs: taken.retryAfterMs, principalId },
  );
}

function windowName(ms: number): string {
  if (ms === DAY_MS) return "day";
  if (ms === HOUR_MS) return "hour";
  if (ms === MINUTE_MS) return "minute";
  return `${ms / 1_000} seconds`;
}

/** A URL for the bytes of a completed artifact, null for any other (ruling 7: valid from this request on). */
export async function signDownload(
  { blobs, settings, now }: Context,
  artifact: Artifact,
  principal: Principal,
): Promise<SignedUrl | null> {
  const { status, blobKey, size, digest } = artifact;
  if (status !== "upload_completed" || blobKey === null || size === null || digest === null) return null;
  return blobs.signGet(blobKey, {
    expiresAt: now() + settings.urlTtlMs,
    filename: artifact.filename,
    contentType: artifact.contentType,
    size,
    digest,
    artifactId: artifact.id,
    principalId: principal.id,
  });
}

/** Rings the doorbell. A ring that is lost costs time and nothing else, so a queue that is down fails nobody's call. */
export async function ring({ queue }: Context, id: string, delayMs = 0): Promise<void> {
  try {
    await queue.push(id, { delayMs });
  } catch {
    // The row is due, and the sweep rings again; `ready` tells the operator.
  }
}

/** What makes a row a tombstone, whose bytes go after the grace period unless another artifact shares them. */
export function tombstone({ now, settings }: Context, artifact: Artifact): ArtifactChange {
  return {
    status: nextStatus(artifact, "remove"),
    failure: null,
    dueAt: now() + settings.graceMs,
    updatedAt: now(),
  };
}

/** Whether the bytes of a completed artifact are still what the store can tell at a glance. */
export async function isThere({ blobs }: Context, { blobKey, size, digest }: Artifact): Promise<boolean> {
  const info = blobKey === null ? null : await blobs.stat(blobKey);
  return info !== null && info.size === size && (info.digest === null || info.digest === digest);
}

/**
 * Before others rely on the bytes of a completed artifact: where they are lost or damaged, and the same are at `from`,
 * they are put back, the one time that a final key is written twice. False when `from` holds something else by now.
 */
export async function hasBytesOr(context: Context, holder: Artifact, from: string): Promise<boolean> {
  if (await isThere(context, holder)) return true;
  const { blobKey, size, digest } = holder;
  return context.blobs.copy(from, blobKey!, { size: size!, digest: digest! });
}

/** Deletes bytes that no completed row claims. */
export async function dropUnlessUsed({ artifacts, blobs }: Context, blobKey: string): Promise<void> {
  if (!(await artifacts.isBlobInUse(blobKey))) await blobs.delete(blobKey);
}

export function sizeLimitError(sizeMax: number): DocyardError {
  return new DocyardError("too_large", `File size exceeds the limit of ${sizeMax} bytes`);
}

/** One `invalid_argument` for several faults. */
export function invalid(issues: readonly string[]): DocyardError {
  return new DocyardError("invalid_argument", issues.join("; "), { issues });
}

/** What callers see of a bug; `reason` is for the log. */
export function bug(reason: string): DocyardError {
  return new DocyardError("internal", "Internal server error", { cause: new Error(reason) });
}

/** A client's own text inside a message: short, so that a message stays one line. */
export function shown(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
