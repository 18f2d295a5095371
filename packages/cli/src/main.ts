/**
 * argv → command: the grammar of the command line, its help, and the one line that an error becomes.
 * What a command does is in commands.ts and serve.ts; what an option means is in config.ts.
 */

import yargs, { type Argv } from "yargs";
import type { Command, Said } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import {
  CONFIG_FLAG,
  type Config,
  flagOf,
  OPTION_NAMES,
  type OptionName,
  OPTIONS,
  readConfig,
  suggestion,
  variableOf,
} from "./config.ts";
import { FORMS, requireDatabase } from "./drivers.ts";
import {
  EXIT_FAILURE,
  EXIT_INTERRUPTED,
  EXIT_USAGE,
  Interrupted,
  reasonOf,
  stacksOf,
  UsageError,
} from "./failure.ts";
import { CONFIG_WORD, type Grammar, optionWord } from "./grammar.ts";
import { VERSION } from "./version.ts";

const PROGRAM = "docyard-server";
/** Columns of `--help`; narrower terminals wrap it. */
const HELP_WIDTH = 110;

/** Options that mean something to every command; the others only to `serve`. */
const COMMON: readonly OptionName[] = ["db", "keyFile", "json", "verbose"];

/** What each group of commands is about. */
const NOUNS: Readonly<Record<string, string>> = {
  org: "Organizations",
  dock: "Docks",
  client: "Machine clients",
  key: "Studio API keys",
  artifact: "Artifacts",
  secrets: "Secrets sealed in the database",
  signing: "Keys that sign tokens and URLs",
};

const SUMMARY = "Takes files from machines and hands them back, whole";

/** Commands that take every option. */
const SERVERS = {
  serve: "Run the server",
  worker: "Ingest in the background, without serving HTTP; any number beside servers on the same store",
} as const;

/** The same tables, for the manual page and for shells. */
const GRAMMAR: Grammar = {
  program: PROGRAM,
  version: VERSION,
  summary: SUMMARY,
  commands: COMMANDS,
  servers: SERVERS,
  common: COMMON,
  options: OPTION_NAMES,
  forms: FORMS,
};

/** What was asked for: help or a version to print, or something to do. */
type Request =
  | { readonly kind: "print"; readonly text: string }
  | { readonly kind: "man" }
  | { readonly kind: "completion"; readonly shell: string }
  | { readonly kind: "serve" | "worker"; readonly flags: Flags }
  | { readonly kind: "command"; readonly command: Command; readonly flags: Flags; readonly said: Said };

type Flags = ReadonlyMap<string, readonly string[]>;

/** Runs one command line to its end and sets the exit code; `serve` ends when a signal asks for it. Never rejects. */
export async function main(argv: readonly string[]): Promise<void> {
  watchOutput();
  try {
    const request = parse(argv);
    switch (request.kind) {
      case "print":
        process.stdout.write(`${request.text}\n`);
        break;
      case "man":
        process.stdout.write((await import("./manual.ts")).manPage(GRAMMAR));
        break;
      case "completion":
        process.stdout.write((await import("./completion.ts")).completion(request.shell, GRAMMAR));
        break;
      case "serve":
      case "worker": {
        const config = readConfig(request.flags);
        const { serve, work } = await import("./serve.ts");
        await (request.kind === "serve" ? serve(config) : work(config));
        break;
      }
      case "command":
        await runAndPrint(request.command, request.said, readConfig(request.flags));
    }
  } catch (error) {
    const isUsage = error instanceof UsageError;
    const detail = wantsStacks(argv) ? `\n${stacksOf(error)}` : "";
    const hint = isUsage ? ` (see ${PROGRAM} --help)` : "";
    process.stderr.write(`${PROGRAM}: ${reasonOf(error)}${hint}${detail}\n`);
    process.exitCode = isUsage ? EXIT_USAGE : error instanceof Interrupted ? EXIT_INTERRUPTED : EXIT_FAILURE;
  }
}

async function runAndPrint(command: Command, said: Said, config: Config): Promise<void> {
  if (command.isBeginning !== true) requireDatabase(config);
  const { document, text } = await command.run(said, config);
  process.stdout.write(config.json ? `${JSON.stringify(document)}\n` : text);
}

/** @throws UsageError */
function parse(said: readonly string[]): Request {
  const argv = plainWords(said);
  refuseOddSwitches(argv);
  let request: Request | null = null;
  let printed = "";
  let fault: unknown = null;
  const onRequest = (made: Request): void => {
    request = made;
  };
  // With a callback yargs neither prints nor exits: whether help was asked for shows in the output alone.
  void grammar(onRequest).parse([...argv], {}, (error, _, output) => {
    fault = error ?? null;
    printed = output;
  });
  if (fault instanceof UsageError) throw fault;
  if (fault !== null) throw new UsageError(explain(reasonOf(fault), argv));
  if (printed !== "") return { kind: "print", text: printed };
  if (request === null) throw new UsageError("which command?");
  return request;
}

