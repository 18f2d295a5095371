/**
 * Completion for bash, zsh and fish: scripts that know the words of the command line, written from its tables.
 * They ask the program nothing, so that a Tab costs nothing.
 */

import { flagOf, LOG_LEVELS, VERIFY_READS } from "./config.ts";
import { UsageError } from "./failure.ts";
import { type Grammar, HELP_WORDS, serverWords, type Word, wordsOf } from "./grammar.ts";

const SCRIPTS: Readonly<Record<string, (grammar: Grammar) => string>> = { bash, zsh, fish };

/** A script for the shell to read. @throws UsageError for another shell. */
export function completion(shell: string, grammar: Grammar): string {
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (script !== undefined) return script(grammar);
  throw new UsageError(`completion: ${JSON.stringify(shell)} is none of ${Object.keys(SCRIPTS).join(", ")}`);
}

/** What may follow the words of a command, or of the beginning of one. */
interface Step {
  /** `""`, `client` or `client create`. */
  readonly at: string;
  readonly next: readonly { readonly word: string; readonly describe: string }[];
  readonly flags: readonly Word[];
}

function steps(grammar: Grammar): Step[] {
  const { commands, servers } = grammar;
  const groups = Map.groupBy(Object.entries(commands), ([words]) => words.split(" ")[0]!);
  const all = serverWords(grammar);
  const first = [
    { word: "completion", describe: "Print what a shell needs to complete these words" },
    ...Object.entries(servers).map(([word, describe]) => ({ word, describe })),
    ...[...groups].map(([word, members]) => ({
      word,
      describe: members
        .map(([words, { describe }]) => (words.includes(" ") ? words.slice(word.length + 1) : describe))
        .join(", "),
    })),
  ];
  const found: Step[] = [
    { at: "", next: first, flags: all },
    ...Object.keys(servers).map((at) => ({ at, next: [], flags: all })),
    {
      at: "completion",
      next: Object.keys(SCRIPTS).map((word) => ({ word, describe: `For ${word}` })),
      flags: HELP_WORDS,
    },
  ];
  for (const [word, members] of groups) {
    const verbs = members.flatMap(([words, { describe }]) =>
      words.includes(" ") ? [{ word: words.slice(word.length + 1), describe }] : [],
    );
    if (verbs.length > 0) found.push({ at: word, next: verbs, flags: HELP_WORDS });
    for (const [at, command] of members) found.push({ at, next: [], flags: wordsOf(command, grammar) });
  }
  return found;
}

/** Flags whose value is one of a few words. */
const CHOICES: Readonly<Record<string, readonly string[]>> = {
  [flagOf("logLevel")]: LOG_LEVELS,
  [flagOf("verifyReads")]: VERIFY_READS,
};
/** How values that are files are written in the tables. */
const FILE_VALUES: ReadonlySet<string> = new Set(["FILE", "DIR", "STORE", "PROGRAM"]);

function allFlags(grammar: Grammar): Word[] {
  const byFlag = new Map(steps(grammar).flatMap(({ flags }) => flags.map((word) => [word.flag, word])));
  return [...byFlag.values()].sort((a, b) => (a.flag < b.flag ? -1 : 1));
}

function bash(grammar: Grammar): string {
  const { program } = grammar;
  const name = `_${program.replaceAll("-", "_")}`;
  const flags = allFlags(grammar);
  const withValue = flags.filter(({ value }) => value !== undefined);
  const anywhere = withValue.filter(({ flag, value }) => !(flag in CHOICES) && !FILE_VALUES.has(value!));
  const files = withValue.filter(({ flag, value }) => !(flag in CHOICES) && FILE_VALUES.has(value!));
  const pattern = (words: readonly Word[]): string => words.map(({ flag }) => `--${flag}`).join("|");
  const table = steps(grammar).map(
    ({ at, next, flags: own }) =>
      `    '${at}') next='${next.map(({ word }) => word).join(" ")}' flags='${own.map(({ flag }) => `--${flag}`).join(" ")}' ;;`,
  );
  const begins = steps(grammar)
    .filter(({ at }) => at !== "")
    .map(({ at }) => `'${at}'`);
  return `# bash completion for ${program}: ${program} completion bash > /etc/bash_completion.d/${program}
${name}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]}
  local at='' next='' flags='' word skip='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ -n $skip ]]; then skip=''; continue; fi
    case $word in
      ${pattern(withValue)}) skip=1; continue ;;
      -*) continue ;;
    esac
    case "\${at:+$at }$word" in
      ${begins.join("|")}) at="\${at:+$at }$word" ;;
    esac
  done
  case $prev in
${Object.entries(CHOICES)
  .map(
    ([flag, words]) => `    --${flag}) COMPREPLY=($(compgen -W '${words.join(" ")}' -- "$cur")); return ;;`,
  )
  .join("\n")}
    ${pattern(files)}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    ${pattern(anywhere)}) return ;;
  esac
  case $at in
${table.join("\n")}
  esac
  if [[ $cur == -* || -z $next ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    if [[ $cur != -* && -n $cur ]]; then compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); fi
  else
    COMPREPLY=($(compgen -W "$next" -- "$cur"))
  fi
}
complete -F ${name} ${program}
`;
}

