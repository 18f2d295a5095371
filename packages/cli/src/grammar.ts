/**
 * The grammar of the command line as `--help`, the manual page and completion tell it: a view of the tables of options
 * and commands, without what they do.
 */

import type { Command } from "./command.ts";
import { CONFIG_FLAG, flagOf, type OptionName, OPTIONS } from "./config.ts";

/** All that the program understands. */
export interface Grammar {
  readonly program: string;
  readonly version: string;
  readonly summary: string;
  /** Commands by their words. */
  readonly commands: Readonly<Record<string, Command>>;
  /** Those that take every option: the first is the one meant when none is named. */
  readonly servers: Readonly<Record<string, string>>;
  /** Options that every other command takes. */
  readonly common: readonly OptionName[];
  readonly options: readonly OptionName[];
  /** What may be written for an option, where its description does not say. */
  readonly forms: Readonly<Partial<Record<OptionName, string>>>;
}

/** One flag as `--help` has it. */
export interface Word {
  readonly flag: string;
  /** What stands after it; none: a switch. */
  readonly value?: string;
  readonly describe: string;
  readonly required?: boolean;
}

export const CONFIG_WORD: Word = {
  flag: CONFIG_FLAG,
  value: "FILE",
  describe: 'JSON file with options, such as {"max-size": "1GiB"}',
};
export const HELP_WORDS: readonly Word[] = [
  { flag: "help", describe: "Show help" },
  { flag: "version", describe: "Show the version" },
];

export function optionWord(name: OptionName, { forms }: Grammar): Word {
  const { describe, value } = OPTIONS[name];
  const form = forms[name];
  return {
    flag: flagOf(name),
    ...(value === undefined ? {} : { value }),
    describe: form === undefined ? describe : `${describe}: ${form}`,
  };
}

/** Flags of one command only. */
export function flagWords({ flags }: Command): Word[] {
  return Object.entries(flags).map(([flag, rest]) => ({ flag, ...rest }));
}

/** What one command takes, the common options last. */
export function wordsOf(command: Command, grammar: Grammar): Word[] {
  const { options = [] } = command;
  const names = [...options, ...grammar.common.filter((name) => !options.includes(name))];
  return [
    ...flagWords(command),
    ...names.map((name) => optionWord(name, grammar)),
    CONFIG_WORD,
    ...HELP_WORDS,
  ];
}

/** What a server takes. */
export function serverWords(grammar: Grammar): Word[] {
  return [...grammar.options.map((name) => optionWord(name, grammar)), CONFIG_WORD, ...HELP_WORDS];
}
