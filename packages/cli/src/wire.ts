/**
 * The composition root: Config → drivers → core. The one place that knows every driver, one line for each.
 * A driver is imported when it is chosen and not before, so that a start pays only for what it uses. What an operator
 * wrote to choose it is read by targets.ts.
 */

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { UrlSecret } from "@docyard/adapters/blob/kit";
import type { SqliteStoreOptions } from "@docyard/adapters/store/sqlite";
import type {
  BlobStore,
  Docyard,
  IngestPorts,
  Media,
  Provisioning,
  Queue,
  RateLimit,
  SettingsInput,
  Store,
} from "@docyard/core";
import { createDocyard, createProvisioning, DEFAULT_SETTINGS, urlSecretOf } from "@docyard/core";
import { defaultPublicUrl } from "./address.ts";
import type { Config } from "./config.ts";
import { Failure, reasonOf, UsageError } from "./failure.ts";
import { keyFileOf, keyFileSealer } from "./keyring.ts";
import type { Logger } from "./log.ts";
import { mediaWorkerStarter, sqliteAddon } from "./sea.ts";
import { blobScheme, postgresOptions, s3Options, schemeOf, sqliteFile, withoutSecrets } from "./targets.ts";

/** What a driver for bytes may need besides its own words. */
interface BlobContext {
  /** Signed URLs begin with it. */
  readonly publicUrl: string;
  readonly verifyReads: Config["verifyReads"];
  /** For stores that sign their own URLs: shared by all replicas, kept in the store. */
  readonly secret: UrlSecret;
}

interface Driver<Context, Port> {
  /** How it is written, for `--help` and errors. */
  readonly form: string;
  /** `target` is all that the operator wrote. */
  readonly open: (target: string, context: Context) => Port | Promise<Port>;
}

type Drivers<Context, Port> = Readonly<Record<string, Driver<Context, Port>>>;

interface StoreDriver extends Driver<undefined, Store> {
  /** Brings the tables up to date without opening the store; absent where there are no tables. */
  readonly migrate?: (target: string) => Promise<Migrated>;
}

/** Schema numbers before and after. */
export interface Migrated {
  readonly from: number;
  readonly to: number;
}

const STORES: Readonly<Record<string, StoreDriver>> = {
  sqlite: {
    form: "sqlite[:FILE]",
    open: async (target) =>
      (await import("@docyard/adapters/store/sqlite")).sqliteStore(sqliteOptions(target)),
    migrate: async (target) =>
      (await import("@docyard/adapters/store/sqlite")).migrate(sqliteOptions(target)),
  },
  postgres: {
    form: "postgres://…[?connections=10&prepare=true]",
    open: async (target) =>
      (await import("@docyard/adapters/store/postgres")).postgresStore(postgresOptions(target)),
    migrate: async (target) =>
      (await import("@docyard/adapters/store/postgres")).migrate(postgresOptions(target)),
  },
  memory: {
    form: "memory",
    open: async () => (await import("@docyard/adapters/store/memory")).memoryStore(),
  },
};

const BLOBS: Drivers<BlobContext, BlobStore> = {
  folder: {
    form: "a folder",
    open: async (root, { publicUrl, verifyReads, secret }) =>
      (await import("@docyard/adapters/blob/disk")).diskBlobs({
        root,
        baseUrl: publicUrl,
        secret,
        verifyReads,
      }),
  },
  s3: {
    form: "s3://BUCKET[/PREFIX][?endpoint=…&region=…&publicEndpoint=…]",
    open: async (url) => (await import("@docyard/adapters/blob/s3")).s3Blobs(s3Options(url)),
  },
  memory: {
    form: "memory",
    open: async (_, { publicUrl, secret }) =>
      (await import("@docyard/adapters/blob/memory")).memoryBlobs({
        baseUrl: publicUrl,
        secret,
      }),
  },
};

interface SignalContext {
  /** Hears of a server that is away, now and then: requests go on without it, and nobody else would know. */
  readonly onError: (error: Error) => void;
}

