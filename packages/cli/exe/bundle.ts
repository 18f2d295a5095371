/**
 * Bundles the program into one script and the media thread into another, with a list of what went in and the notices
 * that have to travel with it. How the scripts become an executable is seal.ts's.
 */

import { readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { packedReference } from "../reference.mjs";
import { STAND_IN, standIns } from "../stand-ins.mjs";
import { FETCH_NAMES } from "./fetch-classes.ts";
import { WRAPPER } from "./script.ts";
import { build, type BuildOptions, type Metafile, type Plugin } from "esbuild";

/** Libraries ask for these, and do without where they are not there. */
const DONE_WITHOUT = [
  "pg-native",
  "msgpackr-extract",
  "bufferutil",
  "supports-color",
  "@valkey/valkey-glide",
  "@aws-sdk/signature-v4-crt",
];

export interface Bundle {
  /** What Node runs first. */
  readonly start: string;
  /** What is run while building, to see what V8 compiles. */
  readonly warm: string;
  /** What `start` runs: a function expression, as script.ts takes it. */
  readonly program: string;
  /** CommonJS, for a thread of its own. */
  readonly mediaWorker: string;
  /** The script of the page at /docs, packed. */
  readonly reference: Uint8Array;
  /** Every source file that is in one of them, and which file it was asked for by. */
  readonly inputs: Metafile["inputs"];
  /** Legal comments of those files. */
  readonly notices: string;
}

/** Writes nothing. The same sources give the same bytes, wherever they lie. */
export async function bundle(): Promise<Bundle> {
  const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
  const [reference, start, warm, program, worker] = await Promise.all([
    packedReference(),
    one(here("start.ts")),
    one(here("warm.ts")),
    one(here("entry.ts"), PROGRAM),
    one(join(ROOT, "packages/adapters/src/media/mediabunny-worker.ts")),
  ]);
  return {
    start: start.code,
    warm: warm.code,
    program: WRAPPER.join(program.code),
    mediaWorker: worker.code,
    reference: reference.bytes,
    inputs: {
      ...program.inputs,
      ...worker.inputs,
      // Taken as it is: no bundler has seen it.
      [relative(ROOT, reference.file)]: { bytes: reference.bytes.length, imports: [] },
    },
    notices: [program.notices, worker.notices].filter((text) => text !== "").join("\n"),
  };
}

async function one(
  entry: string,
  options: Pick<BuildOptions, "plugins" | "define"> = {},
): Promise<{ readonly code: string; readonly inputs: Metafile["inputs"]; readonly notices: string }> {
  const { outputFiles, metafile } = await build({ ...COMMON, ...options, entryPoints: [entry] });
  const text = (suffix: string): string => outputFiles.find(({ path }) => path.endsWith(suffix))?.text ?? "";
  const bytesOf = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint !== undefined)!.inputs;
  /** A stand-in is no file: whoever asks for it asks for what it stands for. */
  const isStandIn = (path: string): boolean => path.startsWith(`${STAND_IN}:`);
  const behindStandIn = <I extends { readonly path: string }>(one: I) =>
    isStandIn(one.path) ? (metafile.inputs[one.path]?.imports ?? []) : [one];
  const inputs = Object.fromEntries(
    Object.entries(metafile.inputs)
      .filter(([path]) => (bytesOf[path]?.bytesInOutput ?? 0) > 0 && !isStandIn(path))
      .map(([path, input]) => [path, { ...input, imports: input.imports.flatMap(behindStandIn) }]),
  );
  return { code: text(".cjs"), inputs, notices: text(".LEGAL.txt") };
}

/** The root of the workspace: paths in what esbuild says are relative to it. */
export const ROOT: string = fileURLToPath(new URL("../../../", import.meta.url));

const COMMON = {
  absWorkingDir: ROOT,
  bundle: true,
  write: false,
  outdir: join(ROOT, "dist"),
  outExtension: { ".js": ".cjs" },
  platform: "node",
  target: "node24",
  format: "cjs",
  // Sources: nothing has to be built first.
  conditions: ["docyard-src"],
  // Modules of Node are asked for with `require`, too: a script cannot import.
  supported: { "dynamic-import": false },
  minify: true,
  // Names of classes are for no one but `jose`, which calls its errors after them and gives each a code as well. To keep
  // them costs a fifth of the start.
  keepNames: false,
  legalComments: "external",
  metafile: true,
  logLevel: "warning",
  external: DONE_WITHOUT,
  // A script has no `import.meta`.
  define: { "import.meta.url": "importMetaUrl", "import.meta.dirname": "__dirname" },
  banner: { js: 'const importMetaUrl=require("node:url").pathToFileURL(__filename).href;' },
} as const satisfies BuildOptions;

/** @hono/node-server puts its lighter classes where the program's free names are read from, not among Node's globals. */
const nodeServerWithoutGlobals: Plugin = {
  name: "@hono/node-server without globals",
  setup(bundle) {
    const filter = /[\\/]@hono[\\/]node-server[\\/]dist[\\/]index\.mjs$/;
    bundle.onLoad({ filter }, async ({ path }) => ({
      contents: `const global = fetchClasses;\n${await readFile(path, "utf8")}`,
    }));
  },
};

const PROGRAM: Pick<BuildOptions, "plugins" | "define"> = {
  plugins: [standIns, nodeServerWithoutGlobals],
  define: { ...COMMON.define, ...FETCH_NAMES },
};