/** yargs finds no place for what follows `--`, and forgets `-`: whoever piped a file in would believe it stored. */
function plainWords(argv: readonly string[]): readonly string[] {
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length;
  const names = argv.slice(end + 1);
  const odd = names.find((name) => name.startsWith("-"));
  if (odd !== undefined) throw new UsageError(`${odd}: write a file whose name begins with - as ./${odd}`);
  const words = [...argv.slice(0, end), ...names];
  if (words.includes("-"))
    throw new UsageError("- is no name: files are read and written by name, not piped");
  return words;
}

/** yargs takes `--read-only=yes` for false, and says nothing. */
function refuseOddSwitches(argv: readonly string[]): void {
  const switches = new Set([
    ...OPTION_NAMES.filter((name) => OPTIONS[name].value === undefined).map(flagOf),
    ...Object.values(COMMANDS).flatMap(({ flags }) =>
      Object.keys(flags).filter((name) => flags[name]!.value === undefined),
    ),
  ]);
  for (const word of argv) {
    const [, name = "", value = ""] = /^--([\w-]+)=(.*)$/s.exec(word) ?? [];
    if (switches.has(name) && !["true", "false"].includes(value)) {
      throw new UsageError(`--${name} is a switch: it is there, or is not, or is =true or =false`);
    }
  }
}

function grammar(onRequest: (request: Request) => void): Argv {
  const root = yargs()
    .scriptName(PROGRAM)
    .locale("en")
    .parserConfiguration({
      "boolean-negation": false,
      "camel-case-expansion": false,
      "dot-notation": false,
      "parse-numbers": false,
      "parse-positional-numbers": false,
      "short-option-groups": false,
      "strip-aliased": true,
    })
    .usage(`$0 [serve] [options]\n\n${SUMMARY}. Without a command it serves.`)
    .command(
      ["serve", "$0"],
      SERVERS.serve,
      (serve) => serveGrammar(serve),
      (said) => {
        onRequest({ kind: "serve", flags: flagsOf(said) });
      },
    );
  root.command(
    "worker",
    SERVERS.worker,
    (worker) => withOptions(worker, OPTION_NAMES),
    (said) => {
      onRequest({ kind: "worker", flags: flagsOf(said) });
    },
  );
  const groups = Map.groupBy(Object.entries(COMMANDS), ([words]) => words.split(" ", 1)[0]!);
  for (const [word, members] of groups) addGroup(root, word, members, onRequest);
  root.command(
    "completion <shell>",
    "Print what a shell needs to complete these words: bash, zsh, fish",
    (one) => one.positional("shell", { type: "string", describe: "bash, zsh or fish" }),
    (said) => {
      onRequest({ kind: "completion", shell: String(said["shell"]) });
    },
  );
  // For whoever packages it: others read it with `man`.
  root.command("man", false, {}, () => {
    onRequest({ kind: "man" });
  });
  return root
    .epilogue(
      `Every option can also be a variable (--max-size: ${variableOf("maxSize")}) or a key of the config file ("max-size").\n` +
        "A flag wins over a variable, a variable over the file.",
    )
    .version(VERSION)
    .help()
    .alias("help", "h")
    .strict()
    .showHelpOnFail(false)
    .wrap(HELP_WIDTH);
}

function serveGrammar(serve: Argv): Argv {
  return withOptions(serve, OPTION_NAMES)
    .example("$0", "SQLite in ./docyard.db, bytes in ./data, http://127.0.0.1:8080")
    .example("$0 --db sqlite:/srv/docyard.db --blob /srv/data --public-url https://files.example.com", "")
    .example("$0 client create --name scanner --dock dock_default --json", "credentials for a machine");
}

/** Commands that begin with the same word; one of a single word is a group of itself. */
function addGroup(
  root: Argv,
  word: string,
  members: readonly (readonly [words: string, command: Command])[],
  onRequest: (request: Request) => void,
): void {
  const single = members.find(([words]) => words === word);
  if (single !== undefined) {
    addCommand(root, word, single[1], onRequest);
    return;
  }
  const verbs = members.map(([words]) => words.slice(word.length + 1)).join(", ");
  root.command(word, `${NOUNS[word] ?? word}: ${verbs}`, (group) => {
    for (const [words, command] of members) {
      addCommand(group, words.slice(word.length + 1), command, onRequest);
    }
    return group.demandCommand(1, `${word} what? one of ${verbs}`);
  });
}

/** How yargs writes what `more` says. */
const PLACES: Readonly<Record<NonNullable<Command["more"]>["how"], string>> = {
  one: "<name>",
  optional: "[name]",
  many: "<name..>",
  any: "[name..]",
};

/** What follows the words of a command. */
function placesOf({ positional, more }: Command): string[] {
  return [
    ...(positional === undefined ? [] : [`<${positional.name}>`]),
    ...(more === undefined ? [] : [PLACES[more.how].replace("name", more.name)]),
  ];
}

