/**
 * The test double as a whole: the production core and app on memory adapters, everything random from a seed, time that
 * moves when it is told, and faults on demand. What a request is answered is decided by core and the app alone.
 */

import { setImmediate } from "node:timers";
import type {
  Artifact,
  ArtifactEvent,
  Docyard,
  IngestPorts,
  Media,
  Provisioning,
  Sealer,
  SettingsInput,
  Store,
  StoreRecord,
} from "@docyard/core";
import { createDocyard, createIdSource, createProvisioning, createSealer } from "@docyard/core";
import { memoryBlobs } from "../blob/memory.ts";
import { memoryLimit } from "../limit/memory.ts";
import { memoryQueue } from "../queue/memory.ts";
import { memoryStore } from "../store/memory.ts";
import type { DoubleAccounts } from "./accounts.ts";
import { addAccounts } from "./accounts.ts";
import type { TimeSpan } from "./clock.ts";
import { milliseconds, virtualClock } from "./clock.ts";
import type { Faults } from "./faults.ts";
import { Crashed, createFaults } from "./faults.ts";
import type { SeedArtifact } from "./fill.ts";
import { fill } from "./fill.ts";
import { mediaOnDemand, textMedia } from "./media.ts";
import type { AppParts, FetchApp, HostBindings, ServerProcess } from "./process.ts";
import { startProcess } from "./process.ts";
import { seededRandom } from "./random.ts";
import type { FakeSource, FakeSources } from "./sources.ts";
import { fakeFetch } from "./sources.ts";
import { createTasks } from "./tasks.ts";

export interface TestDoubleOptions {
  /** Ids, secrets and keys follow from it. Default 1. */
  readonly seed?: number | string;
  /** When it begins, in milliseconds since 1970 UTC, or a clock that runs by itself. Default the first of 2026. */
  readonly start?: number | (() => number);
  /** Limits, sizes and windows. Default: as live, for each that is left out. */
  readonly settings?: SettingsInput;
  /** Begins every URL that it hands out; a function where the port is known late. Default `http://docyard.test`. */
  readonly url?: string | (() => string);
  /** What Studio finds under its URLs and `s3://` paths; more can be added to `double.sources` later. Default: nothing. */
  readonly sources?: Readonly<Record<string, FakeSource>>;
  /**
   * What reads Studio's media. Default `mediabunny`: docyard's own reader, loaded when it is first needed. `text`: a toy
   * for which `video:3000:anything` is three seconds of video. Or a driver of your own.
   */
  readonly media?: "mediabunny" | "text" | Media;
  /** Ports of background ingestion that are not to be faked: for a double that fetches from the network. Default: none. */
  readonly ingest?: Partial<IngestPorts>;
  /** Told what background work stumbled over; a server would log it. Default: nobody is. */
  readonly onError?: (error: unknown) => void;
  /** What the app says that it is. Default `0.0.0-double`. */
  readonly version?: string;
}