interface Signals {
  readonly queue: Queue;
  readonly limit: RateLimit;
}

/** What several replicas share through one server, they share altogether: the queue, and the counts of the limits. */
const QUEUES: Drivers<SignalContext, Signals> = {
  memory: {
    form: "memory",
    open: async () => ({
      queue: (await import("@docyard/adapters/queue/memory")).memoryQueue(),
      limit: (await import("@docyard/adapters/limit/memory")).memoryLimit(),
    }),
  },
  redis: { form: "redis://…", open: openRedis },
  rediss: { form: "rediss://…", open: openRedis },
};

async function openRedis(url: string, { onError }: SignalContext): Promise<Signals> {
  const queue = await (await import("@docyard/adapters/queue/redis")).redisQueue({ url, onError });
  return { queue, limit: await (await import("@docyard/adapters/limit/redis")).redisLimit({ url, onError }) };
}

/** What `--help` says may be chosen. */
export const FORMS: { readonly db: string; readonly blob: string; readonly queue: string } = {
  db: forms(STORES),
  blob: forms(BLOBS),
  queue: forms(QUEUES),
};

/**
 * Opens the store alone, for the operator's commands.
 * @throws UsageError for a scheme nobody serves; Failure when the store cannot be opened.
 */
export async function openStore(config: Pick<Config, "db">): Promise<Store> {
  return open("--db", STORES, schemeOf(config.db), config.db, undefined);
}

/**
 * Whoever stands in the wrong folder, or forgot the settings of the service, would else work on an empty database that
 * is made for them, and a backup of it would be complete.
 * @throws Failure where a SQLite file should be and is none
 */
export function requireDatabase({ db }: Pick<Config, "db">): void {
  if (schemeOf(db) !== "sqlite") return;
  const file = resolve(sqliteFile(db));
  // A folder that is not there either, the driver has words for.
  if (existsSync(file) || !existsSync(dirname(file))) return;
  throw new Failure(
    `there is no database ${file}: name the server's with --db or DOCYARD_DB, or start a server on this one first`,
  );
}

/** Brings the tables of the store up to date. @throws as `openStore` does. */
export async function migrateStore(config: Pick<Config, "db">): Promise<Migrated> {
  const driver = choose("--db", STORES, schemeOf(config.db));
  if (driver.migrate === undefined)
    throw new UsageError(`--db ${schemeOf(config.db)} has no tables to migrate`);
  return opening("--db", config.db, () => driver.migrate!(config.db));
}

/** Everything a server is made of. */
export interface Parts {
  readonly docyard: Docyard;
  readonly blobs: BlobStore;
  readonly queue: Queue;
  readonly provisioning: Provisioning;
  /** What readiness asks, part by part. */
  readonly checks: Readonly<Record<string, () => Promise<void>>>;
  /** Closes what is open, the last opened first. */
  close(): Promise<void>;
}

/** What is open, and how to close it all, the last opened first. */
interface Keeper {
  readonly keep: <T extends { close(): Promise<void> }>(part: T) => T;
  readonly close: () => Promise<void>;
}

function keeper(): Keeper {
  const opened: { close(): Promise<void> }[] = [];
  return {
    keep(part) {
      opened.push(part);
      return part;
    },
    async close() {
      for (let part = opened.pop(); part !== undefined; part = opened.pop()) await part.close();
    },
  };
}

