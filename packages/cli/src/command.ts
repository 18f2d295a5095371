/**
 * What a command of the operator's is: its words, its flags, what was said to it and what it answers. Which commands
 * there are is in commands.ts and operator-commands.ts; how they are read from argv is main.ts's.
 */

import type { Config, OptionName } from "./config.ts";

/** A flag of one command only. */
export interface Flag {
  readonly describe: string;
  /** What stands after it; none: a switch. */
  readonly value?: string;
  readonly required?: boolean;
}

export interface Command {
  readonly describe: string;
  /** The one word that follows the command, if any. */
  readonly positional?: { readonly name: string; readonly describe: string };
  /** Words after that one: exactly one, one or none, at least one, any number. */
  readonly more?: {
    readonly name: string;
    readonly describe: string;
    readonly how: "one" | "optional" | "many" | "any";
  };
  readonly flags: Readonly<Record<string, Flag>>;
  /** Options beyond those that every command takes. */
  readonly options?: readonly OptionName[];
  /** Whether it has a meaning where there is no database yet. */
  readonly isBeginning?: boolean;
  readonly run: (said: Said, config: Config) => Promise<Answer>;
}

/** What stood on the command line besides the options of config.ts. */
export interface Said {
  readonly positional: string;
  readonly more: readonly string[];
  readonly flag: (name: string) => string | undefined;
  /** Whether a switch was set. */
  readonly has: (name: string) => boolean;
}

/** One answer, for programs (`--json`) and for people. */
export interface Answer {
  readonly document: unknown;
  readonly text: string;
}
