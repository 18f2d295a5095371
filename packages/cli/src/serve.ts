/**
 * The server's life: bind, open, say hello, sweep now and then, and stop without losing anyone's request.
 * What a request does is the server package's; what things are made of is wire.ts's.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { createApp } from "@docyard/server";
import { type Config, isRunByNpm, unknownVariables } from "./config.ts";
import { UsageError } from "./failure.ts";
import { firstRun } from "./documents.ts";
import { banner, welcome } from "./first-run.ts";
import { listen, type Fetch } from "./listen.ts";
import { createLog, type Logger } from "./log.ts";
import { holdYoungGeneration } from "./memory.ts";
import { clientAddressBehind, type ForwardedRequest } from "./proxy.ts";
import { referenceAsset } from "./reference.ts";
import { keepPair, pairFilesOf, readPair } from "./tls.ts";
import { VERSION } from "./version.ts";
import { defaultPublicUrl, isEveryAddress, type Parts, schemeOf, wire } from "./wire.ts";
import { type Background, runInBackground } from "./worker.ts";

/** What a terminal that closes sends, and what administrators send to have files read again. */
const HANGUP = "SIGHUP";
/**
 * A closed terminal is no reason to cut an upload off, so it stops the server like the others. With a certificate of
 * its own the server is a daemon, and SIGHUP means what it means to those: it reads the certificate again.
 */
const STOP_SIGNALS = ["SIGINT", "SIGTERM", HANGUP] as const;
/**
 * Milliseconds in which a repeated signal is the same one: a terminal's Ctrl-C reaches the whole process group, and
 * npm and npx hand it on a second time.
 */
const SAME_SIGNAL_MS = 250;
/** Milliseconds between two looks at whether npm's shell is still there. */
const PARENT_POLL_MS = 200;
/** 128 + SIGINT, as shells count. */
const EXIT_INTERRUPTED = 130;

/**
 * Runs until a signal asks it to stop; then ends the process with 0 once everything is closed.
 * @throws UsageError or Failure when it cannot start.
 */
export async function serve(config: Config): Promise<void> {
  const log = createLog(config.logLevel, { isTerminal: process.stderr.isTTY });
  for (const warning of unknownVariables()) log.warn(warning);
  const files = pairFilesOf(config);
  /** Until the certificate is there, a SIGHUP has nothing to do: it is being read. */
  let reload = async (): Promise<void> => {};
  const stopping = stopSignal(files === null ? null : () => void reload());
  const pair = files === null ? null : await readPair(files);

  const { promise: app, resolve: setApp } = Promise.withResolvers<Fetch>();
  const tls = pair === null ? {} : { pair, hsts: ownsItsName(config.publicUrl) };
  const listener = await listen(config.host, config.port, app, { log, ...tls });
  const url = config.publicUrl ?? defaultPublicUrl(config, listener.port);
  let parts: Parts;
  try {
    parts = await wire(config, url, log);
  } catch (error) {
    await listener.stop(0);
    throw error;
  }
  await hello(config, parts, { url, port: listener.port });
  if (config.publicUrl === null && isEveryAddress(config.host)) {
    log.warn({ url }, "signed URLs begin with an address that other machines cannot reach: set --public-url");
  }
  const kept =
    files === null || pair === null ? null : keepPair(files, pair, { use: listener.useCertificate, log });
  if (kept !== null) reload = kept.reload;
  const clientAddress = clientAddressBehind(config.trustedProxy);
  const { docyard, blobs, provisioning, checks } = parts;
  const docsAsset = referenceAsset();
  const { fetch } = createApp({
    docyard,
    provisioning,
    blobs,
    version: VERSION,
    publicUrl: () => url,
    log,
    tokenTtlMs: config.tokenTtl,
    checks,
    ...(docsAsset === undefined ? {} : { docsAsset }),
    clientAddress: ({ incoming }) => clientAddress(incoming as ForwardedRequest),
    ...(kept === null ? {} : { certificateExpiresAt: kept.expiresAt }),
  });
  setApp(fetch);
  holdYoungGeneration();
  log.info({ url, version: VERSION }, "ready");

  const background = config.readOnly ? null : startBackground(parts, config, log);
  log.info({ signal: await stopping }, "stopping");
  const [cutOff] = await Promise.all([listener.stop(config.drainTimeout), background?.stop()]);
  kept?.close();
  if (cutOff > 0) log.warn({ connections: cutOff }, "cut off what was still under way");
  await parts.close();
  log.info("stopped");
  // Not left to an empty event loop: a driver's forgotten timer must not keep a stopped server alive.
  process.exit(0);
}

/**
 * Runs a worker without HTTP until a signal asks it to stop, on the same store, bytes and queue as the servers.
 * @throws UsageError or Failure when it cannot start.
 */
export async function work(config: Config): Promise<void> {
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

function startBackground({ docyard, queue }: Parts, config: Config, log: Logger): Background {
  const { workerConcurrency: concurrency, verbose } = config;
  return runInBackground({ docyard, queue, concurrency, log, verbose });
}

/** Says where it listens; the one who makes the first start is told the credentials, on stdout and nowhere else. */
async function hello(
  config: Config,
  parts: Parts,
  { url, port }: { readonly url: string; readonly port: number },
): Promise<void> {
  const made = config.readOnly ? null : await parts.provisioning.firstRun();
  const first = made === null ? null : firstRun(made);
  process.stdout.write(
    config.json
      ? `${JSON.stringify({ url, port, version: VERSION, firstRun: first })}\n`
      : banner(VERSION, url) + (first === null ? "" : welcome(first, url)),
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
 * Resolves to the first thing that asks us to stop; a signal after that ends the process on the spot.
 * @param onHangup What SIGHUP does instead; null: it stops, too.
 */
function stopSignal(onHangup: (() => void) | null): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let firstAt: number | null = null;
  for (const signal of STOP_SIGNALS) {
    if (signal === HANGUP && onHangup !== null) {
      process.on(signal, onHangup);
      continue;
    }
    process.on(signal, () => {
      firstAt ??= performance.now();
      resolve(signal);
      if (performance.now() - firstAt > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
    });
  }
  if (isRunByNpm()) void parentGone().then(() => resolve("npm ended"));
  return promise;
}

/** npm ends its shell on a signal and the shell tells no one: without this, a server would go on that nobody can find. */
async function parentGone(): Promise<void> {
  const { ppid } = process;
  while (process.ppid === ppid) await sleep(PARENT_POLL_MS, undefined, { ref: false });
}
