/**
 * A process of its own: runs the program, told that it is an executable, and writes down, when its input ends, the code
 * that V8 has compiled on the way. `compiled.ts` bundles and starts it, gives it something to do, and judges what comes out.
 *
 * Arguments: PROGRAM ADDON MEDIA-WORKER OUT. Working directory: an empty folder.
 */

import { readFileSync, writeFileSync } from "node:fs";
import * as v8 from "node:v8";
import { MEDIA_ASSET, SQLITE_ASSET } from "../src/sea.ts";
import { compile, run } from "./script.ts";

const [programFile = "", addonFile = "", workerFile = "", out = ""] = process.argv.slice(2);
const script = compile(readFileSync(programFile));

const fileOf = new Map([
  [SQLITE_ASSET, addonFile],
  [MEDIA_ASSET, workerFile],
]);
/** What the program finds inside an executable. */
const sea = {
  isSea: () => true,
  getRawAsset: (name: string) => new Uint8Array(readFileSync(fileOf.get(name)!)).buffer,
  getAsset: (name: string) => readFileSync(fileOf.get(name)!, "utf8"),
};
/**
 * Left alone, V8 drops code, moves it and writes it down with whatever lay in that memory before, at times of its own
 * choosing. Both ways, since code is only taken by a process with the same settings.
 */
const STEADY = ["memory-reducer", "incremental-marking", "flush-bytecode", "opt", "parallel-scavenge"];
for (const flag of STEADY) v8.setFlagsFromString(`--no-${flag}`);
const modules: Readonly<Record<string, unknown>> = {
  "node:sea": sea,
  // For the same reason the program may change none.
  "node:v8": { ...v8, setFlagsFromString: () => undefined },
};

process.argv.splice(1, Infinity, process.execPath, "--port", "0", "--json", "--log-level", "error");
process.stdin
  .once("end", () => {
    for (const flag of STEADY) v8.setFlagsFromString(`--${flag}`);
    writeFileSync(out, script.createCachedData());
    process.exit(0);
  })
  .resume();

run(script, {
  require: (id) => modules[id] ?? (require(id) as unknown),
  filename: process.execPath,
  folder: process.cwd(),
});
