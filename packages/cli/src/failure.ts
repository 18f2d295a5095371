/**
 * How the program ends when it cannot do what it was asked: one line on stderr and an exit code.
 * Turns errors of the system, the drivers and core into that line; knows no command.
 */

import { isDocyardError } from "@docyard/core";

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
/** Done, and bytes of some artifacts are missing or damaged. */
export const EXIT_DAMAGE = 3;
/** 128 + SIGINT, as shells count. */
export const EXIT_INTERRUPTED = 130;

/** The command line, the environment or the config file is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The command was understood and could not be done: exit code 1. The message is for the operator, `cause` for `--verbose`. */
export class Failure extends Error {
  override readonly name = "Failure";
}

/** The operator asked to stop: exit code 130. The message says how to go on. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/** What the codes of operating systems mean, for people. Drivers' own sentences pass as they are. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "the system does not allow it",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EMFILE: "too many open files (raise the limit with ulimit -n)",
  ENOENT: "no such file or folder",
  ENOTDIR: "part of the path is not a folder",
  EISDIR: "this is a folder",
  EEXIST: "a file is in the way",
  ENAMETOOLONG: "the path is too long",
  ELOOP: "the path goes round in links",
  ECONNREFUSED: "nothing answers there",
  ENOTFOUND: "the host name is unknown",
  ETIMEDOUT: "no answer in time",
};

/** Why, in one line and without a stack. */
export function reasonOf(error: unknown): string {
  if (isDocyardError(error, "internal") && error.cause !== undefined) return reasonOf(error.cause);
  if (!(error instanceof Error)) return firstLine(String(error));
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const known = REASONS[code];
  return known === undefined ? firstLine(error.message) || error.name : `${known} (${code})`;
}

/** Everything there is to know, for `--verbose`: the stacks of an error and of what caused it. */
export function stacksOf(error: unknown): string {
  const stacks: string[] = [];
  for (let at: unknown = error; at !== undefined && at !== null && stacks.length < CAUSES_MAX;) {
    stacks.push(at instanceof Error ? (at.stack ?? at.message) : JSON.stringify(at));
    at = at instanceof Error ? at.cause : undefined;
  }
  return stacks.join("\ncaused by ");
}

/** Errors may name each other as their cause. */
const CAUSES_MAX = 8;

function firstLine(text: string): string {
  return text.split("\n", 1)[0]!.trim();
}
