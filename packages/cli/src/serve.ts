/**
 * The server's life: bind, open, say hello, sweep now and then, and stop without losing anyone's request.
 * What a request does is the server package's; what things are made of is wire.ts's.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Background } from "@docyard/core";
import { type AppOptions, createApp } from "@docyard/server";
import { defaultPublicUrl, isEveryAddress } from "./address.ts";
import { runInBackground } from "./background.ts";
import { type Config, isRunByNpm, unknownVariables } from "./config.ts";
import { UsageError } from "./failure.ts";
import { firstRun, type FirstRunDocument } from "./documents.ts";
import { banner, welcome } from "./first-run.ts";
import { listen, type Fetch } from "./listen.ts";
import { createLog, type Logger } from "./log.ts";
import { holdYoungGeneration } from "./memory.ts";
import { clientAddressBehind, type ForwardedRequest } from "./proxy.ts";
import { referenceAsset } from "./reference.ts";
import { onStopSignal, STOP_SIGNALS } from "./signals.ts";
import { schemeOf } from "./targets.ts";
import { keepPair, type KeptPair, pairFilesOf, readPair } from "./tls.ts";
import { VERSION } from "./version.ts";
import { type Parts, requireMemory, wire, wireDouble } from "./wire.ts";

/** Milliseconds between two looks at whether npm's shell is still there. */
const PARENT_POLL_MS = 200;
/** Milliseconds after which what Node loads for first requests is loaded. */
const SETTLED_MS = 1_000;

/**
 * Runs until a signal asks it to stop; then ends the process with 0 once everything is closed.
 * @throws UsageError or Failure when it cannot start.
 */
export async function serve(config: Config): Promise<void> {
  requireMemory(config);
  const log = createLog(config.logLevel, { isTerminal: process.stderr.isTTY });
  for (const warning of unknownVariables()) log.warn(warning);
  const files = pairFilesOf(config);
  /**
   * What SIGHUP means to daemons, of which a server with a certificate of its own is one. Until the certificate is there
   * it has nothing to do: it is being read.
   */
  let reload = async (): Promise<void> => {};
  const stopping = stopSignal(files === null ? null : () => void reload());
  const pair = files === null ? null : await readPair(files);

  const { promise: app, resolve: setApp } = Promise.withResolvers<Fetch>();
  const tls = pair === null ? {} : { pair, hsts: ownsItsName(config.publicUrl) };
  const listener = await listen(config.host, config.port, app, { log, ...tls });
  const url = config.publicUrl ?? defaultPublicUrl(config, listener.port);
  const clientAddress = clientAddressBehind(config.trustedProxy);
  const docsAsset = referenceAsset();
  let kept: KeptPair | null = null;
  const appOptions: HostOptions = {
    log,
    tokenTtlMs: config.tokenTtl,
    ...(docsAsset === undefined ? {} : { docsAsset }),
    // A test double sends itself a request that comes from nowhere.
    clientAddress: ({ incoming }) =>
      incoming === undefined ? null : clientAddress(incoming as ForwardedRequest),
    ...(files === null ? {} : { certificateExpiresAt: () => kept?.expiresAt() ?? Number.NaN }),
  };
  let running: Running;
  try {
    running = await (config.seed === null ? openServer : openTestDouble)(config, url, appOptions, log);
  } catch (error) {
    await listener.stop(0);
    throw error;
  }
  hello(config, running.first, { url, port: listener.port });
  if (config.publicUrl === null && isEveryAddress(config.host)) {
    log.warn({ url }, "signed URLs begin with an address that other machines cannot reach: set --public-url");
  }
  if (files !== null && pair !== null) {
    kept = keepPair(files, pair, { use: listener.useCertificate, log });
    reload = kept.reload;
  }
  setApp(running.fetch);
  // Later, since Node compiles its own modules anew under other settings of V8: 2 ms of the first request.
  setTimeout(holdYoungGeneration, SETTLED_MS).unref();
  log.info({ url, version: VERSION }, "ready");

  const background = config.readOnly ? null : running.run();
  log.info({ signal: await stopping }, "stopping");
  const [cutOff] = await Promise.all([listener.stop(config.drainTimeout), background?.stop()]);
  kept?.close();
  if (cutOff > 0) log.warn({ connections: cutOff }, "cut off what was still under way");
  await running.close();
  log.info("stopped");
  // Not left to an empty event loop: a driver's forgotten timer must not keep a stopped server alive.
  process.exit(0);
}

