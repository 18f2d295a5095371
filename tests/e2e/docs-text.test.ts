/**
 * What the documentation says and nobody runs: links lead somewhere, commands and options are the program's, numbers are
 * the code's, tables are the tests', and nothing is left of the machine that it was written on.
 */

import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { COMMANDS } from "../../packages/cli/src/commands.ts";
import { CONFIG_FLAG, flagOf, OPTION_NAMES, OPTIONS, variableOf } from "../../packages/cli/src/config.ts";
import { parseDuration, parseSize } from "../../packages/cli/src/measure.ts";
import { allPages, anchorsOf, type Block, blocksOf, linksOf, readPage, ROOT } from "./docs-markdown.ts";

const PAGES = allPages();
/** Decisions show what was thought of, too; the client is a package for people without the program. */
const PROGRAM_PAGES = PAGES.filter(
  (page) => !page.startsWith("docs/decisions/") && !page.startsWith("packages/"),
);

test("there are pages to be read", () => {
  expect(PAGES).toEqual(
    expect.arrayContaining([
      "ARCHITECTURE.md",
      "CHANGELOG.md",
      "CONTRIBUTING.md",
      "README.md",
      "docs/README.md",
      "docs/decisions/0001-four-packages.md",
      "packages/client/README.md",
    ]),
  );
});

describe("what is read of a page", () => {
  const page = [
    "# One `two` three!",
    "## One two three",
    "see [a](b.md#c) and `[no](link)`, ![p](p.svg)",
    "```sh run fails",
    "# no heading, [no](link)",
    "```",
    "- ```ts file=a.ts",
    "  ```ts run file=b.ts",
    "  export {};",
    "  ```",
    "```text",
    "```",
  ].join("\n");

  test("are its headings, as GitHub names them", () => {
    expect([...anchorsOf(page)]).toEqual(["one-two-three", "one-two-three-1"]);
  });

  test("are its links, outside of code", () => {
    expect(linksOf("x.md", page).map(({ line, target }) => [line, target])).toEqual([
      [3, "b.md#c"],
      [3, "p.svg"],
    ]);
  });

  test("are its blocks, with what becomes of them", () => {
    expect(blocksOf("x.md", page)).toMatchObject([
      {
        line: 4,
        language: "sh",
        role: "run",
        words: ["fails"],
        file: null,
        text: "# no heading, [no](link)\n",
      },
      { line: 8, language: "ts", role: "run", words: [], file: "b.ts", text: "export {};\n" },
      { line: 11, language: "text", role: null, words: [], file: null, text: "\n" },
    ]);
    expect(() => blocksOf("x.md", "```sh rnu\n```")).toThrow("x.md:1: rnu is none of run");
    expect(() => blocksOf("x.md", "\n```sh\n")).toThrow("x.md:2: the fence never ends");
  });
});

describe("links", () => {
  const links = PAGES.flatMap((page) => linksOf(page));

  test("lead to files and headings that are there", () => {
    const inside = links.filter(({ target }) => !/^[a-z]+:/.test(target));
    expect(inside.length).toBeGreaterThan(20);
    const wrong = inside.flatMap(({ page, line, target }) => {
      const [path = "", anchor] = target.split("#");
      const file =
        path === "" ? page : relative(ROOT, resolve(ROOT, dirname(page), decodeURIComponent(path)));
      if (file.startsWith("..") || !existsSync(join(ROOT, file))) return [`${page}:${line}: ${target}`];
      if (anchor === undefined) return [];
      const isThere = statSync(join(ROOT, file)).isFile() && anchorsOf(readPage(file)).has(anchor);
      return isThere ? [] : [`${page}:${line}: no heading for ${target}`];
    });
    expect(wrong).toEqual([]);
  });

  test("to elsewhere are https", () => {
    const outside = links.filter(({ target }) => /^[a-z]+:/.test(target));
    expect(outside.filter(({ target }) => !target.startsWith("https://"))).toEqual([]);
  });

  test("in the index of guides reach every guide", () => {
    const guides = PAGES.filter((page) => /^docs\/[^/]+\.md$/.test(page) && page !== "docs/README.md");
    const reached = linksOf("docs/README.md").map(({ target }) => `docs/${target}`);
    expect(guides.filter((page) => !reached.includes(page))).toEqual([]);
  });
});

