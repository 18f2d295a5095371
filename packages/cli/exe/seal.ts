/**
 * Makes the executable: Node, stripped, with the bundle and its assets inside, by @yao-pkg/pkg's simple SEA mode.
 * pkg is handed everything it would fetch; the same input gives the same bytes, which the odd paths below are for.
 */

import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, rename, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { SeaOptions } from "@yao-pkg/pkg/lib-es5/sea.js";
import type { Bundle } from "./bundle.ts";
import { compiledCode } from "./compiled.ts";
import { COMPILED_ASSET, PROGRAM_ASSET } from "./script.ts";
import { REFERENCE_ASSET } from "../src/reference.ts";
import { MEDIA_ASSET, SQLITE_ASSET } from "../src/sea.ts";
import { baseOf, NODE_VERSION, type Target } from "./targets.ts";

const execFileAsync = promisify(execFile);
const require = createRequire(import.meta.url);

/** The name of the script that Node runs: stack traces show it. */
const START = "start.cjs";
/** pkg makes a folder of its own in the temporary one and works there; from it, the script is always here. */
const START_FROM_PKG = `../${START}`;

/** Writes the executable to `out`, whole or not at all; `folder` is for what is needed on the way and is not cleaned. */
export async function seal(target: Target, bundle: Bundle, folder: string, out: string): Promise<void> {
  const files = {
    start: join(folder, START),
    warm: join(folder, "warm.cjs"),
    program: join(folder, PROGRAM_ASSET),
    compiled: join(folder, COMPILED_ASSET),
    mediaWorker: join(folder, MEDIA_ASSET),
    reference: join(folder, REFERENCE_ASSET),
    addon: addonOf(target),
  };
  await writeFile(files.start, bundle.start);
  await writeFile(files.warm, bundle.warm);
  await writeFile(files.program, bundle.program);
  await writeFile(files.mediaWorker, bundle.mediaWorker);
  await writeFile(files.reference, bundle.reference);
  // Compiled code suits the processor that it was compiled on.
  await writeFile(files.compiled, target.isHost ? await compiledCode(files, folder) : "");

  const base = await baseOf(target, folder);
  await chmod(base, 0o755);
  if (target.platform === "linux") await strip(base);
  const made = join(folder, target.file);
  await inject(target, { base, folder, made, files });
  await chmod(made, 0o755);
  await copyFile(made, `${out}.part`);
  await rename(`${out}.part`, out);
}

/** Puts the start script and the assets into a copy of Node. */
async function inject(
  target: Target,
  paths: {
    readonly base: string;
    readonly folder: string;
    readonly made: string;
    readonly files: Readonly<
      Record<"start" | "program" | "compiled" | "mediaWorker" | "reference" | "addon", string>
    >;
  },
): Promise<void> {
  const { base, folder, made, files } = paths;
  const { platform, arch, isHost } = target;
  const { default: sea } = require("@yao-pkg/pkg/lib-es5/sea.js") as {
    default: (entry: string, options: SeaOptions) => Promise<void>;
  };
  if (!isHost) await seedCache(target, base, folder);
  const seaConfig = {
    // Node keeps this path in the file, so it must not name a folder of this machine.
    main: START_FROM_PKG,
    useCodeCache: false,
    useSnapshot: false,
    disableExperimentalSEAWarning: true,
    // No flags from the environment of whoever starts it.
    execArgvExtension: "none",
    assets: {
      [PROGRAM_ASSET]: files.program,
      [COMPILED_ASSET]: files.compiled,
      [MEDIA_ASSET]: files.mediaWorker,
      [REFERENCE_ASSET]: files.reference,
      [SQLITE_ASSET]: files.addon,
    },
  };
  await withEnvironment({ TMPDIR: folder, HOME: folder }, () =>
    sea(files.start, {
      targets: [{ nodeRange: `node${NODE_VERSION}`, platform, arch, output: made }],
      // Only where it runs: pkg asks it for its version.
      ...(isHost ? { nodePath: base } : {}),
      // macOS runs nothing unsigned; Windows may be signed afterwards.
      signature: platform === "macos",
      seaConfig,
    }),
  );
}

function addonOf({ addon }: Target): string {
  return join(dirname(require.resolve("better-sqlite3/package.json")), "prebuilds", addon);
}

/** 18 MB less, and nothing is lost but names for debuggers; a machine without the tool builds the larger file. */
async function strip(file: string): Promise<void> {
  for (const tool of ["llvm-strip", "strip"]) {
    try {
      await execFileAsync(tool, ["--strip-all", file]);
      return;
    } catch {
      // Not there, or not for this processor.
    }
  }
}

/** pkg looks for other systems' Nodes in its cache before it downloads them: it finds ours there. */
async function seedCache({ platform, arch }: Target, base: string, home: string): Promise<void> {
  const name = `node-v${NODE_VERSION}-${platform}-${arch}`;
  const cache = join(home, ".pkg-cache/sea");
  const node = platform === "win" ? join(cache, `${name}.exe`) : join(cache, name, "bin/node");
  const archive = join(cache, `${name}.${platform === "win" ? "zip" : "tar.gz"}`);
  await mkdir(dirname(node), { recursive: true });
  await copyFile(base, node);
  for (const file of [`${node}.ok`, archive, `${archive}.ok`]) await writeFile(file, "");
}

/** With these variables for as long as the work takes: pkg takes its folders from nowhere else. */
async function withEnvironment<T>(
  variables: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    return await work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}
