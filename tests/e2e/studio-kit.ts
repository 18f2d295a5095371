/**
 * A Studio server in a folder of its own, seen from all sides: over HTTP as its clients do, and through its store and
 * its folder as an auditor does. Starts processes and says what is there; what should be there is left to the tests.
 */

import { type ChildProcess } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { memoryLimit } from "@docyard/adapters/limit/memory";
import { memoryQueue } from "@docyard/adapters/queue/memory";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Artifact, ArtifactEvent, Docyard, IngestSettings, Store } from "@docyard/core";
import { createDocyard, createProvisioning } from "@docyard/core";
import type { StudioClient, StudioTarget } from "../http/studio-target.ts";
import { openStudio } from "../http/studio-target.ts";
import { openScratch } from "../../packages/adapters/src/media/scratch.ts";
import { NODE_ARGS } from "../sources.ts";
import type { Exit, RunOptions, Server } from "./program.ts";
import { start, startServer, tempFolder } from "./program.ts";
import { type MediaFiles, openMediaFiles } from "./studio-media.ts";
import { type StudioOrigin, startOrigin } from "./studio-origin.ts";

/** Loopback is where the tests' origins are; nobody counts requests. */
const COMMON = ["--allow-source", "127.0.0.0/8", "--log-level", "debug"];
const UNLIMITED = ["--limit-studio", "0", "--limit-studio-daily", "0", "--limit-download", "0"];
/** A poller's pause, in milliseconds. */
const LOOK_EVERY_MS = 25;
/** Looks before a test says that nothing happens. */
const LOOKS_MAX = 4_000;

export interface Worker {
  readonly pid: number;
  readonly exit: Promise<Exit>;
  /** Resolves when it works, and stops politely when it is asked to. */
  readonly isWorking: Promise<void>;
  /** All it has written to stderr so far. */
  log(): string;
  signal(signal: NodeJS.Signals): void;
}

export interface Kit {
  readonly folder: string;
  readonly origin: StudioOrigin;
  readonly media: MediaFiles;
  /** The server that answers HTTP. */
  readonly server: Server;
  readonly target: StudioTarget;
  readonly store: Store;
  /** A client with a key of a dock of its own. */
  client(): Promise<StudioClient>;
  /** Starts a `docyard-server worker` beside the server. */
  worker(options?: ProcessOptions): Worker;
  /** Starts one more server on the same folder: its worker is what is wanted. */
  secondServer(options?: ProcessOptions): Worker;
  /** Core on the same store and bytes, at a time of the test's choosing: for what an upkeep would do then. */
  upkeepAt(now: number): Promise<Docyard>;
  /** What the first process to start so many milliseconds later does with what joins that were killed have left. */
  tidyScratchAfter(ms: number): Promise<void>;
  row(id: string): Promise<Artifact>;
  /** Events of one artifact, in order. */
  events(client: StudioClient): Promise<Map<string, ArtifactEvent[]>>;
  /** Every file below the blob folder with its digest, except the side files that describe others. */
  files(): Promise<Map<string, string>>;
  close(): Promise<void>;
}

export interface ProcessOptions {
  readonly concurrency?: number;
  /** Runs from the sources with these settings; else the built executable with its own. */
  readonly ingest?: Partial<IngestSettings>;
  readonly args?: readonly string[];
}

const PROGRAM = join(import.meta.dirname, "studio-program.ts");