function zsh(grammar: Grammar): string {
  const { program } = grammar;
  const name = `_${program.replaceAll("-", "_")}`;
  const withValue = allFlags(grammar).filter(({ value }) => value !== undefined);
  const one = ({ flag, value, describe }: Word): string => {
    const action =
      flag in CHOICES ? `(${CHOICES[flag]!.join(" ")})` : FILE_VALUES.has(value ?? "") ? "_files" : " ";
    const argument = value === undefined ? "" : `:${value}:${action}`;
    return zshQuoted(`*--${flag}[${describe.replaceAll(/[[\]\\:]/g, "\\$&")}]${argument}`);
  };
  const table = steps(grammar).map(({ at, next, flags }) => {
    const words = next.map(({ word, describe }) => zshQuoted(`${word}:${describe.replaceAll(":", "\\:")}`));
    const verbs = words.length === 0 ? "" : `\n      next=(${words.join(" ")})`;
    return `    '${at}')${verbs}\n      flags=(${flags.map(one).join(" ")}) ;;`;
  });
  const begins = steps(grammar)
    .filter(({ at }) => at !== "")
    .map(({ at }) => `'${at}'`);
  return `#compdef ${program}
# zsh completion for ${program}: ${program} completion zsh > "\${fpath[1]}/_${program}"
${name}() {
  local at='' word skip='' i
  local -a next flags
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
    if [[ -n $skip ]]; then skip=''; continue; fi
    case $word in
      ${withValue.map(({ flag }) => `--${flag}`).join("|")}) skip=1; continue ;;
      -*) continue ;;
    esac
    case "\${at:+$at }$word" in
      ${begins.join("|")}) at="\${at:+$at }$word" ;;
    esac
  done
  case $at in
${table.join("\n")}
  esac
  if [[ -z $skip && $PREFIX != -* && \${#next} -gt 0 ]]; then
    _describe -t commands command next
  else
    _arguments $flags '*:file:_files'
  fi
}
if [[ $funcstack[1] == _${program} ]]; then ${name} "$@"; else compdef ${name} ${program}; fi
`;
}

function zshQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fish(grammar: Grammar): string {
  const { program } = grammar;
  const name = `__${program.replaceAll("-", "_")}_at`;
  const withValue = allFlags(grammar).filter(({ value }) => value !== undefined);
  const begins = steps(grammar)
    .filter(({ at }) => at !== "")
    .map(({ at }) => fishQuoted(at));
  const lines = steps(grammar).flatMap(({ at, next, flags }) => {
    const when = `-n ${fishQuoted(`${name} ${fishQuoted(at)}`)}`;
    return [
      ...next.map(
        ({ word, describe }) => `complete -c ${program} ${when} -f -a ${word} -d ${fishQuoted(describe)}`,
      ),
      ...flags.map(({ flag, value, describe }) => {
        const argument =
          value === undefined
            ? ""
            : flag in CHOICES
              ? ` -x -a ${fishQuoted(CHOICES[flag]!.join(" "))}`
              : FILE_VALUES.has(value)
                ? " -r"
                : " -x";
        return `complete -c ${program} ${when} -l ${flag}${argument} -d ${fishQuoted(describe)}`;
      }),
    ];
  });
  return `# fish completion for ${program}: ${program} completion fish > ~/.config/fish/completions/${program}.fish
function ${name} --description 'whether the words so far name this command'
  set -l at
  set -l skip
  for word in (commandline -opc)[2..-1]
    if test -n "$skip"
      set skip
      continue
    end
    switch $word
      case ${withValue.map(({ flag }) => `--${flag}`).join(" ")}
        set skip 1
      case '-*'
      case '*'
        set -l longer (string join ' ' -- $at $word)
        if contains -- $longer ${begins.join(" ")}
          set at $longer
        end
    end
  end
  test "$at" = "$argv[1]"
end
${lines.join("\n")}
`;
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
