/**
 * The usual drivers of one process, opened together: SQLite and a disk in one folder, the queue and the limits in
 * memory. For applications that embed docyard; whoever wants other drivers opens them and calls `createDocyard`.
 */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { BlobStore, Docyard, IngestPorts, Provisioning, SettingsInput, Store } from "@docyard/core";
import { createDocyard, createProvisioning, urlSecretOf } from "@docyard/core";
import type { DiskBlobsOptions } from "./blob/disk.ts";
import { diskBlobs } from "./blob/disk.ts";
import { memoryLimit } from "./limit/memory.ts";
import { memoryQueue } from "./queue/memory.ts";
import { sqliteStore } from "./store/sqlite.ts";

export interface LocalDocyardOptions {
  /**
   * Holds everything, as for a `docyard-server` that is started in it: `docyard.db` and, in `data`, the blobs. Made if
   * missing.
   */
  readonly folder: string;
  /** Where clients reach the app, the path that it is mounted at included; a function where the port is known late. */
  readonly publicUrl: string | (() => string);
  /** Sizes, times and limits. Default `DEFAULT_SETTINGS`, for each that is left out. */
  readonly settings?: SettingsInput;
  /** What is checked before bytes go out, as `DiskBlobsOptions` says. Default `full`. */
  readonly verifyReads?: NonNullable<DiskBlobsOptions["verifyReads"]>;
  /** What background ingestion needs, for Studio's sources; its owner closes it. Default: none. */
  readonly ingest?: IngestPorts;
}

/** `createApp` of `@docyard/server` takes it as it is, with a `version`. */
export interface LocalDocyard extends AsyncDisposable {
  readonly docyard: Docyard;
  readonly provisioning: Provisioning;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly publicUrl: () => string;
  /** Closes all drivers; after background work has been stopped. Repeating it is harmless. */
  close(): Promise<void>;
}

/**
 * Opens a folder. One process at a time may have it: its queue and its limits are its own.
 * @throws Error with one line that says what to do: folder not writable, database newer or another program's; TypeError
 * or RangeError for options that cannot work.
 */
export async function localDocyard(options: LocalDocyardOptions): Promise<LocalDocyard> {
  const { folder, settings, ingest, verifyReads = "full" } = options;
  const given = options.publicUrl;
  if (typeof given !== "function") checkUrl(given);
  const publicUrl = (): string => (typeof given === "function" ? given() : given);
  await mkdir(folder, { recursive: true });
  const store = await sqliteStore({ file: join(folder, "docyard.db") });
  let opened: BlobStore | null = null;
  try {
    const provisioning = createProvisioning(store.accounts);
    const blobs = await diskBlobs({
      root: join(folder, "data"),
      baseUrl: publicUrl,
      secret: async () => (await provisioning.serverKeys("url")).map(urlSecretOf),
      verifyReads,
    });
    opened = blobs;
    const queue = memoryQueue();
    const limit = memoryLimit();
    const docyard = createDocyard({
      store,
      blobs,
      queue,
      limit,
      ...(settings === undefined ? {} : { settings }),
      ...(ingest === undefined ? {} : { ingest }),
    });
    const close = async (): Promise<void> => {
      await Promise.all([blobs.close(), queue.close(), limit.close()]);
      await store.close();
    };
    return { docyard, provisioning, store, blobs, publicUrl, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await opened?.close();
    await store.close();
    throw error;
  }
}

/** Every signed URL begins with it: one without a scheme is found out by the first client otherwise. */
function checkUrl(url: string): void {
  if (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)) return;
  throw new TypeError("publicUrl must be an http or https URL, such as https://example.com/files");
}