/** Opens all drivers and hands them to core; what was opened is closed again when a later one fails. */
export async function wire(config: Config, publicUrl: string, log: Pick<Logger, "warn">): Promise<Parts> {
  const { keep, close } = keeper();
  try {
    const store = keep(await openStore(config));
    const provisioning = createProvisioning(store.accounts);
    const secret = async (): Promise<readonly Uint8Array[]> =>
      (await provisioning.serverKeys("url")).map(urlSecretOf);
    const blobs = keep(await openBlobs(config, publicUrl, secret));
    const { queue, limit } = await open("--queue", QUEUES, schemeOf(config.queue), config.queue, {
      onError: (error) => log.warn({ reason: reasonOf(error) }, "the queue's server does not answer"),
    });
    keep(queue);
    keep(limit);
    const ingest = await openIngest(config, keep);
    const docyard = createDocyard({ store, blobs, queue, limit, ingest, settings: settingsOf(config) });
    const checks = {
      store: () => store.ready(),
      blobs: () => blobs.ready(),
      queue: () => queue.ready(),
    };
    return { docyard, blobs, queue, provisioning, checks, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function openBlobs(config: Config, publicUrl: string, secret: UrlSecret): Promise<BlobStore> {
  const { blob, verifyReads } = config;
  return open("--blob", BLOBS, blobScheme(blob), blob, { publicUrl, verifyReads, secret });
}

/** All that a test double takes of a configuration: no store and no bytes are opened for it. */
export interface DoubleParts {
  readonly settings: SettingsInput;
  readonly ingest: Omit<IngestPorts, "sealer">;
  close(): Promise<void>;
}

export async function wireDouble(config: Config): Promise<DoubleParts> {
  requireMemory(config);
  const { keep, close } = keeper();
  const { fetchUrl, s3, media } = await openIngest(config, keep);
  return { settings: settingsOf(config), ingest: { fetchUrl, s3, media }, close };
}

/**
 * `--seed` makes secrets that everyone can know, and control routes for everyone: nothing that lasts may come near.
 * @throws UsageError
 */
export function requireMemory({
  seed,
  db,
  blob,
  queue,
}: Pick<Config, "seed" | "db" | "blob" | "queue">): void {
  if (seed === null) return;
  const isMemory = [schemeOf(db), blobScheme(blob), schemeOf(queue)].every((scheme) => scheme === "memory");
  if (!isMemory) {
    throw new UsageError(
      "--seed makes the server a test double, whose secrets are no secrets: it needs --db memory and --blob memory",
    );
  }
}

/** What an operator's command works with. */
export interface OperatorParts extends Pick<Parts, "docyard" | "blobs" | "close"> {
  readonly store: Store;
}

/**
 * Rows, bytes and core without a server around them. Nobody is rung, no limit holds, and the store is left as it is: no
 * key is made for URLs that nobody will see.
 */
export async function wireOperator(config: Config): Promise<OperatorParts> {
  const { keep, close } = keeper();
  try {
    const store = keep(await openStore(config));
    const publicUrl = config.publicUrl ?? defaultPublicUrl(config, config.port);
    const blobs = keep(await openBlobs(config, publicUrl, randomBytes(32)));
    const { queue, limit } = await open("--queue", QUEUES, "memory", "memory", { onError: () => {} });
    keep(queue);
    keep(limit);
    const ingest = await openIngest(config, keep);
    const unlimited = { limitList: 0, limitDownload: 0, limitToken: 0, limitStudio: 0, limitStudioDaily: 0 };
    const settings = settingsOf({ ...config, ...unlimited });
    return { docyard: createDocyard({ store, blobs, queue, limit, ingest, settings }), store, blobs, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What background ingestion needs. Each driver is opened when the first artifact wants it: most servers serve none. */
async function openIngest(
  config: Config,
  keep: <T extends { close(): Promise<void> }>(part: T) => T,
): Promise<IngestPorts> {
  const fetchUrl = onDemand(async () =>
    (await import("@docyard/adapters/fetch/http")).httpFetch({ allow: config.allowSource }),
  );
  const s3 = onDemand(async () => (await import("@docyard/adapters/fetch/s3")).s3Source());
  const media = onDemand(() => openMedia(config));
  for (const part of [fetchUrl, s3, media]) keep(part);
  return {
    fetchUrl: {
      open: async (...args) => (await fetchUrl.get()).open(...args),
      close: () => fetchUrl.close(),
    },
    s3: { open: async (...args) => (await s3.get()).open(...args), close: () => s3.close() },
    media: {
      contentType: async (...args) => (await media.get()).contentType(...args),
      probe: async (...args) => (await media.get()).probe(...args),
      join: async (...args) => (await media.get()).join(...args),
      close: () => media.close(),
    },
    sealer: keyFileSealer(keyFileOf(config)),
  };
}

async function openMedia(config: Config): Promise<Media> {
  const { mediabunnyMedia } = await import("@docyard/adapters/media/mediabunny");
  const scratchDir = resolve(scratchFolder(config));
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  const startWorker = mediaWorkerStarter();
  // No join is begun, or gone on with, that would be refused when it is done.
  const sizes = { scratchDir, sizeMax: config.maxSize };
  const media = mediabunnyMedia({ ...sizes, ...(startWorker === undefined ? {} : { startWorker }) });
  if (config.ffmpeg === "") return media;
  const { ffmpegMedia } = await import("@docyard/adapters/media/ffmpeg");
  const ffprobe = config.ffmpeg.replace(/ffmpeg(?=[^/\\]*$)/, "ffprobe");
  return ffmpegMedia({ ffmpeg: config.ffmpeg, ffprobe, ...sizes, fallbackFor: media });
}

/** Beside the blobs there is room for what will become one; a bucket has no folder to spare. */
function scratchFolder(config: Config): string {
  if (config.scratch !== "") return config.scratch;
  return blobScheme(config.blob) === "folder"
    ? join(config.blob, ".scratch")
    : join(tmpdir(), "docyard-scratch");
}

/** A part that is opened by its first use, once, and closed only if it was. */
function onDemand<T extends { close(): Promise<void> }>(
  open: () => Promise<T>,
): { get(): Promise<T>; close(): Promise<void> } {
  let opened: Promise<T> | undefined;
  return {
    get: () => (opened ??= open()),
    close: async () => {
      await (await opened?.catch(() => undefined))?.close();
    },
  };
}

function settingsOf(config: Config): SettingsInput {
  const { list, download, token, studio, studioDaily } = DEFAULT_SETTINGS.limits;
  return {
    sizeMax: config.maxSize,
    readOnly: config.readOnly,
    freeMin: config.minFree,
    urlTtlMs: config.urlTtl,
    ...(blobScheme(config.blob) === "s3" ? { bucketName: s3Options(config.blob).bucket } : {}),
    limits: {
      list: { ...list, max: config.limitList },
      download: { ...download, max: config.limitDownload },
      token: { ...token, max: config.limitToken },
      studio: { ...studio, max: config.limitStudio },
      studioDaily: { ...studioDaily, max: config.limitStudioDaily },
    },
  };
}

async function open<Context, Port>(
  flag: string,
  drivers: Drivers<Context, Port>,
  scheme: string,
  target: string,
  context: Context,
): Promise<Port> {
  const driver = choose(flag, drivers, scheme);
  return opening(flag, target, () => driver.open(target, context));
}

function choose<D extends { readonly form: string }>(
  flag: string,
  drivers: Readonly<Record<string, D>>,
  scheme: string,
): D {
  const driver = Object.hasOwn(drivers, scheme) ? drivers[scheme] : undefined;
  if (driver !== undefined) return driver;
  throw new UsageError(`${flag}: there is no driver for "${scheme}" (choose from: ${forms(drivers)})`);
}

/** Drivers say what is wrong in one line; whose fault it is, only we know. */
async function opening<T>(flag: string, target: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new Failure(`${flag} ${withoutSecrets(target)}: ${reasonOf(error)}`, { cause: error });
  }
}

function forms(drivers: Readonly<Record<string, { readonly form: string }>>): string {
  return Object.values(drivers)
    .map(({ form }) => form)
    .join(", ");
}

/** Inside an executable the driver's addon comes along: nothing is installed that it could be found in. */
function sqliteOptions(target: string): SqliteStoreOptions {
  const file = sqliteFile(target);
  const nativeBinding = sqliteAddon([resolve(dirname(file))]);
  return { file, ...(nativeBinding === undefined ? {} : { nativeBinding }) };
}