function addCommand(to: Argv, words: string, command: Command, onRequest: (request: Request) => void): void {
  const { positional, more, flags, describe } = command;
  to.command(
    [words, ...placesOf(command)].join(" "),
    describe,
    (one) => {
      if (positional !== undefined) {
        one.positional(positional.name, { type: "string", describe: positional.describe });
      }
      if (more !== undefined) one.positional(more.name, { type: "string", describe: more.describe });
      for (const [name, { describe: text, value, required = false }] of Object.entries(flags)) {
        one.option(
          name,
          value === undefined
            ? { type: "boolean", describe: text }
            : { requiresArg: true, describe: text, demandOption: required },
        );
      }
      return withOptions(one, [...COMMON, ...(command.options ?? [])]);
    },
    (said) => {
      onRequest({
        kind: "command",
        command,
        flags: flagsOf(said),
        said: {
          positional: positional === undefined ? "" : String(said[positional.name]),
          more: more === undefined ? [] : textsOf(said[more.name]),
          flag: (name) => once(name, textsOf(said[name])),
          has: (name) => said[name] === true,
        },
      });
    },
  );
}

function withOptions(to: Argv, names: readonly OptionName[]): Argv {
  for (const name of names) {
    const { flag, value, describe } = optionWord(name, GRAMMAR);
    const { default: text } = OPTIONS[name];
    to.option(
      flag,
      value === undefined
        ? { type: "boolean", describe }
        : { requiresArg: true, describe, ...(text === "" ? {} : { defaultDescription: text }) },
    );
  }
  return to.option(CONFIG_WORD.flag, { requiresArg: true, describe: CONFIG_WORD.describe });
}

/** What was said, as texts: the meaning of options is config.ts's. */
function flagsOf(said: Readonly<Record<string, unknown>>): Flags {
  const flags = new Map<string, readonly string[]>();
  for (const name of [...OPTION_NAMES.map(flagOf), CONFIG_FLAG]) {
    const texts = textsOf(said[name]);
    if (texts.length > 0) flags.set(name, texts);
  }
  return flags;
}

function textsOf(value: unknown): string[] {
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map((one: unknown) =>
    typeof one === "string" ? one : JSON.stringify(one),
  );
}

function once(name: string, texts: readonly string[]): string | undefined {
  if (texts.length > 1) throw new UsageError(`--${name} is given ${texts.length} times`);
  return texts[0];
}

/** yargs's own sentences in ours, with the nearest word where one was misspelt. */
function explain(message: string, argv: readonly string[]): string {
  const told = /^(Unknown arguments?|Missing required arguments?|Not enough arguments following): (.+)$/.exec(
    message,
  );
  if (told === null) return explainMissing(message, argv) ?? message;
  const [, kind = "", list = ""] = told;
  const words = list.split(", ");
  if (kind.startsWith("Missing")) return `${words.map((word) => `--${word}`).join(" and ")} must be given`;
  if (kind.startsWith("Not enough")) return `--${words[0]} needs a value`;
  return words.map((word) => explainUnknown(word, argv)).join("; ");
}

/** Which word a command is short of; null where the message is about something else. */
function explainMissing(message: string, argv: readonly string[]): string | null {
  const told = /^Not enough non-option arguments: got (\d+)/.exec(message);
  if (told === null) return null;
  const found = Object.entries(COMMANDS).find(([words]) => `${argv.join(" ")} `.startsWith(`${words} `));
  if (found === undefined) return "the command needs one more word";
  const [words, command] = found;
  const places = placesOf(command);
  return `${[words, ...places].join(" ")}: ${places[Number(told[1])] ?? "a word"} is missing`;
}

function explainUnknown(word: string, argv: readonly string[]): string {
  const isFlag = argv.some((one) => one.startsWith("-") && one.replace(/^-+/, "").startsWith(word));
  if (!isFlag) {
    const commands = [
      "serve",
      "worker",
      "completion",
      ...new Set(Object.keys(COMMANDS).flatMap((words) => words.split(" "))),
    ];
    return `unexpected word ${JSON.stringify(word)}${suggestion(word, commands)}`;
  }
  const options = [...OPTION_NAMES.map(flagOf), CONFIG_FLAG];
  if (options.includes(word)) return `--${word} means nothing to this command`;
  return `unknown option --${word}${suggestion(
    word,
    options.map((name) => `--${name}`),
  )}`;
}

/** Read before anything is parsed, since parsing may be what fails. */
function wantsStacks(argv: readonly string[]): boolean {
  return argv.includes("--verbose");
}

/**
 * What is told on stderr, to whoever is there, is never worth more than the work: it goes on when nobody can be told.
 *
 * `docyard-server … | head` closes our stdout: nothing is wrong then, and nobody is left to tell. Whatever else keeps an
 * answer from being written, a full disk as a rule, ends the program: it may have been a secret that is shown once.
 */
function watchOutput(): void {
  process.stderr.on("error", () => {});
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") return;
    process.stderr.write(`${PROGRAM}: cannot write to standard output: ${reasonOf(error)}\n`);
    process.exit(EXIT_FAILURE);
  });
}