/**
 * Runs a worker without HTTP until a signal asks it to stop, on the same store, bytes and queue as the servers.
 * @throws UsageError or Failure when it cannot start.
 */
export async function work(config: Config): Promise<void> {
  requireMemory(config);
  const log = createLog(config.logLevel, { isTerminal: process.stderr.isTTY });
  for (const warning of unknownVariables()) log.warn(warning);
  if (config.workerConcurrency === 0)
    throw new UsageError("a worker with --worker-concurrency 0 does nothing");
  if (schemeOf(config.db) === "memory") {
    throw new UsageError("--db memory lives inside one server process: a worker cannot reach it");
  }
  if (config.readOnly) throw new UsageError("a worker with --read-only does nothing");
  const stopping = stopSignal(null);
  const parts = await wire(config, config.publicUrl ?? defaultPublicUrl(config, config.port), log);
  const background = startBackground(parts, config, log);
  log.info({ concurrency: config.workerConcurrency, version: VERSION }, "working");
  log.info({ signal: await stopping }, "stopping");
  await background.stop();
  await parts.close();
  log.info("stopped");
  process.exit(0);
}

function startBackground({ docyard }: Parts, config: Config, log: Logger): Background {
  const { workerConcurrency: concurrency, verbose } = config;
  return runInBackground({ docyard, concurrency, log, verbose });
}

/** A server, whatever it is made of. */
interface Running {
  readonly fetch: Fetch;
  /** The credentials of the first start. */
  readonly first: FirstRunDocument | null;
  /** Begins the background work. */
  run(): Background;
  close(): Promise<void>;
}

/** What the app learns of its host. */
type HostOptions = Pick<
  AppOptions,
  "log" | "tokenTtlMs" | "docsAsset" | "clientAddress" | "certificateExpiresAt"
>;

async function openServer(config: Config, url: string, options: HostOptions, log: Logger): Promise<Running> {
  const parts = await wire(config, url, log);
  const made = config.readOnly ? null : await parts.provisioning.firstRun();
  const { docyard, blobs, provisioning, checks } = parts;
  const host = { ...options, version: VERSION, publicUrl: () => url, checks };
  return {
    fetch: createApp({ docyard, provisioning, blobs, ...host }).fetch,
    first: made === null ? null : firstRun(made),
    run: () => startBackground(parts, config, log),
    close: () => parts.close(),
  };
}

async function openTestDouble(config: Config, url: string, app: HostOptions, log: Logger): Promise<Running> {
  const parts = await wireDouble(config);
  const { openDouble } = await import("./control.ts");
  const double = await openDouble({ ...parts, seed: config.seed ?? "", url, app, log });
  return {
    ...double,
    async close() {
      await double.close();
      await parts.close();
    },
  };
}

/** Says where it listens; the one who makes the first start is told the credentials, on stdout and nowhere else. */
function hello(
  config: Config,
  first: FirstRunDocument | null,
  { url, port }: { readonly url: string; readonly port: number },
): void {
  process.stdout.write(
    config.json
      ? `${JSON.stringify({ url, port, version: VERSION, firstRun: first })}\n`
      : banner(VERSION, defaultPublicUrl(config, port), url) + (first === null ? "" : welcome(first, url)),
  );
}

/**
 * HTTPS on the standard port at a name that is this server's alone: browsers hold what HSTS says against every port of
 * a name, and must not be told so about a machine that has other services (decision 12).
 */
function ownsItsName(publicUrl: string | null): boolean {
  return publicUrl !== null && publicUrl.startsWith("https:") && new URL(publicUrl).port === "";
}

/**
 * Resolves to the first thing that asks us to stop.
 * @param onHangup What SIGHUP does instead; null: it stops, too.
 */
function stopSignal(onHangup: (() => void) | null): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  onStopSignal(onHangup === null ? STOP_SIGNALS : ["SIGINT", "SIGTERM"], resolve);
  if (onHangup !== null) process.on("SIGHUP", onHangup);
  if (isRunByNpm()) void parentGone().then(() => resolve("npm ended"));
  return promise;
}

/** npm ends its shell on a signal and the shell tells no one: without this, a server would go on that nobody can find. */
async function parentGone(): Promise<void> {
  const { ppid } = process;
  while (process.ppid === ppid) await sleep(PARENT_POLL_MS, undefined, { ref: false });
}
