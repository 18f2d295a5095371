/**
 * The manual page and the completions, as the program prints them: complete, well-formed, and, for bash, really run.
 * The tables behind them are proven by cli.test.ts; here, that nothing of them is lost on the way.
 */

import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { flagOf, OPTION_NAMES, variableOf } from "../../packages/cli/src/config.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { build, run, tempFolder } from "./program.ts";

const execFileAsync = promisify(execFile);

let folder: Awaited<ReturnType<typeof tempFolder>>;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
});
afterAll(() => folder?.remove());

async function printed(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(args, { cwd: folder.path });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

/** Commands as `--help` lists them: their first words. */
async function commandsInHelp(): Promise<string[]> {
  const help = await printed("--help");
  const lines = help.slice(help.indexOf("Commands:"), help.indexOf("Options:")).split("\n");
  return lines.flatMap((line) => /^ {2}docyard-server (\w+)/.exec(line)?.[1] ?? []);
}

describe("the manual page", () => {
  let page: string;
  /** As a reader sees it, more or less: without roff's own words. */
  let text: string;

  beforeAll(async () => {
    page = await printed("man");
    text = page.replaceAll(/\\f[BIR]/g, "").replaceAll("\\-", "-");
  });

  test("it has the sections that manual pages have, in their order", () => {
    const sections = [...page.matchAll(/^\.SH (.+)$/gm)].map(([, name]) => name);
    const usual = [
      "NAME",
      "SYNOPSIS",
      "DESCRIPTION",
      "COMMANDS",
      "OPTIONS",
      "EXIT STATUS",
      "SIGNALS",
      "FILES",
    ];
    expect(sections).toEqual(usual);
    expect(text).toMatch(
      /^\.TH DOCYARD-SERVER 1 "" "docyard \d+\.\d+\.\d+" "docyard"\n\.SH NAME\ndocyard-server - \w/,
    );
  });

  test("every option is there with its variable, every command with its flags", async () => {
    for (const name of OPTION_NAMES) {
      expect(text).toMatch(new RegExp(`^--${flagOf(name)}( [A-Z]+)?$`, "m"));
      if (name !== "json" && name !== "verbose") expect(text).toContain(`Variable: ${variableOf(name)}.`);
    }
    for (const word of await commandsInHelp()) {
      if (word !== "completion") expect(text).toMatch(new RegExp(`^${word}( |$)`, "m"));
    }
    expect(text).toMatch(/^client create$/m);
    expect(text).toMatch(/^--scopes SCOPES$/m);
  });

  test("it is roff: only known requests, balanced, and nothing but ASCII", () => {
    for (const line of page.split("\n")) {
      expect(line).toMatch(/^[\x20-\x7e]*$/);
      expect(line).not.toMatch(/^'/);
      if (line.startsWith(".")) expect(line).toMatch(/^\.(TH|SH|PP|TP|RS|RE|br)( |$)/);
      expect(line.replaceAll(/\\(f[BIR]|-|e|&|\[u[0-9A-F]{4,6}\])/g, "")).not.toContain("\\");
    }
    const count = (request: string): number => page.split(`\n${request}\n`).length;
    expect(count(".RS")).toBe(count(".RE"));
    // Every tag has its text.
    expect(page).not.toMatch(/\n\.TP\n(\.|[^\n]*\n(\.|$))/);
  });

  test("it is the same each time, and says nothing of this machine", async () => {
    expect(await printed("man")).toBe(page);
    expect(page).not.toContain(folder.path);
    expect(page).not.toMatch(/\b20\d\d-\d\d/);
  });
});

describe("completion", () => {
  test("another shell is refused with the ones there are", async () => {
    expect(await run(["completion", "tcsh"], { cwd: folder.path })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/"tcsh" is none of bash, zsh, fish/) as string,
    });
  });

  test.each(["bash", "zsh", "fish"])("%s knows every command and every option", async (shell) => {
    const script = await printed("completion", shell);
    const flags = OPTION_NAMES.map(flagOf);
    for (const flag of flags) expect(script).toMatch(new RegExp(`(--|-l )${flag}\\b`));
    for (const word of await commandsInHelp()) expect(script).toMatch(new RegExp(`\\b${word}\\b`));
  });

  describe("bash, asked as readline asks", () => {
    let script: string;
    beforeAll(async () => {
      script = join(folder.path, "completion.bash");
      await writeFile(script, await printed("completion", "bash"));
      await writeFile(join(folder.path, "backup.tar"), "");
    });

    /** What is offered where the last word is being typed. */
    async function offered(...words: readonly string[]): Promise<string[]> {
      const ask = `
        source "$0"
        COMP_WORDS=(docyard-server "$@") COMP_CWORD=$#
        _docyard_server
        printf '%s\\n' "\${COMPREPLY[@]}"
        complete -p docyard-server >&2`;
      const { stdout, stderr } = await execFileAsync("bash", ["--norc", "-c", ask, script, ...words], {
        cwd: folder.path,
      });
      expect(stderr).toBe("complete -F _docyard_server docyard-server\n");
      return stdout.split("\n").filter((line) => line !== "");
    }

    test.each<readonly [readonly string[], readonly string[]]>([
      [["cl"], ["client"]],
      [["se"], ["serve", "secrets"]],
      [
        ["client", ""],
        ["create", "disable", "rotate", "list"],
      ],
      [["client", "r"], ["rotate"]],
      [["--db", "client", "cl"], ["client"]],
      [["--json", "key", "cr"], ["create"]],
      [["client", "create", "--sc"], ["--scopes"]],
      [
        ["client", "create", "--name", "dock", "--d"],
        ["--dock", "--db"],
      ],
      [["--publ"], ["--public-url"]],
      [["serve", "--publ"], ["--public-url"]],
      [["--log-level", "de"], ["debug"]],
      [
        ["--verify-reads", ""],
        ["full", "chunks", "off"],
      ],
      [["--config", "ba"], ["backup.tar"]],
      [["restore", "ba"], ["backup.tar"]],
      [["--port", ""], []],
      [
        ["completion", ""],
        ["bash", "zsh", "fish"],
      ],
    ])("%j", async (words, expected) => {
      expect((await offered(...words)).sort()).toEqual([...expected].sort());
    });

    test("a command offers its own flags and no server's", async () => {
      const flags = await offered("dock", "list", "--");
      expect(flags).toEqual(expect.arrayContaining(["--org", "--db", "--json", "--help"]));
      expect(flags).not.toContain("--port");
    });

    test("at the beginning every command is offered", async () => {
      expect((await offered("")).sort()).toEqual((await commandsInHelp()).sort());
    });
  });
});
