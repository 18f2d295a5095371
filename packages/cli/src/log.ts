/**
 * The server's log: on stderr, one line per entry, for people on a terminal and as JSON everywhere else.
 * What is worth a line is decided where it happens; secrets and signed URLs never are.
 */

import { destination, pino, type Logger } from "pino";
import type { LogLevel } from "./config.ts";

export type { Logger };

const STDERR = 2;
/**
 * Bytes of lines that wait while stderr takes none, a file on a full disk as a rule; what comes beyond them is dropped.
 */
const WAITING_MAX = 1024 ** 2;

/**
 * Lines are written at once: the last words of a process that ends are not lost. A log that cannot be written costs its
 * lines, and no request.
 */
export function createLog(level: LogLevel, options: { readonly isTerminal: boolean }): Logger {
  const stderr = destination({ fd: STDERR, sync: true, maxLength: WAITING_MAX });
  stderr.on("error", () => {});
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    options.isTerminal ? { write: (line: string) => void stderr.write(forPeople(line)) } : stderr,
  );
}

/** `12:00:00.000 info  message  key=value`. */
function forPeople(line: string): string {
  const { level, time, msg, ...rest } = JSON.parse(line) as Record<string, unknown>;
  const clock = String(time).slice(11, 23);
  const details = Object.entries(rest).map(([name, value]) => `  ${name}=${JSON.stringify(value)}`);
  return `${clock} ${String(level).padEnd(5)} ${typeof msg === "string" ? msg : ""}${details.join("")}\n`;
}
