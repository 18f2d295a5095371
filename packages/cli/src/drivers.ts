/**
 * Every driver and how it is opened, one line for each: the one place that imports them, each when it is chosen and not
 * before, so that a start pays only for what it uses. What an operator wrote to choose one is read by targets.ts; what
 * is made of them all is wire.ts's.
 */

import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import type { UrlSecret } from "@docyard/adapters/blob/kit";
import type { SqliteStoreOptions } from "@docyard/adapters/store/sqlite";
import type { BlobStore, IngestPorts, Media, Queue, RateLimit, Store } from "@docyard/core";
import { FINAL_PREFIX, RESTORE_MARK } from "@docyard/core";
import type { Config } from "./config.ts";
import { Failure, reasonOf, UsageError } from "./failure.ts";
import { keyFileOf, keyFileSealer } from "./keyring.ts";
import { mediaWorkerStarter, sqliteAddon } from "./sea.ts";
import { blobScheme, postgresOptions, s3Options, schemeOf, sqliteFile, withoutSecrets } from "./targets.ts";

/** Hands a part back, and remembers to close it. */
export type Keep = <T extends { close(): Promise<void> }>(part: T) => T;

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
 * Opens the store of rows.
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

/**
 * A server that starts on half of what it had looks well, finds nothing, and puts what comes where nobody will look for
 * it. Asked before the folder is opened, which makes it and a key for its URLs.
 * @throws Failure where rows name bytes and the folder has none (its disk is not mounted, or it is another folder), and
 *   where a restore is not complete, which what a server makes would keep from going on
 */
export async function requireBytes({ blob }: Pick<Config, "blob">, store: Store): Promise<void> {
  if (blobScheme(blob) !== "folder") return;
  const marks = await readdir(dirname(resolve(blob, RESTORE_MARK))).catch(() => []);
  if (marks.some((name) => name.startsWith(basename(RESTORE_MARK)))) {
    throw new Failure(`--blob ${blob}: a restore into it is not complete: run that again first`);
  }
  // Never taken away once it is there, whatever is deleted.
  const final = resolve(blob, FINAL_PREFIX);
  if (existsSync(final)) return;
  for (const { id } of await store.accounts.list("dock")) {
    const { artifacts, open } = await store.artifacts.usage(id);
    if (artifacts === open) continue;
    throw new Failure(
      `--blob ${blob}: the database has artifacts, and no bytes are there: is its disk mounted, and is it the right folder? (to start without them: mkdir -p ${final})`,
    );
  }
}

/** Brings the tables of the store up to date. @throws as `openStore` does. */
export async function migrateStore(config: Pick<Config, "db">): Promise<Migrated> {
  const driver = choose("--db", STORES, schemeOf(config.db));
  if (driver.migrate === undefined)
    throw new UsageError(`--db ${schemeOf(config.db)} has no tables to migrate`);
  return opening("--db", config.db, () => driver.migrate!(config.db));
}

/** Opens the store of bytes. @throws as `openStore` does. */
export function openBlobs(config: Config, publicUrl: string, secret: UrlSecret): Promise<BlobStore> {
  const { blob, verifyReads } = config;
  return open("--blob", BLOBS, blobScheme(blob), blob, { publicUrl, verifyReads, secret });
}

/** Opens the queue, and the counts of the limits beside it. @throws as `openStore` does. */
export function openSignals(queue: string, context: SignalContext): Promise<Signals> {
  return open("--queue", QUEUES, schemeOf(queue), queue, context);
}

/**
 * What background ingestion needs, closed by whoever keeps it. Each driver is opened when the first artifact wants it:
 * most servers serve none.
 */
export function openIngest(config: Config, keep: Keep): IngestPorts {
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

/** A part that is opened by its first use, once, or by the next one where that failed; closed only if it was. */
function onDemand<T extends { close(): Promise<void> }>(
  open: () => Promise<T>,
): { get(): Promise<T>; close(): Promise<void> } {
  let opened: Promise<T> | undefined;
  return {
    get: () =>
      (opened ??= open().catch((error: unknown) => {
        opened = undefined;
        throw error;
      })),
    close: async () => {
      await (await opened?.catch(() => undefined))?.close();
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
export function sqliteOptions(target: string): SqliteStoreOptions {
  const file = sqliteFile(target);
  const nativeBinding = sqliteAddon([resolve(dirname(file))]);
  return { file, ...(nativeBinding === undefined ? {} : { nativeBinding }) };
}
