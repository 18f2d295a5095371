/**
 * What operators copy: every command, flag and variable in the operations page, the unit, its settings and the Dockerfile
 * is one that the program understands, so that no page goes on telling what the program has forgotten.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { OPTION_NAMES, variableOf } from "../../packages/cli/src/config.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "./executable-kit.ts";
import { build, run, tempFolder } from "./program.ts";

const PAGES = [
  "docs/operations.md",
  "packaging/docyard.service",
  "packaging/docyard.env",
  "docker/Dockerfile",
];
const VARIABLES = new Set([...OPTION_NAMES.map(variableOf), "DOCYARD_CONFIG"]);

let folder: Awaited<ReturnType<typeof tempFolder>>;
/** The program's own page, by which the others are judged. */
let manual: string;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  const { stdout } = await run(["man"], { cwd: folder.path });
  manual = stdout.replaceAll(/\\f[BIR]/g, "").replaceAll("\\-", "-");
});
afterAll(() => folder?.remove());

const read = (path: string): Promise<string> => readFile(join(ROOT, path), "utf8");

/** The part of the manual about one command; all of it for `serve`. */
function partOf(command: string): string {
  if (command === "serve") return manual;
  const found = new RegExp(`^${command}( [A-Z[].*)?\\n(?:.*\\n)*?(?=\\.TP\\n[a-z]|\\.SH)`, "m").exec(
    manual,
  )?.[0];
  if (found === undefined) throw new Error(`there is no command ${command}`);
  // Options that commands share are described once.
  return found + manual.slice(manual.indexOf(".SH OPTIONS"));
}

/** `docyard-server …` in a text: the command's words and its flags. */
function invocations(
  text: string,
): { readonly words: readonly string[]; readonly flags: readonly string[] }[] {
  return [...text.matchAll(/docyard-server ((?:[a-z-][\w-]*|--[\w-]+)[^\n`#|&;>)]*)/g)].map(
    ([, rest = ""]) => {
      const parts = rest.trim().split(/\s+/);
      const end = parts.findIndex((part) => !/^[a-z][a-z0-9-]*$/.test(part));
      return {
        words: end === -1 ? parts : parts.slice(0, end),
        flags: parts.flatMap((part) => /^--([a-z-]+)/.exec(part)?.[1] ?? []),
      };
    },
  );
}

describe.each(PAGES)("%s", (path) => {
  test("names no variable that is none", async () => {
    const named = [...(await read(path)).matchAll(/\bDOCYARD_[A-Z_]+\b/g)].map(([name]) => name);
    expect(named.filter((name) => !VARIABLES.has(name))).toEqual([]);
  });

  test("says no command or flag that the program does not know", async () => {
    for (const { words, flags } of invocations(await read(path))) {
      const [first = "serve", second = ""] = words;
      if (["completion", "man"].includes(first)) continue;
      const isGroup =
        manual.includes(`\n${first} `) && !new RegExp(`^${first}( [A-Z[].*)?$`, "m").test(manual);
      const part = partOf(isGroup ? `${first} ${second}` : first);
      for (const flag of flags) {
        if (flag !== "help" && flag !== "version") expect(part).toMatch(new RegExp(`^--${flag}( |$)`, "m"));
      }
    }
  });
});

test("the sample of settings is one that the server reads: every line, and the commented ones", async () => {
  const lines = (await read("packaging/docyard.env")).split("\n");
  for (const line of lines) expect(line).toMatch(/^(|# .*|#?(DOCYARD|AWS)_[A-Z_]+=\S*)$/);
});

test("the unit keeps what it promises: a bare user, a read-only system, and room for V8", async () => {
  const unit = await read("packaging/docyard.service");
  for (const line of [
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "StateDirectory=docyard",
    "CapabilityBoundingSet=",
    "MemoryDenyWriteExecute=no",
    "LimitNOFILE=65536",
    "EnvironmentFile=-/etc/docyard/docyard.env",
  ]) {
    expect(unit.split("\n")).toContain(line);
  }
  for (const line of unit.split("\n")) expect(line).toMatch(/^(|#.*|\[[A-Z]\w+\]|[A-Z]\w+=.*)$/);
});

test("the image has no root: the second stage names a user, and asks the executable for its health", async () => {
  const dockerfile = await read("docker/Dockerfile");
  const last = dockerfile.slice(dockerfile.lastIndexOf("\nFROM "));
  expect(last).toMatch(/^USER 65532:65532$/m);
  expect(last).toMatch(/HEALTHCHECK [^]*?CMD \["\/usr\/local\/bin\/docyard-server", "health"\]/);
  expect(last).not.toMatch(/^RUN /m);
});
