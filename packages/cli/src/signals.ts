/**
 * Signals that ask the program to stop: the first one asks, and one after that ends the process on the spot. How a
 * server or a command stops is its own affair.
 */

import { EXIT_INTERRUPTED } from "./failure.ts";

/**
 * The last one is what a terminal that closes sends. That is no reason to cut an upload off, so it asks like the others;
 * daemons take it for something else.
 */
export const STOP_SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * Milliseconds in which a repeated signal is the same one: a terminal's Ctrl-C reaches the whole process group, and
 * npm and npx hand it on a second time.
 */
const SAME_SIGNAL_MS = 250;

/** @returns what ends the listening */
export function onStopSignal(
  signals: readonly NodeJS.Signals[],
  ask: (signal: NodeJS.Signals) => void,
): () => void {
  let firstAt: number | null = null;
  const onSignal = (signal: NodeJS.Signals): void => {
    firstAt ??= performance.now();
    ask(signal);
    if (performance.now() - firstAt > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
  };
  for (const signal of signals) process.on(signal, onSignal);
  return () => {
    for (const signal of signals) process.off(signal, onSignal);
  };
}
