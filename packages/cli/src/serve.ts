/**
 * The server's life: bind, open, say hello, sweep now and then, and stop without losing anyone's request.
 * What a request does is the server package's; what things are made of is wire.ts's.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Docyard } from "@docyard/core";
import { createApp } from "@docyard/server";
import { type Config, unknownVariables } from "./config.ts";
import { reasonOf, stacksOf } from "./failure.ts";
import { firstRun } from "./documents.ts";
import { banner, welcome } from "./first-run.ts";
import { listen, type Fetch } from "./listen.ts";
import { createLog, type Logger } from "./log.ts";
import { VERSION } from "./version.ts";
import { defaultPublicUrl, isEveryAddress, type Parts, wire } from "./wire.ts";

/** Milliseconds between two sweeps: how late work may be whose ring was lost, and no more often than that. */
const SWEEP_INTERVAL_MS = 30_000;
/** SIGHUP, too: a closed terminal is no reason to cut an upload off. */
const STOP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/**
 * Milliseconds in which a repeated signal is the same one: a terminal's Ctrl-C reaches the whole process group, and
 * npm and npx hand it on a second time.
 */
const SAME_SIGNAL_MS = 250;
/** 128 + SIGINT, as shells count. */
const EXIT_INTERRUPTED = 130;

/**
 * Runs until a signal asks it to stop; then ends the process with 0 once everything is closed.
 * @throws UsageError or Failure when it cannot start.
 */
export async function serve(config: Config): Promise<void> {
  const log = createLog(config.logLevel, { isTerminal: process.stderr.isTTY });
  for (const warning of unknownVariables()) log.warn(warning);
  const stopping = stopSignal();

  const { promise: app, resolve: setApp } = Promise.withResolvers<Fetch>();
  const listener = await listen(config.host, config.port, app);
  const url = config.publicUrl ?? defaultPublicUrl(config.host, listener.port);
  let parts: Parts;
  try {
    parts = await wire(config, url);
  } catch (error) {
    await listener.stop(0);
    throw error;
  }
  await hello(config, parts, url);
  if (config.publicUrl === null && isEveryAddress(config.host)) {
    log.warn({ url }, "signed URLs begin with an address that other machines cannot reach: set --public-url");
  }
  const { docyard, blobs, provisioning, checks } = parts;
  const { fetch } = createApp({
    docyard,
    provisioning,
    blobs,
    version: VERSION,
    publicUrl: () => url,
    log,
    tokenTtlMs: config.tokenTtl,
    checks,
  });
  setApp(fetch);
  log.info({ url, version: VERSION }, "ready");

  const sweeper = sweepNowAndThen(docyard, log, config.verbose);
  log.info({ signal: await stopping }, "stopping");
  const cutOff = await listener.stop(config.drainTimeout);
  if (cutOff > 0) log.warn({ connections: cutOff }, "cut off what was still under way");
  await sweeper.stop();
  await parts.close();
  log.info("stopped");
  // Not left to an empty event loop: a driver's forgotten timer must not keep a stopped server alive.
  process.exit(0);
}

/** Says where it listens; the one who makes the first start is told the credentials, on stdout and nowhere else. */
async function hello(config: Config, parts: Parts, url: string): Promise<void> {
  const made = await parts.provisioning.firstRun();
  const first = made === null ? null : firstRun(made);
  process.stdout.write(
    config.json
      ? `${JSON.stringify({ url, version: VERSION, firstRun: first })}\n`
      : banner(VERSION, url) + (first === null ? "" : welcome(first, url)),
  );
}

/** Sweeps at once and then again and again, never twice at a time. */
function sweepNowAndThen(docyard: Docyard, log: Logger, verbose: boolean): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  const why = (error: unknown): object => ({
    reason: reasonOf(error),
    ...(verbose ? { stacks: stacksOf(error) } : {}),
  });
  const run = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        const { handled, failures } = await docyard.sweep({ signal });
        if (handled > 0) log.info({ handled }, "swept");
        for (const { artifactId, error } of failures) {
          log.error({ artifactId, ...why(error) }, "sweep failed for an artifact");
        }
      } catch (error) {
        log.error(why(error), "sweep failed");
      }
      await sleep(SWEEP_INTERVAL_MS, undefined, { signal }).catch(() => {});
    }
  };
  const running = run();
  return {
    stop() {
      stopping.abort();
      return running;
    },
  };
}

/** Resolves to the first signal that asks us to stop; the next one ends the process on the spot. */
function stopSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let firstAt: number | null = null;
  for (const signal of STOP_SIGNALS) {
    process.on(signal, () => {
      firstAt ??= performance.now();
      resolve(signal);
      if (performance.now() - firstAt > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
    });
  }
  return promise;
}
