/**
 * The manual page, written from the tables that the command line itself is made of. Prints nothing; what an option or a
 * command does is config.ts's and commands.ts's.
 */

import type { Command } from "./command.ts";
import { CONFIG_VARIABLE, OPTIONS, variableOf } from "./config.ts";
import { CONFIG_WORD, flagWords, type Grammar, HELP_WORDS, optionWord, type Word } from "./grammar.ts";

const EXIT_CODES: readonly (readonly [string, string])[] = [
  ["0", "It is done."],
  ["1", "It was understood and could not be done; the reason is on standard error."],
  ["2", "The command line, the environment or the config file is wrong."],
  ["3", "It is done, and found stored bytes that are missing or damaged."],
  ["130", "It was interrupted."],
];

const SIGNALS: readonly (readonly [string, string])[] = [
  [
    "SIGTERM, SIGINT",
    "The server takes no new connections, lets requests under way finish (--drain-timeout), and ends with 0. A second one ends it at once.",
  ],
  ["SIGHUP", "With --tls-cert, the certificate and its key are read again. Without, as SIGTERM."],
];

const FILES: readonly (readonly [string, string])[] = [
  ["docyard.db", "Rows (--db). Beside it, while a server runs: docyard.db-wal and docyard.db-shm."],
  ["data/", "Bytes (--blob), one file for each blob, with its checksums in a .crc file."],
  [
    "docyard.key",
    "Keys that seal secrets in the database (--key-file). Made when first needed; back it up apart.",
  ],
];

/** In roff, for `man`. The same tables give the same text. */
export function manPage(grammar: Grammar): string {
  const { program, version, summary, commands, servers, options } = grammar;
  const lines: string[] = [
    `.TH ${program.toUpperCase().replaceAll("-", "\\-")} 1 "" "docyard ${roff(version)}" "docyard"`,
    ".SH NAME",
    `${roff(program)} \\- ${roff(lowerFirst(summary))}`,
    ".SH SYNOPSIS",
    ...synopses(grammar),
    ".SH DESCRIPTION",
    roff(
      `${program} keeps files for machines: a client registers an artifact, sends its bytes to a signed URL, and finds it again by name or metadata. Without a command it serves.`,
    ),
    ".PP",
    roff(
      "Commands work while a server runs on the same store. With --json each prints exactly one JSON document on standard output.",
    ),
    ".SH COMMANDS",
  ];
  for (const [name, describe] of Object.entries(servers)) lines.push(...item(bold(name), describe));
  for (const [name, command] of Object.entries(commands)) {
    lines.push(...item(`${bold(name)}${places(command, italic)}`, command.describe), ...ownFlags(command));
  }
  lines.push(
    ".SH OPTIONS",
    roff(
      "Every option can also be a variable or a key of the config file. A flag wins over a variable, a variable over the file.",
    ),
  );
  for (const name of options) {
    const word = optionWord(name, grammar);
    const { default: text } = OPTIONS[name];
    const ends = [
      ...(text === "" || word.value === undefined ? [] : [`Default: ${text}.`]),
      `Variable: ${variableOf(name)}.`,
    ];
    lines.push(...item(flagRoff(word), `${sentence(word.describe)} ${ends.join(" ")}`));
  }
  lines.push(
    ...item(flagRoff(CONFIG_WORD), `${sentence(CONFIG_WORD.describe)} Variable: ${CONFIG_VARIABLE}.`),
  );
  for (const word of HELP_WORDS) lines.push(...item(flagRoff(word), sentence(word.describe)));
  lines.push(
    ...section("EXIT STATUS", EXIT_CODES),
    ...section("SIGNALS", SIGNALS),
    ...section("FILES", FILES),
  );
  return `${lines.join("\n")}\n`;
}

function synopses({ program, commands, servers }: Grammar): string[] {
  const forms = [
    ...Object.keys(servers).map((name, index) => (index === 0 ? `[${name}]` : name)),
    ...Object.entries(commands).map(([name, command]) => `${name}${places(command, (text) => text)}`),
  ];
  return forms.flatMap((form, index) => [
    ...(index === 0 ? [] : [".br"]),
    `${bold(program)} ${roff(form)} [${italic("options")}]`,
  ]);
}

function places({ positional, more }: Command, show: (text: string) => string): string {
  const words = positional === undefined ? [] : [show(positional.name.toUpperCase())];
  if (more !== undefined) {
    const name = show(more.name.toUpperCase());
    words.push({ one: name, optional: `[${name}]`, many: `${name}...`, any: `[${name}...]` }[more.how]);
  }
  return words.map((word) => ` ${word}`).join("");
}

function ownFlags(command: Command): string[] {
  const words = flagWords(command);
  if (words.length === 0) return [];
  return [
    ".RS",
    ...words.flatMap((word) =>
      item(flagRoff(word), sentence(word.describe) + (word.required === true ? " Required." : "")),
    ),
    ".RE",
  ];
}

function section(title: string, items: readonly (readonly [string, string])[]): string[] {
  return [`.SH ${title}`, ...items.flatMap(([name, text]) => item(bold(name), text))];
}

/** A paragraph with a tag; `tag` is roff already. */
function item(tag: string, text: string): string[] {
  return [".TP", tag, roff(sentence(text))];
}

function flagRoff({ flag, value }: Word): string {
  return value === undefined ? bold(`--${flag}`) : `${bold(`--${flag}`)} ${italic(value)}`;
}

const bold = (text: string): string => `\\fB${roff(text)}\\fR`;
const italic = (text: string): string => `\\fI${roff(text)}\\fR`;

/** Text as roff takes it literally: no line begins a request, hyphens can be copied, and other letters are named. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll(/[^\x20-\x7e]/gu, (letter) => {
      return `\\[u${letter.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`;
    })
    .replace(/^([.'])/, "\\&$1");
}

function sentence(text: string): string {
  return /[.…]$/.test(text) ? text : `${text}.`;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
