/**
 * What Node runs first inside an executable: takes the program and its compiled code out of the assets, and runs it.
 * Node's own way (`useCodeCache`) keeps only what is compiled before anything has run, and no two builds alike.
 */

import { dirname } from "node:path";
import { getRawAsset } from "node:sea";
import { COMPILED_ASSET, compile, PROGRAM_ASSET, run } from "./script.ts";

// No copies: both lie in the executable, which the system has mapped into memory.
const program = new Uint8Array(getRawAsset(PROGRAM_ASSET));
const compiled = Buffer.from(getRawAsset(COMPILED_ASSET));

run(compile(program, compiled.length === 0 ? undefined : compiled), {
  require,
  filename: process.execPath,
  folder: dirname(process.execPath),
});