describe("of the program", () => {
  /** Switches of our own that are no options of `docyard-server`, by the programs that have them. */
  const OTHERS =
    /\b(?:vitest|pnpm|npm|npx|node|git|curl|python3|ffmpeg|chown|docker|podman|oxlint|apt-get|sha256sum|useradd|journalctl|systemctl|openssl|prometheus|nginx|caddy|certbot|kubectl|psql|redis-cli|aws|rsync|tar|install)\b/;
  const known = new Set([
    ...OPTION_NAMES.map(flagOf),
    CONFIG_FLAG,
    "help",
    "version",
    ...Object.values(COMMANDS).flatMap(({ flags }) => Object.keys(flags)),
  ]);

  /** A command may go on behind a backslash. */
  const lines = PROGRAM_PAGES.flatMap((page) =>
    readPage(page)
      .replaceAll(/\\\n\s*/g, " ")
      .split("\n")
      .map((text) => ({ page, text })),
  );

  test("options exist", () => {
    const wrong = lines.flatMap(({ page, text }) => {
      // Of a command line, the part that is ours; a name alone in prose is ours unless another program is at hand.
      const ours = text.includes("docyard-server")
        ? Array.from(text.matchAll(/docyard-server[^|`;&]*/g), ([part]) => part).join(" ")
        : OTHERS.test(text)
          ? ""
          : text;
      const named = Array.from(ours.matchAll(/(?<![\w-])--([a-z][a-z0-9-]*)/g), ([, flag]) => flag!);
      return named.filter((flag) => !known.has(flag)).map((flag) => `${page}: --${flag}`);
    });
    expect(wrong).toEqual([]);
  });

  test("commands exist", () => {
    const words = new Set(["serve", "worker", "completion", "man", ...Object.keys(COMMANDS)]);
    const groups = new Set([...words].map((word) => word.split(" ", 1)[0]!));
    const asked = lines.flatMap(({ page, text }) =>
      Array.from(
        text.matchAll(/(?:^|[\s`(|])docyard-server ([a-z][a-z0-9-]*)(?: ([a-z][a-z0-9-]*))?/g),
        ([, first = "", second = ""]) => ({ page, first, second }),
      ),
    );
    expect(asked.length).toBeGreaterThan(10);
    const wrong = asked.filter(({ first, second }) => {
      if (words.has(first)) return false;
      return !groups.has(first) || (second !== "" && !words.has(`${first} ${second}`));
    });
    expect(wrong).toEqual([]);
  });

  test("variables exist", () => {
    const names = new Set([...OPTION_NAMES.map(variableOf), "DOCYARD_CONFIG"]);
    const wrong = PROGRAM_PAGES.flatMap((page) =>
      Array.from(readPage(page).matchAll(/\bDOCYARD_[A-Z0-9_]+/g), ([name]) => ({ page, name })),
    ).filter(
      ({ name }) =>
        !names.has(name) && !name.startsWith("DOCYARD_TEST_") && !/^DOCYARD_(?:URL|TEST)$/.test(name),
    );
    expect(wrong).toEqual([]);
  });
});

test("nothing names the machine that it was written on", () => {
  const places = /(?<![\w.])\/(?:work|tmp|root|home)\/|\blocalhost:4\d{3}\b|\bregistry\.npmjs\.org\b/;
  const wrong = PAGES.flatMap((page) =>
    readPage(page)
      .split("\n")
      .flatMap((line, index) => (places.test(line) ? [`${page}:${index + 1}: ${line.trim()}`] : [])),
  );
  expect(wrong).toEqual([]);
});

describe("blocks of the guides that run", () => {
  const blocks = PAGES.filter((page) => !page.startsWith("packages/"))
    .map((page) => blocksOf(page))
    .filter((ofPage) => ofPage.some(({ role }) => role === "run" || role === "server"))
    .flat();
  /** `norun examples/x.ts`: the block shows what a test of that file runs. */
  const isExcerpt = ({ role, words }: Block): boolean =>
    role === "norun" && words.length === 1 && existsSync(join(ROOT, words[0]!));

  test("say what becomes of them, and why where they are not run", () => {
    const wrong = blocks
      .filter((block) => {
        // A picture, a diagram: nothing that anyone could run.
        if (block.language === "" || block.language === "text") {
          return block.role !== null && block.role !== "output";
        }
        return block.role === null || (block.role === "norun" && block.words.length < 3 && !isExcerpt(block));
      })
      .map(({ page, line }) => `${page}:${line}`);
    expect(wrong).toEqual([]);
  });

  test("show files as they are", () => {
    const lines = (text: string): string[] => text.split("\n").map((line) => line.trim());
    const wrong = blocks.filter(isExcerpt).flatMap(({ page, line, words, text }) => {
      const [file = ""] = words;
      const there = new Set(lines(readPage(file)));
      const strange = lines(text).filter((one) => !there.has(one) && !/^(?:\/\/ )?…/.test(one));
      return strange.map((one) => `${page}:${line}: not in ${file}: ${one}`);
    });
    expect(wrong).toEqual([]);
  });
});

describe("the bounds in docs/security.md", () => {
  const section = readPage("docs/security.md")
    .split(/^## /m)
    .find((text) => text.startsWith("Bounds\n"))!;
  const rows = Array.from(
    section.matchAll(/^\| (.+?) \| ([^|]+?) \| `([^`]+)` \|$/gm),
    ([, what, bound, where]) => ({
      what: what!,
      bound: bound!,
      where: where!,
    }),
  );

  test("are all read", () => {
    expect(rows.length).toBe(section.match(/^\| /gm)!.length - 1);
    expect(rows.length).toBeGreaterThan(40);
  });

  test.each(rows)("$what: $bound", ({ bound, where }) => {
    expect(numberOf(bound)).toBe(where.startsWith("--") ? defaultOf(where.slice(2)) : constantOf(where));
  });
});

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** As people write it: `1,000`, `64 KiB`, `30 s`; times are milliseconds, sizes bytes. */
function numberOf(text: string): number {
  const [digits = "", unit = ""] = text.split(" ");
  return Number(digits.replaceAll(",", "")) * UNITS[unit]!;
}

function defaultOf(flag: string): number | null {
  const name = OPTION_NAMES.find((one) => flagOf(one) === flag)!;
  const text = OPTIONS[name].default;
  if (/^\d+$/.test(text)) return Number(text);
  return parseDuration(text) ?? parseSize(text);
}

/** `adapters/fetch/http.ts total`: the number that the source gives to this name, however it does so. */
function constantOf(where: string): number {
  const [path = "", name = ""] = where.split(" ");
  const [owner = "", ...rest] = path.split("/");
  const source = readFileSync(join(ROOT, "packages", owner, "src", ...rest), "utf8");
  const evaluate = (expression: string): number =>
    expression
      .split(/(?<!\*)\*(?!\*)/)
      .map((factor) => {
        const [base = "", exponent] = factor.trim().split(/\s*\*\*\s*/);
        const value = /^\d/.test(base) ? Number(base.replaceAll("_", "")) : find(base);
        return exponent === undefined ? value : value ** Number(exponent);
      })
      .reduce((product, factor) => product * factor, 1);
  const find = (one: string): number => {
    const pattern = new RegExp(
      `\\b${one}(?:: number)?\\s*(?:=|:|\\?\\?)\\s*((?:\\d|[A-Z])[\\w* ]*?)\\s*[,;)}]`,
    );
    const found = pattern.exec(source);
    if (found === null) throw new Error(`${path} gives no number to ${one}`);
    return evaluate(found[1]!);
  };
  return find(name);
}

describe("ARCHITECTURE.md", () => {
  test("says of imports what the test of imports says", () => {
    const page = readPage("ARCHITECTURE.md");
    const rules = readFileSync(join(ROOT, "tests/core/architecture.test.ts"), "utf8");
    const said = Array.from(
      rules.matchAll(/^ {2}(\w+): \{ packages: \[([^\]]*)\], node: (true|false) \},$/gm),
      ([, name, packages, node]) => ({
        name: name!,
        packages: packages!.match(/\w+(?=")/g) ?? [],
        node: node === "true",
      }),
    );
    expect(said.length).toBe(5);
    const wrong = said.flatMap(({ name, packages, node }) => {
      const row = new RegExp(`^\\| \`${name}\` \\| ([^|]+) \\| ([^|]+) \\|$`, "m").exec(page);
      if (row === null) return [`${name} has no row`];
      const [, may = "", never = ""] = row;
      const everything = may.startsWith("everything");
      return [
        ...packages
          .filter((other) => !everything && !may.includes(other))
          .map((other) => `${name} may import ${other}`),
        ...((everything || may.includes("`node:*`")) === node ? [] : [`${name} and node:*`]),
        ...(node || never.includes("`node:*`") ? [] : [`${name} never imports node:*`]),
      ];
    });
    expect(wrong).toEqual([]);
  });

  test("names modules that are there", () => {
    const named = readPage("ARCHITECTURE.md").matchAll(/`(core|adapters|server|cli|client)\/([\w/-]+\.ts)`/g);
    const wrong = Array.from(named, ([, owner, path]) => `packages/${owner}/src/${path}`).filter(
      (path) => !existsSync(join(ROOT, path)),
    );
    expect(wrong).toEqual([]);
  });
});
