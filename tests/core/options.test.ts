/** Every option is on the page of options, says what it is, and what it is when it is left out. */

import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { DECLARED, optionsOf, optionsPage } from "./options.ts";

const ROOT = join(import.meta.dirname, "../..");

test("docs/options.md says what the comments say", async () => {
  await expect(optionsPage()).toMatchFileSnapshot(join(ROOT, "docs/options.md"));
});

test.each(DECLARED)("$title: what may be left out says what it is then", ({ file, type }) => {
  const options = optionsOf(file, type);
  expect(options.length).toBeGreaterThan(0);
  // `Settings` is the complete form: each may be left out of its input.
  const isInput = !["Settings", "IngestSettings", "IngestPorts"].includes(type);
  const mute = options.filter(({ isRequired, text }) => isInput && !isRequired && !/\bdefault\b/i.test(text));
  expect(mute).toEqual([]);
  const short = options.filter(({ text }) => text.length < 6);
  expect(short).toEqual([]);
});

test("every factory with options that has a public name is among them", () => {
  const { exports } = JSON.parse(readFileSync(join(ROOT, "packages/adapters/package.json"), "utf8")) as {
    readonly exports: Readonly<Record<string, { readonly "docyard-src": string }>>;
  };
  const sources = [
    ...Object.values(exports).map((targets) => join("packages/adapters", targets["docyard-src"])),
    ...globSync("packages/{core,server}/src/*.ts", { cwd: ROOT }),
  ].filter((path) => !/conformance|probe|mediabunny-worker/.test(path));
  const factories = sources.flatMap((path) => {
    const text = readFileSync(join(ROOT, path), "utf8");
    const isPublic = path.includes("adapters");
    const made = text.matchAll(
      /^export (?:async )?function (\w+)(?:<[^(]*)?\(\s*(?:\w+: \w+,\s*)?(?:\{[^)]*\}|options): (\w+Options)\b/gm,
    );
    return Array.from(made, ([, name]) => name!).filter(
      (name) => isPublic || ["createDocyard", "createApp"].includes(name),
    );
  });
  // A migration opens what its store does, with the same options.
  const wanted = factories.filter((name) => name !== "migrate");
  expect(wanted.length).toBeGreaterThan(12);
  expect(wanted.filter((name) => !DECLARED.some(({ factory }) => factory === name))).toEqual([]);
});
