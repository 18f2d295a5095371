/**
 * Runs the built executable as operators do: a server in a folder of its own, or one command to its end.
 * Knows processes and what they print; what is asked of a server over HTTP is client.ts's.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "../..");
export const BIN = join(ROOT, "packages/cli/bin/docyard-server.js");
/** The whole build, cold, takes seconds; a machine busy with other things is given more. */
const BUILD_TIMEOUT_MS = 120_000;
/** One command, on a busy machine. */
const COMMAND_TIMEOUT_MS = 60_000;

const execFileAsync = promisify(execFile);

/** Servers that still run when the tests end, however they end, end too. */
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Brings `dist` and the bundle up to date, as `npm run build` does; nothing to do takes a moment. */
export async function build(): Promise<void> {
  await script("node_modules/typescript/bin/tsc", "-b");
  const bundle = await modifiedAt("packages/cli/dist/bundle/main.js");
  const builds = await Promise.all(
    ["core", "adapters", "server", "cli"].map((name) => modifiedAt(`packages/${name}/dist/.tsbuildinfo`)),
  );
  if (bundle < Math.max(...builds, await modifiedAt("packages/cli/bundle.mjs"))) {
    await script("packages/cli/bundle.mjs");
  }
}

async function script(path: string, ...args: readonly string[]): Promise<void> {
  await execFileAsync(process.execPath, [join(ROOT, path), ...args], {
    cwd: ROOT,
    timeout: BUILD_TIMEOUT_MS,
  }).catch((error: { stdout?: string; stderr?: string }) => {
    throw new Error(`the executable cannot be built:\n${error.stdout ?? ""}${error.stderr ?? ""}`, {
      cause: error,
    });
  });
}

async function modifiedAt(path: string): Promise<number> {
  return stat(join(ROOT, path)).then(
    ({ mtimeMs }) => mtimeMs,
    () => Number.NEGATIVE_INFINITY,
  );
}

/** A new folder under the system's temporary one. */
export async function tempFolder(): Promise<{ readonly path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "docyard-e2e-"));
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Who runs it; default: whoever runs the tests. */
  readonly uid?: number;
  readonly gid?: number;
  /** Flags for Node itself. */
  readonly nodeArgs?: readonly string[];
  /** Default: the executable of the workspace. */
  readonly bin?: string;
  /** Runs this instead of Node and `bin`. */
  readonly command?: readonly string[];
  /** Not one variable but those in `env`. */
  readonly bare?: boolean;
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command line to its end. */
export async function run(args: readonly string[], options: RunOptions): Promise<Ran> {
  const child = start(args, options);
  const timer = setTimeout(() => child.kill("SIGKILL"), COMMAND_TIMEOUT_MS);
  const stdout = textOf(child.stdout!);
  const stderr = textOf(child.stderr!);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  return { code, stdout: await stdout, stderr: await stderr };
}

/** Runs one command line that must succeed, and reads its one JSON document. */
export async function runJson<T>(args: readonly string[], options: RunOptions): Promise<T> {
  const { code, stdout, stderr } = await run([...args, "--json"], options);
  if (code !== 0) throw new Error(`docyard-server ${args.join(" ")} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** What the first start prints. */
export interface FirstRun {
  readonly organization: { readonly id: string };
  readonly dock: { readonly id: string };
  readonly client: Credentials & { readonly id: string };
  readonly key: { readonly apiKey: string };
}

export interface Credentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Server {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Null on a folder that is in use. */
  readonly firstRun: FirstRun | null;
  /** Resolves when the process has ended. */
  readonly exit: Promise<Exit>;
  /** All it has written to stderr so far. */
  log(): string;
  signal(signal: NodeJS.Signals): void;
  /** Ends it politely. */
  stop(): Promise<Exit>;
  /** Ends it like a power cut. */
  kill(): Promise<Exit>;
  /** Resident memory now, in bytes. */
  memory(): Promise<number>;
}

/** Starts a server and waits until it says where it listens. */
export async function startServer(args: readonly string[], options: RunOptions): Promise<Server> {
  const child = start([...(args.includes("--port") ? [] : ["--port", "0"]), ...args, "--json"], options);
  let log = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (log += text));
  const exit: Promise<Exit> = once(child, "close").then(([code, signal]) => ({ code, signal }));
  const said = await Promise.race([firstLine(child), exit]);
  if (typeof said !== "string") throw new Error(`the server ended with ${said.code ?? said.signal}: ${log}`);
  const { url, port, firstRun } = JSON.parse(said) as Pick<Server, "url" | "port" | "firstRun">;
  const end = (signal: NodeJS.Signals): Promise<Exit> => {
    child.kill(signal);
    return exit;
  };
  return {
    url,
    port,
    pid: child.pid!,
    firstRun,
    exit,
    log: () => log,
    signal: (signal) => void child.kill(signal),
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    memory: async () => {
      const status = await readFile(`/proc/${child.pid}/status`, "utf8");
      return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
    },
  };
}

/** Starts the executable without waiting for anything. */
export function start(args: readonly string[], options: RunOptions): ChildProcess {
  const { cwd, env = {}, nodeArgs = [], bin = BIN, bare = false, command, ...identity } = options;
  const [program = "", ...rest] = [...(command ?? [process.execPath, ...nodeArgs, bin]), ...args];
  const child = spawn(program, rest, {
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
    ...identity,
    // Settings of whoever runs the tests are none of ours.
    env: { ...(bare ? {} : { PATH: process.env["PATH"], HOME: cwd }), ...env },
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) return line;
  // Ended without a word: its exit says more.
  return new Promise(() => {});
}

async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  let text = "";
  for await (const part of stream.setEncoding("utf8")) text += part;
  return text;
}
