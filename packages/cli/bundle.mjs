/**
 * Bundles the built program into `dist/bundle`: a server that reads a dozen files starts in half the time of one that
 * reads a thousand. Drivers stay chunks of their own, loaded when they are chosen; the launcher decides when it is used.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { packedReference } from "./reference.mjs";
import { standIns } from "./stand-ins.mjs";

const dist = fileURLToPath(new URL("dist/", import.meta.url));
const finished = `${dist}bundle`;
const outdir = `${finished}-${process.pid}`;
const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

/**
 * `await import("library")` gives a CommonJS library's names in Node and loses them in a chunk. So the chunk becomes a
 * module that exports by name what Node says is there.
 *
 * @type {import("esbuild").Plugin}
 */
const namesOfLibrariesOnDemand = {
  name: "names of libraries on demand",
  setup(bundle) {
    bundle.onResolve({ filter: /^[^.]/ }, ({ kind, path, importer, resolveDir }) =>
      kind !== "dynamic-import" || path.startsWith("node:") || path.startsWith("@docyard/")
        ? null
        : { path, namespace: "on-demand", pluginData: { importer, resolveDir } },
    );
    bundle.onLoad(
      { filter: /./, namespace: "on-demand" },
      async ({ path, pluginData: { importer, resolveDir } }) => {
        const library = await import(pathToFileURL(createRequire(importer).resolve(path)).href);
        const names = Object.keys(library).filter((name) => name !== "default" && IDENTIFIER.test(name));
        return { contents: `export { ${names.join(", ")} } from ${JSON.stringify(path)};`, resolveDir };
      },
    );
  },
};

await build({
  entryPoints: {
    main: `${dist}main.js`,
    // Threads, which their drivers look for beside themselves.
    "sqlite-worker": fileURLToPath(import.meta.resolve("@docyard/adapters/store/sqlite-worker")),
    "mediabunny-worker": fileURLToPath(import.meta.resolve("@docyard/adapters/media/mediabunny-worker")),
  },
  outdir,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node24",
  legalComments: "external",
  logLevel: "warning",
  plugins: [standIns, namesOfLibrariesOnDemand],
  // Compiled addons: one we need, and three that their libraries do without.
  external: ["better-sqlite3", "pg-native", "msgpackr-extract", "bufferutil"],
  // CommonJS inside the bundle asks for Node's own modules with `require`.
  banner: {
    js: 'import { createRequire as createRequireHere } from "node:module"; const require = createRequireHere(import.meta.url);',
  },
});
await writeFile(`${outdir}/reference.js.gz`, (await packedReference()).bytes);
// Whole or not at all: a launcher must not find half of it.
await rm(finished, { recursive: true, force: true });
await rename(outdir, finished);
await startOnce();

/** One start and stop leaves the compiled code for all that follow. */
async function startOnce() {
  const folder = await mkdtemp(join(tmpdir(), "docyard-bundle-"));
  const launcher = fileURLToPath(new URL("bin/docyard-server.js", import.meta.url));
  try {
    await rm(`${dist}.compiled`, { recursive: true, force: true });
    const server = spawn(process.execPath, [launcher, "--port", "0", "--log-level", "error"], {
      cwd: folder,
      stdio: ["ignore", "pipe", "inherit"],
    });
    server.stdout.once("data", () => server.kill("SIGTERM"));
    const [code] = await once(server, "exit");
    if (code !== 0) throw new Error(`the bundle was started once, and ended with ${code}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