export async function openKit(options: ProcessOptions = {}): Promise<Kit> {
  const { path: folder, remove } = await tempFolder();
  const [origin, media] = await Promise.all([startOrigin(), openMediaFiles()]);
  const server = await startServer([...argsOf(options), ...UNLIMITED], how(folder, options));
  const store = await sqliteStore({ file: join(folder, "docyard.db") });
  const provisioning = createProvisioning(store.accounts);
  const started: ChildProcess[] = [];

  const spawned = (args: readonly string[], process: ProcessOptions): Worker => {
    const child = start([...args, ...argsOf(process)], how(folder, process));
    started.push(child);
    let log = "";
    const working = Promise.withResolvers<void>();
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      log += text;
      if (/"msg":"(?:working|ready)"/.test(log)) working.resolve();
    });
    child.stdout!.resume();
    return {
      pid: child.pid!,
      exit: once(child, "close").then(([code, signal]) => ({ code, signal })),
      isWorking: working.promise,
      log: () => log,
      signal: (signal) => void child.kill(signal),
    };
  };

  const target: StudioTarget = {
    fetch: (pathOrUrl, init) => fetch(pathOrUrl.startsWith("/") ? server.url + pathOrUrl : pathOrUrl, init),
    sizeMax: 5 * 1024 ** 3,
    operator: {
      // As the command line does it, in the same store, but without a process for each dock and key.
      async createDock() {
        return (await provisioning.createDock(`dock-${randomBytes(6).toString("hex")}`)).id;
      },
      async createClient({ dockId, scopes }) {
        const { client, clientSecret } = await provisioning.createClient({
          name: "client",
          ...(dockId === undefined ? {} : { dockId }),
          ...(scopes === undefined ? {} : { scopes }),
        });
        return { id: client.id, clientId: client.clientId, clientSecret };
      },
      async disableClient(id) {
        await provisioning.disableClient(id);
      },
      async createKey({ name, dockId }) {
        const { key, apiKey } = await provisioning.createKey({ name, dockId });
        return { id: key.id, name, apiKey };
      },
    },
    publish: async (bytes, name) => origin.publish(bytes, name),
    deadUrl: () => origin.refuse(404),
    media: (kind) => media.make(kind),
    settle: () => sleep(LOOK_EVERY_MS),
    close: async () => {},
  };

  const blobs = join(folder, "data");
  return {
    folder,
    origin,
    media,
    server,
    target,
    store,
    client: () => openStudio(target),
    worker: (process = {}) => spawned(["worker"], process),
    secondServer: (process = {}) => spawned(["serve", "--port", "0"], process),
    async upkeepAt(now) {
      return createDocyard({
        store,
        blobs: await diskBlobs({
          root: blobs,
          baseUrl: server.url,
          secret: new Uint8Array(32),
          now: () => now,
        }),
        queue: memoryQueue(),
        limit: memoryLimit(),
        now: () => now,
      });
    },
    async tidyScratchAfter(ms) {
      const folder = join(blobs, ".scratch");
      const then = (Date.now() - ms) / 1_000;
      for (const name of await readdir(folder)) await utimes(join(folder, name), then, then);
      await openScratch(folder).close();
    },
    async row(id) {
      const row = await store.artifacts.get({ id });
      if (row === null) throw new Error(`no row ${id}`);
      return row;
    },
    async events(client) {
      const row = await store.accounts.find("key", { id: client.key.id });
      const byArtifact = new Map<string, ArtifactEvent[]>();
      for (let after = 0; ;) {
        const events = await store.artifacts.events(row!.dockId, after, 1_000);
        for (const event of events) {
          byArtifact.set(event.artifactId, [...(byArtifact.get(event.artifactId) ?? []), event]);
        }
        if (events.length === 0) return byArtifact;
        after = events.at(-1)!.seq;
      }
    },
    async files() {
      const found = new Map<string, string>();
      for (const entry of await readdir(blobs, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const path = join(entry.parentPath, entry.name);
        found.set(
          path.slice(blobs.length + 1),
          createHash("sha256")
            .update(await readFile(path))
            .digest("hex"),
        );
      }
      return found;
    },
    async close() {
      for (const child of started) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const closed = once(child, "close");
        child.kill("SIGKILL");
        await closed;
      }
      await server.kill();
      await store.close();
      await Promise.all([origin.close(), media.remove()]);
      await remove();
    },
  };
}

function argsOf({ concurrency = 0, args = [] }: ProcessOptions): string[] {
  return [...COMMON, "--worker-concurrency", String(concurrency), ...args];
}

function how(cwd: string, { ingest }: ProcessOptions): RunOptions {
  if (ingest === undefined) return { cwd };
  return {
    cwd,
    nodeArgs: NODE_ARGS,
    bin: PROGRAM,
    env: { DOCYARD_TEST_INGEST: JSON.stringify(ingest) },
  };
}

/** Looks until it is so. @throws Error saying what has not come. */
export async function until<T>(
  what: string,
  look: () => Promise<T | null> | T | null,
  everyMs: number = LOOK_EVERY_MS,
): Promise<T> {
  for (let looks = 0; looks < LOOKS_MAX; looks++) {
    const seen = await look();
    if (seen !== null) return seen;
    await sleep(everyMs);
  }
  throw new Error(`this never happened: ${what}`);
}
