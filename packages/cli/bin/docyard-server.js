#!/usr/bin/env node
// better-sqlite3 needs Node-API 10: an older Node would die at the first query without a word. So an older one looks for
// the Node that is installed beside this program, and hands over to it; signals and the exit code pass through.
import { spawn } from "node:child_process";
import { existsSync, realpathSync, statSync } from "node:fs";
import module from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const NODE_API_MIN = 10;
const here = dirname(realpathSync(fileURLToPath(import.meta.url)));
const isNewEnough = Number(process.versions.napi) >= NODE_API_MIN;
const newer = isNewEnough ? null : findNewerNode();

if (isNewEnough) {
  await runHere();
} else if (newer === null) {
  console.error(`docyard-server: needs Node 24 or newer; this is Node ${process.versions.node}.`);
  process.exitCode = 1;
} else {
  handOver(newer);
}

async function runHere() {
  const built = join(here, "../dist/main.js");
  if (!existsSync(built)) {
    console.error("docyard-server: not built yet; run `npm run build` at the root of the workspace.");
    process.exitCode = 1;
    return;
  }
  const bundle = join(here, "../dist/bundle/main.js");
  // Compiled code is kept beside the program, where only its owner writes; elsewhere this does nothing.
  module.enableCompileCache?.(join(here, "../dist/.compiled"));
  const { main } = await import(pathToFileURL(isFresh(bundle) ? bundle : built).href);
  await main(process.argv.slice(2));
}

/** The bundle starts in half the time, and is used unless a package has been built again since it was made. */
function isFresh(bundle) {
  const madeAt = statSync(bundle, { throwIfNoEntry: false })?.mtimeMs ?? Number.NEGATIVE_INFINITY;
  return ["core", "adapters", "server", "cli"].every((name) => {
    const build = statSync(join(here, `../../${name}/dist/.tsbuildinfo`), { throwIfNoEntry: false });
    return madeAt >= (build?.mtimeMs ?? 0);
  });
}

/** The workspace installs Node as a package: in the `node_modules` of a folder above this file, or none. */
function findNewerNode() {
  for (let folder = here; ; folder = dirname(folder)) {
    for (const name of [`node-${process.platform}-${process.arch}/bin/node`, ".bin/node"]) {
      const file = join(folder, "node_modules", name);
      if (existsSync(file) && realpathSync(file) !== realpathSync(process.execPath))
        return realpathSync(file);
    }
    if (folder === dirname(folder)) return null;
  }
}

function handOver(node) {
  const child = spawn(node, [join(here, "docyard-server.js"), ...process.argv.slice(2)], {
    stdio: "inherit",
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"]) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("error", (error) => {
    console.error(`docyard-server: cannot start ${node}: ${error.message}`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}
