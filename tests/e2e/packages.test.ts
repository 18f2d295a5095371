/**
 * The packages as they would be published: packed, judged by publint and attw, and used in a project outside of this
 * workspace. By default that project finds third-party packages where this workspace has them; the full run installs
 * everything with npm.
 */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { mkdir, readFile, realpath, rename, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { build, tempFolder } from "./program.ts";

const ROOT = join(import.meta.dirname, "../..");
const NAMES = ["core", "adapters", "server", "client", "cli"] as const;
const run = promisify(execFile);
const isFull = process.env["DOCYARD_TEST_FULL"] === "1";
/** As the README says to set the workspace up. */
const PNPM = ["--yes", "pnpm@12.21.0"];

interface Manifest {
  readonly name: string;
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

let folder: Awaited<ReturnType<typeof tempFolder>>;
/** By package, the packed file. */
const tarballs = new Map<string, string>();
let project: string;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  const packed = join(folder.path, "packed");
  await mkdir(packed);
  await run(
    "npx",
    [...PNPM, "--recursive", "--filter", "./packages/*", "pack", "--pack-destination", packed],
    {
      cwd: ROOT,
    },
  );
  const { version } = manifestOf("core") as unknown as { readonly version: string };
  for (const name of NAMES) tarballs.set(name, join(packed, `docyard-${name}-${version}.tgz`));
  project = join(folder.path, "project");
  await mkdir(join(project, "node_modules"), { recursive: true });
  await (isFull ? install() : link());
}, 300_000);
afterAll(() => folder?.remove());

function manifestOf(name: string): Manifest {
  return JSON.parse(readFileSync(join(ROOT, "packages", name, "package.json"), "utf8")) as Manifest;
}

/** What a user does. */
async function install(): Promise<void> {
  const dependencies = Object.fromEntries(
    NAMES.map((name) => [`@docyard/${name}`, `file:${tarballs.get(name)!}`]),
  );
  const manifest = { private: true, type: "module", dependencies, overrides: dependencies };
  await writeFile(join(project, "package.json"), JSON.stringify(manifest));
  await run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund"], { cwd: project });
  await linkForTypes();
}

/** The same from what is at hand: our packages as they were packed, and what they depend on, each from where it is. */
async function link(): Promise<void> {
  await writeFile(join(project, "package.json"), '{ "private": true, "type": "module" }\n');
  for (const name of NAMES) {
    const unpacked = join(folder.path, "unpacked", name);
    await mkdir(unpacked, { recursive: true });
    await run("tar", ["-xzf", tarballs.get(name)!, "-C", unpacked]);
    const place = join(project, "node_modules/@docyard", name);
    await mkdir(dirname(place), { recursive: true });
    await rename(join(unpacked, "package"), place);
    const { dependencies = {} } = JSON.parse(await readFile(join(place, "package.json"), "utf8")) as Manifest;
    const others = Object.keys(dependencies).filter((one) => !one.startsWith("@docyard/"));
    for (const one of others) await linkFrom(join(ROOT, "packages", name), one);
  }
  await linkForTypes();
}

/** What every TypeScript project on Node has, and what the conformance suites ask for. */
async function linkForTypes(): Promise<void> {
  for (const one of ["@types/node", "vitest"]) await linkFrom(ROOT, one);
}

async function linkFrom(home: string, name: string): Promise<void> {
  const place = join(project, "node_modules", name);
  await mkdir(dirname(place), { recursive: true });
  await symlink(await realpath(join(home, "node_modules", name)), place, "dir").catch((error: unknown) => {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  });
}

/** A tool of this workspace, without its colours. */
async function tool(path: string, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run(process.execPath, [join(ROOT, "node_modules", path), ...args], {
    env: { PATH: process.env["PATH"]!, NO_COLOR: "1" },
  }).catch((error: { stdout: string; stderr: string }) => {
    throw new Error(`${path} ${args.join(" ")}\n${error.stdout}${error.stderr}`);
  });
  return stdout + stderr;
}

describe.each(NAMES)("%s", (name) => {
  test("says what it is and for whom, and depends on nothing of this workspace's own words", async () => {
    const packed = JSON.parse(
      await readFile(join(project, "node_modules/@docyard", name, "package.json"), "utf8"),
    ) as Manifest;
    expect(packed).toMatchObject({
      name: `@docyard/${name}`,
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      description: expect.stringMatching(/.{30}/),
      keywords: expect.arrayContaining(["docyard"]),
      license: "Apache-2.0",
      type: "module",
      sideEffects: expect.anything(),
      engines: { node: expect.stringMatching(/^>=\d+$/) },
    });
    expect(packed).not.toHaveProperty("repository");
    expect(JSON.stringify(packed.dependencies ?? {})).not.toMatch(/workspace:|catalog:/);
    const files = globSync("**/*", { cwd: join(project, "node_modules/@docyard", name) });
    expect(files).toEqual(expect.arrayContaining(["README.md", "LICENSE", "package.json"]));
    expect(files.filter((file) => /tsbuildinfo|\.test\.|node_modules|\.tgz$/.test(file))).toEqual([]);
  });

  test("is found right by publint", async () => {
    expect(await tool("publint/src/cli.js", "run", tarballs.get(name)!, "--strict")).toContain("All good!");
  });

  test("its types are found wherever its code is", async () => {
    const said = await tool(
      "@arethetypeswrong/cli/dist/index.js",
      tarballs.get(name)!,
      "--profile",
      "esm-only",
    );
    expect(said).toContain(`@docyard/${name}`);
  });
});

