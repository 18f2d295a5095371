/**
 * The house rules that a compiler does not check, read from the sources: who may import whom, who reads the
 * environment, how a file opens. What each package is for is in ARCHITECTURE.md.
 */

import { globSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The table of the design. `packages`: which of ours; `node`: whether Node's own modules may be used. */
const RULES: Record<string, { readonly packages: readonly string[]; readonly node: boolean }> = {
  core: { packages: [], node: false },
  adapters: { packages: ["@docyard/core"], node: true },
  server: { packages: ["@docyard/core"], node: false },
  cli: { packages: ["@docyard/core", "@docyard/adapters", "@docyard/server"], node: true },
  client: { packages: [], node: false },
};
const PACKAGES = Object.keys(RULES);

interface Manifest {
  readonly name: string;
  readonly exports?: Record<string, Record<string, string>>;
  readonly bin?: Record<string, string>;
  readonly dependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
}

interface Import {
  readonly file: string;
  /** As written. */
  readonly specifier: string;
  /** What it names: a package, `node:`, or nothing for a relative one. */
  readonly package: string | null;
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

function manifestOf(name: string): Manifest {
  return JSON.parse(read(`packages/${name}/package.json`)) as Manifest;
}

/** Paths from the root, with slashes. */
function filesIn(pattern: string): string[] {
  const found = globSync(pattern, { cwd: ROOT, exclude: (path) => /(^|\/)(node_modules|dist)$/.test(path) });
  return found.map((path) => path.split(sep).join("/")).toSorted();
}

function sourcesOf(name: string): string[] {
  return filesIn(`packages/${name}/src/**/*.ts`);
}

/** Static imports and re-exports begin a line; `import()` may stand anywhere. */
const IMPORTS = [
  /^(?:import|export)\b[^;"]*\bfrom\s*"([^"]+)"/gm,
  /^import\s*"([^"]+)"/gm,
  /\bimport\(\s*"([^"]+)"/g,
];

function importsOf(file: string): Import[] {
  const text = read(file);
  const specifiers = IMPORTS.flatMap((pattern) => Array.from(text.matchAll(pattern), (match) => match[1]!));
  return specifiers.map((specifier) => ({ file, specifier, package: packageOf(specifier) }));
}

function packageOf(specifier: string): string | null {
  if (specifier.startsWith(".")) return null;
  if (specifier.startsWith("node:")) return "node:";
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** The file that a relative import leads to, as a path from the root. */
function targetOf({ file, specifier }: Import): string {
  return relative(ROOT, resolve(ROOT, dirname(file), specifier))
    .split(sep)
    .join("/");
}

function isFile(path: string): boolean {
  return statSync(join(ROOT, path), { throwIfNoEntry: false })?.isFile() === true;
}

function said(imports: readonly Import[]): string[] {
  return imports.map(({ file, specifier }) => `${file} imports ${specifier}`);
}

test("the sources are where these rules look for them", () => {
  expect(PACKAGES.filter((name) => sourcesOf(name).length <= 5)).toEqual([]);
  const all = PACKAGES.flatMap((name) => sourcesOf(name).flatMap(importsOf));
  expect(all.length).toBeGreaterThan(300);
  expect(all.some((one) => one.package === null)).toBe(true);
  expect(filesIn("packages/*/package.json")).toEqual(
    PACKAGES.toSorted().map((name) => `packages/${name}/package.json`),
  );
});

describe.each(PACKAGES)("%s", (name) => {
  const imports = sourcesOf(name).flatMap(importsOf);
  const { packages, node } = RULES[name]!;

  test("imports of our packages only those that it may", () => {
    const wrong = imports.filter(
      (one) => one.package?.startsWith("@docyard/") === true && !packages.includes(one.package),
    );
    expect(said(wrong)).toEqual([]);
  });

  test("names Node's modules with node:, or uses none where it may not", () => {
    const builtin =
      /^(?:assert|buffer|child_process|crypto|events|fs|http|net|os|path|process|stream|url|util|zlib)(?:\/|$)/;
    const wrong = imports.filter((one) => builtin.test(one.specifier) || (!node && one.package === "node:"));
    expect(said(wrong)).toEqual([]);
  });

  test("declares what it imports, and nothing of ours that it may not", () => {
    const { dependencies = {}, peerDependencies = {} } = manifestOf(name);
    const declared = new Set([...Object.keys(dependencies), ...Object.keys(peerDependencies)]);
    const wrong = imports.filter(
      (one) => one.package !== null && one.package !== "node:" && !declared.has(one.package),
    );
    expect(said(wrong)).toEqual([]);
    expect([...declared].filter((one) => one.startsWith("@docyard/") && !packages.includes(one))).toEqual([]);
  });

  test("stays inside its own folder, and imports files that exist", () => {
    const relatives = imports.filter((one) => one.package === null);
    expect(said(relatives.filter((one) => !targetOf(one).startsWith(`packages/${name}/src/`)))).toEqual([]);
    expect(said(relatives.filter((one) => !isFile(targetOf(one))))).toEqual([]);
  });
});

describe("core", () => {
  const PURE = [
    "access",
    "artifact",
    "blob-keys",
    "errors",
    "filter",
    "id",
    "json",
    "page",
    "quota",
    "sha256",
  ];

  test("imports nothing from outside, not even types", () => {
    const wrong = sourcesOf("core")
      .flatMap(importsOf)
      .filter((one) => one.package !== null);
    expect(said(wrong)).toEqual([]);
  });

  test("its domain knows no ports and no use cases", () => {
    const wrong = PURE.flatMap((name) => importsOf(`packages/core/src/${name}.ts`)).filter(
      (one) => !PURE.some((name) => one.specifier === `./${name}.ts`),
    );
    expect(said(wrong)).toEqual([]);
  });

  test("its ports are types only", () => {
    for (const file of ["packages/core/src/ports.ts", "packages/core/src/ports-ingest.ts"]) {
      const values = read(file).match(
        /^(?:import (?!type\b)|export (?:const|let|function|class|default)\b).*$/gm,
      );
      expect({ file, values: values ?? [] }).toEqual({ file, values: [] });
    }
  });
});

/** A table of names is nothing to be driven. */
const TABLES = ["mime-types"];

/** The parts of one SDK are one library; so are BullMQ and the client that it speaks through. */
function libraryOf(name: string): string {
  if (name === "bullmq") return "ioredis";
  return name.startsWith("@") ? name.split("/", 1)[0]! : name;
}

describe("adapters", () => {
  const files = sourcesOf("adapters");
  const folderOf = (path: string): string => path.split("/").slice(0, 4).join("/");

  test("each file drives at most one vendor's library", () => {
    const wrong = files.flatMap((file) => {
      const vendors = importsOf(file)
        .map((one) => one.package)
        .filter((name) => name !== null && name !== "node:" && !name.startsWith("@docyard/"))
        .filter((name) => !TABLES.includes(name!))
        .map((name) => libraryOf(name!));
      return new Set(vendors).size > 1 ? [`${file}: ${[...new Set(vendors)].join(", ")}`] : [];
    });
    expect(wrong).toEqual([]);
  });

  test("a port's drivers know no other port's", () => {
    const isShared = (path: string): boolean => path.split("/").length === 4;
    const wrong = files
      .filter(
        (file) => !isShared(file) && !file.includes("/src/testing") && !file.includes("/src/conformance/"),
      )
      .flatMap(importsOf)
      .filter(
        (one) =>
          one.package === null && !isShared(targetOf(one)) && folderOf(targetOf(one)) !== folderOf(one.file),
      );
    expect(said(wrong)).toEqual([]);
  });

  test("only the conformance suites know a test runner", () => {
    const wrong = files
      .flatMap(importsOf)
      .filter((one) => one.package === "vitest" && !one.file.includes("/src/conformance/"));
    expect(said(wrong)).toEqual([]);
  });
});

describe("server", () => {
  test("neither face imports the other", () => {
    const faces = ["machine", "studio"];
    const faceOf = (path: string): string | undefined =>
      faces.find((face) => /\/([a-z]+)/.exec(path.slice("packages/server/src".length))?.[1] === face);
    const wrong = sourcesOf("server")
      .flatMap(importsOf)
      .filter((one) => {
        if (one.package !== null) return false;
        const [from, to] = [faceOf(one.file), faceOf(targetOf(one))];
        return from !== undefined && to !== undefined && from !== to;
      });
    expect(said(wrong)).toEqual([]);
  });
});

describe("everywhere", () => {
  const everySource = PACKAGES.flatMap(sourcesOf);
  const everyFile = [...everySource, ...filesIn("tests/**/*.ts"), ...filesIn("examples/**/*.ts")];

  test("only the command line's configuration reads the environment", () => {
    const environment =
      /\bprocess\s*\??\.\s*env\b|\bprocess\s*\[\s*["'`]env|\{[^{}]*\benv\b[^{}]*\}\s*=\s*process\b|from "node:process"|import\.meta\.env/;
    const readers = everySource.filter((file) => environment.test(withoutComments(read(file))));
    expect(readers).toEqual(["packages/cli/src/config.ts"]);
  });

  test("nothing imports the command line", () => {
    const wrong = everyFile.flatMap(importsOf).filter((one) => one.package === "@docyard/cli");
    expect(said(wrong.filter((one) => !one.file.startsWith("tests/")))).toEqual([]);
  });

  test("every file says at its top what it is for", () => {
    const wrong = everyFile.filter((file) => {
      const header = /^\/\*\*([^]*?)\*\//
        .exec(read(file))?.[1]
        ?.replaceAll(/\s*\*\s+/g, " ")
        .trim();
      return header === undefined || header.length < 40 || !header.includes(".");
    });
    expect(wrong).toEqual([]);
  });

  test("other packages are imported by their public names, and each name is a file", () => {
    const wrong = everyFile.flatMap(importsOf).filter((one) => {
      if (one.package?.startsWith("@docyard/") !== true) return false;
      return !isFile(exported(one.specifier) ?? "nowhere");
    });
    expect(said(wrong)).toEqual([]);
  });

  test("nobody reaches into a package's folder from outside", () => {
    const wrong = everyFile.flatMap(importsOf).filter((one) => {
      if (one.package !== null)
        return /\/(?:dist|src)\//.test(one.specifier) && one.package.startsWith("@docyard/");
      const owner = /^packages\/[^/]+\//.exec(targetOf(one))?.[0];
      // What has no public name is tested where it is.
      if (owner !== undefined && one.file.startsWith("tests/")) return PUBLIC.has(targetOf(one));
      return owner !== undefined && !one.file.startsWith(owner);
    });
    expect(said(wrong)).toEqual([]);
  });

  test("every export has a source, and its built files have the source's name", () => {
    for (const name of PACKAGES) {
      const { exports = {}, bin = {} } = manifestOf(name);
      expect(Object.keys(exports).length, `exports of ${name}`).toBeGreaterThan(0);
      for (const [subpath, targets] of Object.entries(exports)) {
        const source = targets["docyard-src"]!;
        expect(source, `${name} ${subpath}`).toMatch(/^\.\/src\/.+\.ts$/);
        const built = source.replace("./src/", "./dist/");
        expect(targets["types"]).toBe(built.replace(/\.ts$/, ".d.ts"));
        expect(targets["default"]).toBe(built.replace(/\.ts$/, ".js"));
        const files = filesIn(`packages/${name}/${source.slice(2).replaceAll("*", "**/*")}`);
        expect(files.length, `${name} ${subpath}`).toBeGreaterThan(0);
      }
      for (const path of Object.values(bin)) expect(isFile(join(`packages/${name}`, path))).toBe(true);
    }
  });

  test("files stay small enough to read in one go", () => {
    // Conformance suites are tables: one case after the other, in no need of being read at once.
    const long = everySource.filter(
      (file) => !file.includes("/conformance/") && read(file).split("\n").length > 600,
    );
    expect(long).toEqual([]);
  });

  test("nothing is left to do later", () => {
    const later = /\b(?:TODO|FIXME|XXX|HACK)\b|\b(?:test|it|describe)\.(?:skip|only|todo|fails)\(/;
    const self = "tests/core/architecture.test.ts";
    expect(everyFile.filter((file) => file !== self && later.test(read(file)))).toEqual([]);
  });
});

/** Every file with a public name. */
const PUBLIC: ReadonlySet<string> = new Set(
  PACKAGES.flatMap((name) =>
    Object.values(manifestOf(name).exports ?? {}).map((targets) =>
      join(`packages/${name}`, targets["docyard-src"]!).split(sep).join("/"),
    ),
  ),
);

/** Where our own specifier leads, by the manifest's exports; null if it is not exported. */
function exported(specifier: string): string | null {
  const [, name, ...rest] = specifier.split("/");
  if (name === undefined || !PACKAGES.includes(name)) return null;
  const subpath = rest.length === 0 ? "." : `./${rest.join("/")}`;
  for (const [pattern, targets] of Object.entries(manifestOf(name).exports ?? {})) {
    const [prefix, suffix] = pattern.split("*");
    const isMatch =
      suffix === undefined ? subpath === pattern : subpath.startsWith(prefix!) && subpath.endsWith(suffix);
    if (!isMatch) continue;
    const part = suffix === undefined ? "" : subpath.slice(prefix!.length, subpath.length - suffix.length);
    return join(`packages/${name}`, targets["docyard-src"]!.replace("*", part)).split(sep).join("/");
  }
  return null;
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, "");
}
