/**
 * The composition root: Config → drivers → core, for a server, for an operator's command, and for a test double.
 * Which drivers there are, and when each is loaded, is drivers.ts's.
 */

import { randomBytes } from "node:crypto";
import type { BlobStore, Docyard, IngestPorts, Provisioning, SettingsInput, Store } from "@docyard/core";
import { createDocyard, createProvisioning, DEFAULT_SETTINGS, urlSecretOf } from "@docyard/core";
import { defaultPublicUrl } from "./address.ts";
import type { Config } from "./config.ts";
import { type Keep, openBlobs, openIngest, openSignals, openStore, requireBytes } from "./drivers.ts";
import { reasonOf, UsageError } from "./failure.ts";
import type { Logger } from "./log.ts";
import { blobScheme, s3Options, schemeOf } from "./targets.ts";

/** Everything a server is made of. */
export interface Parts {
  readonly docyard: Docyard;
  readonly blobs: BlobStore;
  readonly provisioning: Provisioning;
  /** What readiness asks, part by part. */
  readonly checks: Readonly<Record<string, () => Promise<void>>>;
  /** Closes what is open, the last opened first. */
  close(): Promise<void>;
}

/** What is open, and how to close it all, the last opened first. */
interface Keeper {
  readonly keep: Keep;
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
    await requireBytes(config, store);
    const blobs = keep(await openBlobs(config, publicUrl, secret));
    const { queue, limit } = await openSignals(config.queue, {
      onError: (error) => log.warn({ reason: reasonOf(error) }, "the queue's server does not answer"),
    });
    keep(queue);
    keep(limit);
    const ingest = openIngest(config, keep);
    const docyard = createDocyard({ store, blobs, queue, limit, ingest, settings: settingsOf(config) });
    const checks = {
      store: () => store.ready(),
      blobs: () => blobs.ready(),
      queue: () => queue.ready(),
    };
    return { docyard, blobs, provisioning, checks, close };
  } catch (error) {
    await close();
    throw error;
  }
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
  const { fetchUrl, s3, media } = openIngest(config, keep);
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
    const { queue, limit } = await openSignals("memory", { onError: () => {} });
    keep(queue);
    keep(limit);
    const ingest = openIngest(config, keep);
    const unlimited = { limitList: 0, limitDownload: 0, limitToken: 0, limitStudio: 0, limitStudioDaily: 0 };
    const settings = settingsOf({ ...config, ...unlimited });
    return { docyard: createDocyard({ store, blobs, queue, limit, ingest, settings }), store, blobs, close };
  } catch (error) {
    await close();
    throw error;
  }
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
