/**
 * What a host may set of docyard: sizes, times, limits and retries, their defaults, and the check that each of them
 * bounds something. Who holds to a setting is left to the use cases.
 */

import type { LimitRule } from "./ports.ts";

export const MINUTE_MS = 60_000;
export const HOUR_MS: number = 60 * MINUTE_MS;
export const DAY_MS: number = 24 * HOUR_MS;

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
  /**
   * How long a worker owns an artifact without renewing, the same for all workers of a store. Default 60 s; renewed at a
   * third of it.
   */
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
