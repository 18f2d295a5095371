/**
 * The compiled code that goes into an executable: made by starting the program (warm.ts) until it answers, and taken
 * only if three runs agree on every byte and a fresh process accepts it. Without it a start takes twice as long, and
 * nothing else changes.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { compile } from "./script.ts";

/** V8's seeds are random otherwise, and shape what it writes; the code is taken by processes with any seed. */
const SEED = "--random-seed=1";
/** Runs that must agree; on a busy machine one now and then compiles two functions in another order. */
const AGREEING = 3;
const RUNS_MAX = 12;
const RUN_TIMEOUT_MS = 60_000;
/** Milliseconds between one thing that the program is asked to do and the next, so that each finds it at rest. */
const REST_MS = 300;

export interface Files {
  /** The bundled warm.ts: what Node does to run TypeScript would leave its traces in the memory that V8 writes down. */
  readonly warm: string;
  readonly program: string;
  readonly addon: string;
  readonly mediaWorker: string;
}

/** @throws Error when the runs do not agree, or when V8 does not take its own code back. */
export async function compiledCode(files: Files, folder: string): Promise<Buffer> {
  const seen: Buffer[] = [];
  for (let count = 0; count < RUNS_MAX; count++) {
    const code = await runOnce(files, join(folder, `run-${count}`));
    seen.push(code);
    if (seen.filter((other) => other.equals(code)).length < AGREEING) continue;
    if (compile(await readFile(files.program), code).cachedDataRejected !== false) {
      throw new Error("V8 does not accept the code that it has compiled");
    }
    return code;
  }
  throw new Error(`${RUNS_MAX} runs of the program compiled different code`);
}

async function runOnce({ warm, program, addon, mediaWorker }: Files, folder: string): Promise<Buffer> {
  await mkdir(folder);
  const out = join(folder, "compiled");
  const server = spawn(process.execPath, [SEED, warm, program, addon, mediaWorker, out], {
    cwd: folder,
    timeout: RUN_TIMEOUT_MS,
    killSignal: "SIGKILL",
    stdio: ["pipe", "pipe", "inherit"],
    // Nothing of whoever builds shapes what is compiled.
    // One thread, so that files are opened in one order.
    env: { TMPDIR: folder, UV_THREADPOOL_SIZE: "1" },
  });
  const ended = once(server, "exit") as Promise<[number | null]>;
  try {
    for await (const line of createInterface({ input: server.stdout })) {
      const { url } = JSON.parse(line) as { url: string };
      await sleep(REST_MS);
      const { status } = await fetch(`${url}/v1/healthz`, { headers: { connection: "close" } });
      await sleep(REST_MS);
      if (status !== 200) throw new Error(`the program was started once, and answered ${status}`);
      break;
    }
  } finally {
    server.stdin.end();
  }
  const [code] = await ended;
  if (code !== 0) throw new Error(`the program was started once, and ended with ${code}`);
  return readFile(out);
}
