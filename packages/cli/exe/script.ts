/**
 * How the program is compiled inside an executable: one script, and the code that V8 made of it when the executable was
 * built. In a file of its own, because V8 takes that code only if it is asked in exactly the same way.
 */

import { Script } from "node:vm";
import { fetchClasses, type FetchClasses } from "./fetch-classes.ts";

/** Names of the assets. */
export const PROGRAM_ASSET = "docyard-server.cjs";
export const COMPILED_ASSET = "docyard-server.compiled";

/** What the bundle is wrapped in: what a CommonJS module is handed, and the classes of fetch-classes.ts. */
export const WRAPPER = [
  "(function (require, module, exports, __filename, __dirname, fetchClasses) {",
  "\n})",
] as const;

export type Program = (
  require: (id: string) => unknown,
  module: { exports: object },
  exports: object,
  filename: string,
  folder: string,
  classes: FetchClasses,
) => void;

/** Nothing runs yet. */
export function compile(program: Uint8Array, compiled?: Buffer): Script {
  // One byte for each character, as the bundler writes it: V8 can keep it as it is.
  const text = Buffer.from(program.buffer, program.byteOffset, program.byteLength).toString("latin1");
  return new Script(text, {
    filename: PROGRAM_ASSET,
    ...(compiled === undefined ? {} : { cachedData: compiled }),
  });
}

/** Runs it as if it were the file `filename` in `folder`. */
export function run(
  script: Script,
  { require, filename, folder }: { require: (id: string) => unknown; filename: string; folder: string },
): void {
  const module = { exports: {} };
  const program = script.runInThisContext() as Program;
  program(require, module, module.exports, filename, folder, fetchClasses());
}
