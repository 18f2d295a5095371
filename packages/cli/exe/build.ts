/**
 * `pnpm exe [--target NAME]… [--all] [--out DIR]`: makes executables and what is published beside them: a bill of
 * materials each, licence texts, the manual page, and SHA-256 sums of all of it. Fails when one that was asked for
 * cannot be made.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { reasonOf } from "../src/failure.ts";
import { VERSION } from "../src/version.ts";
import { type Bundle, bundle, ROOT } from "./bundle.ts";
import { billOfMaterials, licenseTexts, type Package, packagesOf } from "./sbom.ts";
import { seal } from "./seal.ts";
import { hostTarget, NODE_VERSION, type Target, TARGET_NAMES, type TargetName, targetOf } from "./targets.ts";

const SUMS = "SHA256SUMS";
const MANUAL = "docyard-server.1";
const LICENSES = "docyard-server.LICENSES.txt";

const execFileAsync = promisify(execFile);

try {
  await main();
} catch (error) {
  console.error(`exe: ${reasonOf(error)}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  if (process.versions.node !== NODE_VERSION) {
    throw new Error(
      `executables are made by Node ${NODE_VERSION}, of which they become part; this is ${process.versions.node}`,
    );
  }
  const { targets, out } = asked();
  await mkdir(out, { recursive: true });
  const parts = await bundle();
  const packages = await packagesOf(parts);
  await write(join(out, LICENSES), await licenseTexts(parts, packages));

  await write(join(out, MANUAL), await manual());

  for (const target of targets) {
    try {
      await make(target, parts, packages, out);
    } catch (error) {
      console.error(`exe: ${target.name} is not made: ${reasonOf(error)}`);
      process.exitCode = 1;
    }
  }
  await writeSums(out);
}

/** As the program itself prints it. */
async function manual(): Promise<string> {
  const entry = fileURLToPath(new URL("entry.ts", import.meta.url));
  const { stdout } = await execFileAsync(process.execPath, ["--conditions=docyard-src", entry, "man"]);
  return stdout;
}

/** @throws Error for words that mean nothing. */
function asked(): { readonly targets: readonly Target[]; readonly out: string } {
  const { values } = parseArgs({
    options: {
      target: { type: "string", multiple: true },
      all: { type: "boolean" },
      out: { type: "string", default: join(ROOT, "dist") },
    },
  });
  const names = values.all === true ? TARGET_NAMES : (values.target ?? [hostTarget().name]);
  for (const name of names) {
    if (!TARGET_NAMES.includes(name as TargetName)) {
      throw new Error(`there is no target ${name} (choose from: ${TARGET_NAMES.join(", ")})`);
    }
  }
  return { targets: names.map((name) => targetOf(name as TargetName)), out: resolve(values.out) };
}

async function make(target: Target, parts: Bundle, packages: readonly Package[], out: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "docyard-exe-"));
  try {
    const file = join(out, target.file);
    await seal(target, parts, folder, file);
    const bytes = await readFile(file);
    const digest = createHash("sha256").update(bytes).digest("hex");
    const bill = billOfMaterials(parts, packages, { file: target.file, version: VERSION, digest });
    await write(join(out, `${target.file}.cdx.json`), `${JSON.stringify(bill, null, 2)}\n`);
    console.log(`${relative(process.cwd(), file)}  ${(bytes.length / 1e6).toFixed(1)} MB  sha256:${digest}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** As `sha256sum --check` reads them; executables of earlier runs are among them. */
async function writeSums(out: string): Promise<void> {
  const names = (await readdir(out)).filter(
    (name) => name.startsWith("docyard-server") && !name.endsWith(".part"),
  );
  const lines = await Promise.all(
    names.sort().map(async (name) => {
      const digest = createHash("sha256").update(await readFile(join(out, name)));
      return `${digest.digest("hex")}  ${name}\n`;
    }),
  );
  await write(join(out, SUMS), lines.join(""));
}

/** Whole or not at all. */
async function write(file: string, text: string): Promise<void> {
  await writeFile(`${file}.part`, text);
  await rename(`${file}.part`, file);
}