describe("in a project of its own", () => {
  test("every public name can be imported, and nothing else", async () => {
    const names = NAMES.filter((name) => name !== "cli").flatMap((name) =>
      Object.keys(manifestOf(name).exports).map((subpath) => `@docyard/${name}${subpath.slice(1)}`),
    );
    // Suites need a runner around them; a worker is no module to be imported.
    const loaded = names.filter((name) => !/\/conformance\/|-worker$/.test(name));
    expect(loaded.length).toBeGreaterThan(20);
    const internals = [
      "adapters/store/sql-find",
      "adapters/blob/disk-io",
      "adapters/src/local.ts",
      "core/src/id.ts",
    ].map((path) => `@docyard/${path}`);
    const code = `
      for (const name of ${JSON.stringify(loaded)}) {
        const exported = Object.keys(await import(name));
        if (exported.length === 0) throw new Error(name + " exports nothing");
      }
      for (const name of ${JSON.stringify(internals)}) {
        const { code } = await import(name).catch((error) => error);
        if (code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") throw new Error(name + ": " + code);
      }`;
    await writeFile(join(project, "names.js"), code);
    await run(process.execPath, ["names.js"], { cwd: project });
  });

  test.each([
    ["package", () => join(project, "node_modules/@docyard/adapters/dist/store/sqlite-worker.js")],
    ["bundle", () => join(ROOT, "packages/cli/dist/bundle/sqlite-worker.js")],
  ])("the thread that writes is in the %s, and begins", async (_, file) => {
    const writer = new Worker(file(), {
      workerData: { file: join(project, "thread.db") },
      execArgv: [],
      env: {},
    });
    expect(await once(writer, "message")).toEqual(["ready"]);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    writer.postMessage("close");
    expect(await once(writer, "exit")).toEqual([0]);
  });

  test("the whole job is done in process, on SQLite and a disk", async () => {
    await writeFile(join(project, "job.js"), JOB);
    const { stdout } = await run(process.execPath, ["job.js"], { cwd: project });
    expect(JSON.parse(stdout)).toEqual({
      uploaded: { filename: "report.txt", isDuplicate: false },
      again: true,
      listed: [{ filename: "report.txt", text: "Blood count: fine." }],
      files: ["data", "docyard.db"],
    });
  });

  test("the command is there", async () => {
    const bin = join(project, "node_modules/@docyard/cli/bin/docyard-server.js");
    const { stdout } = await run(process.execPath, [bin, "--help"], { cwd: project });
    expect(stdout).toContain("docyard-server");
    expect(stdout).toContain("--public-url");
  });

  test.each([
    ["nodenext", "nodenext"],
    ["bundler", "esnext"],
  ])(
    "all types hold under moduleResolution %s, those of dependencies too",
    async (moduleResolution, module) => {
      const place = join(project, moduleResolution);
      await mkdir(place);
      const names = NAMES.flatMap((name) =>
        Object.keys(manifestOf(name).exports).map((subpath) => `@docyard/${name}${subpath.slice(1)}`),
      );
      const imports = names.map((name, at) => `export * as n${at} from "${name}";\n`).join("");
      await writeFile(join(place, "names.ts"), imports);
      // The program of the test above, as TypeScript.
      await writeFile(join(place, "job.ts"), JOB);
      const compilerOptions = {
        module,
        moduleResolution,
        target: "es2024",
        lib: ["es2024"],
        types: ["node"],
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        noEmit: true,
        skipLibCheck: false,
      };
      await writeFile(
        join(place, "tsconfig.json"),
        JSON.stringify({ compilerOptions, files: ["names.ts", "job.ts"] }),
      );
      expect(await tool("typescript/bin/tsc", "-p", place)).toBe("");
    },
  );
});

/** Valid JavaScript and strict TypeScript alike. */
const JOB = `
import { readdir, rm } from "node:fs/promises";
import { localDocyard } from "@docyard/adapters/local";
import { createClient } from "@docyard/client";
import { createApp } from "@docyard/server";

const baseUrl = "http://docyard.test/files";
const yard = await localDocyard({ folder: "yard", publicUrl: baseUrl });
const background = yard.docyard.runInBackground();
const made = await yard.provisioning.firstRun();
if (made === null) throw new Error("this is not the first run");
const app = createApp({ ...yard, version: "1.0.0" });
const client = createClient({
  baseUrl,
  clientId: made.client.clientId,
  clientSecret: made.clientSecret,
  fetch: (request) => app.fetch(new Request(request.url.replace("/files", ""), request)),
});
const dock = client.dock(made.dock.id);
const options = { filename: "report.txt", metadata: { patientId: "12345" } };
const { filename, isDuplicate } = await dock.upload("Blood count: fine.", options);
const again = await dock.upload("Blood count: fine.", options);
const listed = [];
for await (const found of dock.artifacts({ metadata: { patientId: "12345" } })) {
  listed.push({ filename: found.filename, text: await (await dock.download(found)).text() });
}
await background.stop();
await yard.close();
const files = (await readdir("yard")).toSorted();
await rm("yard", { recursive: true });
console.log(JSON.stringify({ uploaded: { filename, isDuplicate }, again: again.isDuplicate, listed, files }));
`;