/** See `testDouble`. */
export interface TestDouble<App extends FetchApp = FetchApp> extends DoubleAccounts, AsyncDisposable {
  /** Of the client, with every scope; good for an hour of the double's time, as live. */
  readonly token: string;
  /** Begins every URL of this double. */
  readonly url: string;
  /** The production app as it runs now; another one after `restart`. */
  readonly app: App;
  readonly docyard: Docyard;
  /** Makes more docks, clients and keys. */
  readonly provisioning: Provisioning;
  /** The rows themselves, without faults in front: for assertions. */
  readonly store: Store;
  readonly sources: FakeSources;
  /** Seals S3 credentials for `provisioning.setS3Credentials`. */
  readonly sealer: Sealer;
  readonly faults: Faults;
  /**
   * Sends a request to the app, as the global `fetch` would: to a path, or to a URL that it handed out. May be handed
   * on without its object.
   * @throws TypeError for a URL that is not the double's; `Crashed` when the server died of it, or is dead; Error once
   * the double is closed, as do `advance` and all others that act.
   */
  readonly fetch: (to: string | URL | Request, init?: RequestInit) => Promise<Response>;
  /**
   * The same for a host that has a socket: bindings are handed to the app. `advance` waits for no such request, whose
   * body comes and goes as its client likes.
   */
  readonly handle: (request: Request, bindings?: HostBindings) => Promise<Response>;
  /** Another token of the client, through the endpoint and its limit. Scopes: default all. */
  issueToken(scopes?: readonly string[]): Promise<string>;
  /** Milliseconds since 1970 UTC, by the double's clock. */
  now(): number;
  /**
   * Lets so much time pass, and whatever is due on the way happen in its order: sweeps each 30 s, rings with their
   * delays, retention each hour, delayed calls. Resolves when all of it is done.
   */
  advance(time: TimeSpan): Promise<void>;
  /** Does the background work that waits now, without letting time pass. */
  work(): Promise<void>;
  /** Whether the server has died of a fault and was not restarted yet. */
  readonly isCrashed: boolean;
  /** Starts the server anew on what is durable, after a crash or without one. Queue and rate limits begin empty. */
  restart(): Promise<void>;
  /** Adds completed artifacts to the dock: so many, or these. */
  seed(what: { readonly artifacts: number | readonly SeedArtifact[] }): Promise<readonly Artifact[]>;
  /** The event log of a dock, from its beginning. Default: of the double's own dock. */
  events(dockId?: string): Promise<readonly ArtifactEvent[]>;
  /** All there is: equal for equal seeds and equal doings. */
  snapshot(): Promise<Snapshot>;
  /** Ends it for good. Repeating it is harmless. */
  close(): Promise<void>;
}

export interface Snapshot {
  readonly at: number;
  readonly records: readonly StoreRecord[];
  readonly blobs: readonly { readonly key: string; readonly size: number }[];
}

/** The first of 2026, at noon: no boundary of a day is near. */
const START: number = Date.UTC(2026, 0, 1, 12);
/** Whoever sends one request after the other without a pause is not waited for any longer. */
const ROUNDS_MAX = 100;
/**
 * Promises that may lie between two calls of one caller. Only who has been quiet for so long may be waited for by a turn
 * of the event loop, which does not come while somebody calls without a pause.
 */
const STEPS_MAX = 200;
const DEFAULT_URL = "http://docyard.test";

/**
 * A docyard for tests, ready to be used: `const double = await testDouble(createApp)`. The core and the app are the
 * production ones, so whatever would be refused live is refused here. Ends with `close`, or with `await using`.
 * @param createApp from `@docyard/server`; or a function that adds options of its own to what it is given
 */
export async function testDouble<App extends FetchApp>(
  createApp: (parts: AppParts) => App,
  options: TestDoubleOptions = {},
): Promise<TestDouble<App>> {
  const { seed = 1, start = START, settings = {}, onError = () => {} } = options;
  const random = seededRandom(seed);
  const clock = virtualClock(typeof start === "function" ? start : () => start);
  const now = (): number => clock.now();
  const publicUrl = (): string =>
    (typeof options.url === "function" ? options.url() : (options.url ?? DEFAULT_URL)).replace(/\/+$/, "");
  const ids = createIdSource(now, random.filler("ids"));
  const jitter = random.numbers("jitter");
  const tasks = createTasks();
  const store = memoryStore();
  const faults = createFaults({
    sleep: (ms) => tasks.untilWoken((wake) => clock.after(ms, wake)),
    dropUnsynced: () => blobs.dropUnsynced(),
  });
  const blobs = memoryBlobs({
    baseUrl: publicUrl,
    secret: random.bytes("url key", 32),
    now,
    keep: (write, bytes) => faults.keep(write, bytes),
  });
  const sources: FakeSources = new Map(Object.entries(options.sources ?? {}));
  const ingest = ingestPorts(options, sources, random.bytes("sealing key", 32));
  const provisioning = createProvisioning(store.accounts, { now, ids });
  // Its ids must be the same on a clock that runs by itself.
  const firstIds = createIdSource(() => START, random.filler("first ids"));
  const accounts = await addAccounts(store.accounts, { random, ids: firstIds, createdAt: now() });

  const begin = (): ServerProcess<App> =>
    startProcess({
      createApp,
      store,
      blobs,
      ingest,
      settings,
      publicUrl,
      version: options.version ?? "0.0.0-double",
      clock,
      tasks,
      faults,
      ids,
      random: jitter,
      onError,
    });
  let server = begin();
  /** Fills docks past every fault, on a queue of its own that nobody hears. */
  const plain = createDocyard({
    store,
    blobs,
    queue: memoryQueue({ now, setTimeout: () => undefined }),
    limit: memoryLimit({ now }),
    settings,
    now,
    ids,
  });
  let seeded = 0;
  let isClosed = false;
  const checkOpen = (): void => {
    if (isClosed) throw new Error("this test double has been closed: each test makes its own");
  };

  const handle = async (request: Request, bindings?: HostBindings, isStream = false): Promise<Response> => {
    checkOpen();
    const { app, life } = server;
    if (life.isOver) throw new Crashed("the server has crashed: call restart()");
    const response = await tasks.run(async () => app.fetch(request, bindings), !isStream);
    // Whatever the dying process said, nobody heard it.
    if (life.isOver) throw new Crashed("the server crashed while it handled this request");
    return response;
  };

  /**
   * Where the app finds what a path, or a URL below the public one, names: at its root, as behind a proxy that takes the
   * path of the public URL away.
   */
  const within = (to: string): string => {
    const { origin } = new URL(publicUrl());
    if (to.startsWith("/")) return origin + to;
    const rest = to.slice(publicUrl().length);
    if (!to.startsWith(publicUrl()) || !/^(?:$|[/?#])/.test(rest)) {
      throw new TypeError(`the test double serves nothing but ${publicUrl()}`);
    }
    return origin + rest;
  };

  /** One at a time: two hands on one clock would each see the other's time. */
  let turning: Promise<unknown> = Promise.resolve();
  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const next = turning.then(() => {
      checkOpen();
      return work();
    });
    turning = next.catch(() => undefined);
    return next;
  };

  /** Lets all that is under way go as far as it can, and what comes of it: whoever awaited a request may send another. */
  const settle = async (): Promise<void> => {
    const calls = (): number => tasks.started() + faults.calls();
    for (let round = 0; round < ROUNDS_MAX; round++) {
      await tasks.settled();
      await server.answerRings();
      const before = calls();
      const isQuiet = (): boolean => calls() === before && !tasks.isBusy() && !server.isRung();
      for (let step = 0; step < STEPS_MAX && isQuiet(); step++) await Promise.resolve();
      if (!isQuiet()) continue;
      await turnOfTheLoop();
      if (isQuiet()) return;
    }
  };

  const advanceTo = async (end: number): Promise<void> => {
    await settle();
    for (;;) {
      const at = Math.min(clock.nextAt(), server.nextChoreAt());
      if (at > end) break;
      clock.moveTo(at);
      if (clock.nextAt() <= at) {
        clock.runDue();
        await settle();
      }
      if (server.nextChoreAt() <= at && (await server.doChores())) await settle();
    }
    clock.moveTo(end);
  };

  const issueToken = async (scopes: readonly string[] = []): Promise<string> => {
    const { clientId, clientSecret } = accounts.client;
    const response = await handle(
      new Request(within("/v1/oauth/token"), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
          grant_type: "client_credentials",
          client_id: clientId,
          client_secret: clientSecret,
          ...(scopes.length === 0 ? {} : { scope: scopes.join(" ") }),
        }),
      }),
    );
    const body: unknown = await response.json();
    const token = (body as { readonly access_token?: unknown } | null)?.access_token;
    if (typeof token !== "string") throw new Error(`no token: ${response.status} ${JSON.stringify(body)}`);
    return token;
  };

  const token = await issueToken();
  // The one that every test finds ready is not to be missed from its limit.
  await server.forgetCounts();

  let closing: Promise<void> | null = null;
  const close = (): Promise<void> =>
    (closing ??= alone(async () => {
      isClosed = true;
      await server.end();
      await Promise.all([
        store.close(),
        blobs.close(),
        ...Object.values(ingest).map((port) => closePort(port)),
      ]);
    }));

  return {
    ...accounts,
    token,
    get url() {
      return publicUrl();
    },
    get app() {
      return server.app;
    },
    get docyard() {
      return server.docyard;
    },
    provisioning,
    store,
    sources,
    sealer: ingest.sealer,
    faults,
    async fetch(to, init = {}) {
      const target = within(to instanceof Request ? to.url : String(to));
      const request = to instanceof Request ? new Request(target, to) : new Request(target, withLength(init));
      const isStream = init.body instanceof ReadableStream || (to instanceof Request && to.body !== null);
      return handle(request, undefined, isStream);
    },
    handle: (request, bindings) => handle(request, bindings, true),
    issueToken,
    now,
    advance(time) {
      const ms = milliseconds(time);
      return alone(() => advanceTo(now() + ms));
    },
    work: () => alone(settle),
    get isCrashed() {
      return server.life.isOver;
    },
    restart: () =>
      alone(async () => {
        await server.end();
        server = begin();
        // As live: a server looks for what is due, and for what is too old, when it starts.
        await server.doChores(true);
      }),
    async seed({ artifacts }) {
      checkOpen();
      const wanted =
        typeof artifacts === "number" ? Array.from({ length: artifacts }, () => ({})) : artifacts;
      const { id, dockId, organizationId, scopes } = accounts.client;
      const dock = await plain.open(
        { id, dockId, organizationId, scopes },
        accounts.dock.id,
        "artifacts:write",
      );
      const made = await fill(dock, blobs, wanted, seeded + 1);
      seeded += wanted.length;
      return made;
    },
    events: (dockId = accounts.dock.id) => store.artifacts.events(dockId, 0, Number.MAX_SAFE_INTEGER),
    async snapshot() {
      const records: StoreRecord[] = [];
      for await (const batch of store.dump()) records.push(...batch);
      const held = await blobs.list("", { limit: Number.MAX_SAFE_INTEGER });
      return { at: now(), records, blobs: held.map(({ key, size }) => ({ key, size })) };
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Lets everybody's promises go on. Node's own, which a test runner's fake timers leave alone; no time passes. */
function turnOfTheLoop(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function ingestPorts(
  { media = "mediabunny", ingest = {} }: TestDoubleOptions,
  sources: FakeSources,
  sealingKey: Uint8Array<ArrayBuffer>,
): IngestPorts {
  const fetcher = fakeFetch(sources);
  return {
    fetchUrl: fetcher,
    s3: fetcher,
    media: media === "mediabunny" ? mediaOnDemand() : media === "text" ? textMedia() : media,
    sealer: createSealer({ current: "double", keys: { double: sealingKey } }),
    ...ingest,
  };
}

async function closePort(port: object): Promise<void> {
  if ("close" in port && typeof port.close === "function") await Reflect.apply(port.close, port, []);
}

/** A client on a socket says how long its body is, and servers look at that first; a `Request` in memory would not. */
function withLength(init: RequestInit): RequestInit {
  const { body } = init;
  const length =
    typeof body === "string"
      ? new TextEncoder().encode(body).byteLength
      : body instanceof Blob
        ? body.size
        : body instanceof ArrayBuffer || ArrayBuffer.isView(body)
          ? body.byteLength
          : null;
  const headers = new Headers(init.headers);
  if (length === null || headers.has("content-length")) return init;
  headers.set("content-length", String(length));
  return { ...init, headers };
}
