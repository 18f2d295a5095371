/**
 * Does what a guide says, top to bottom, in one fresh folder: shell blocks share their variables, servers stay up to the
 * end, and what a block prints is held against the output that the guide shows. Which guides, is docs-guides.test.ts's.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { type Block, blocksOf, ROOT } from "./docs-markdown.ts";
import { BIN, tempFolder } from "./program.ts";
import { pythonWithRequests } from "./python.ts";

const execFileAsync = promisify(execFile);

/** One block, on a busy machine. */
const BLOCK_TIMEOUT_MS = 120_000;
/** Where the program listens unless it is told otherwise. */
const PORT = "8080";

/** What the first start prints, as the variables that guides name. */
const CREDENTIALS: Readonly<Record<string, RegExp>> = {
  CLIENT_ID: /^ *client id +(\S+)$/m,
  CLIENT_SECRET: /^ *client secret +(\S+)$/m,
  API_KEY: /^ *Studio key +(\S+)$/m,
};

/** Sourced before a block and written after it, so that variables, functions and the folder carry over. */
const STATE = ".docs-state";
const PRELUDE = `set -a; [ -f "$DOCS_STATE" ] && . "$DOCS_STATE"; set -euo pipefail`;
const POSTLUDE = `{ export -p | grep -v '^declare -x DOCS_STATE='; declare -f; printf 'cd %q\\n' "$PWD"; } > "$DOCS_STATE"`;

/** How a file of each language is run. */
const INTERPRETERS: Readonly<Record<string, readonly string[]>> = {
  js: ["node"],
  ts: ["node", "--disable-warning=ExperimentalWarning"],
  python: ["python3"],
};
const EXTENSIONS: Readonly<Record<string, string>> = { js: "mjs", ts: "ts", python: "py" };

export interface Guide {
  /** How many blocks were run, servers included. */
  readonly ran: number;
}

/** Whatever still runs when the tests end, however they end, ends too. */
const alive = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of alive) end(child);
});

interface Running {
  /** The first word of its command. */
  readonly program: string;
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
}

interface World {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly running: Running[];
  /** Ports that the guide names, and the free ones that stand for them. */
  readonly ports: ReadonlyMap<string, string>;
}

/**
 * Runs every block of a page that is to be run.
 * @throws Error naming page and line, with what was printed, at the first one that does not do what the page says.
 */
export async function runGuide(page: string): Promise<Guide> {
  const blocks = blocksOf(page);
  const folder = await tempFolder();
  const world = await openWorld(folder.path, blocks);
  let ran = 0;
  try {
    const starts = blocks.findIndex(({ role }) => role === "server");
    const first = blocks.findIndex(({ role }) => role === "run");
    if (first >= 0 && (starts < 0 || starts > first)) await startOne(world, SERVER);
    for (const [index, block] of blocks.entries()) {
      const next = blocks[index + 1];
      const expected = next?.role === "output" ? next : null;
      if (block.role === "server" || block.role === "background") await startOne(world, block);
      else if (block.role === "file") await write(world, block);
      else if (block.role === "run") await runOne(world, block, expected);
      else continue;
      if (block.role !== "file") ran++;
    }
    await checkTypes(world, page);
  } finally {
    await endAll(world);
    await folder.remove();
  }
  return { ran };
}

/** What a guide gets that starts none itself. */
const SERVER: Block = {
  page: "(the server of every guide)",
  line: 0,
  language: "sh",
  role: "server",
  words: [],
  file: null,
  text: "docyard-server\n",
};

async function openWorld(folder: string, blocks: readonly Block[]): Promise<World> {
  const bin = join(folder, ".docs-bin");
  await mkdir(bin);
  const program = `#!/bin/sh\nexec "${process.execPath}" "${BIN}" "$@"\n`;
  await writeFile(join(bin, "docyard-server"), program, { mode: 0o755 });
  // What an install would bring: this workspace's packages as they are built, and what they depend on.
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"), "dir");
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
  const needsPython = blocks.some(({ language, text }) => language === "python" || text.includes("python3"));
  await mkdir(join(folder, "var/lib/docyard"), { recursive: true });
  // Where there is none, this says what to install.
  const media = blocks.some(({ text }) => text.includes("ffmpeg "))
    ? await import("../media/ffmpeg.ts")
    : null;
  const programs = media === null ? [] : [dirname(media.ffmpegPath), dirname(media.ffprobePath)];
  const path = [bin, dirname(process.execPath), ...programs, process.env["PATH"] ?? ""].join(delimiter);
  return {
    folder,
    running: [],
    ports: await freePorts(blocks),
    env: {
      PATH: path,
      HOME: folder,
      LC_ALL: "C.UTF-8",
      DOCS_STATE: join(folder, STATE),
      // Python keeps what it prints for a while where no terminal listens.
      PYTHONUNBUFFERED: "1",
      ...(needsPython ? { PYTHONPATH: (await pythonWithRequests()).env["PYTHONPATH"] ?? "" } : {}),
    },
  };
}

/** Below what systems give to outgoing connections: nobody is given one of these between our look and its use. */
const PORTS = { first: 20_000, last: 32_000 } as const;

/** A free port for each that the guide says, so that guides run beside anything else. */
async function freePorts(blocks: readonly Block[]): Promise<Map<string, string>> {
  const named = blocks.flatMap(({ text }) =>
    Array.from(text.matchAll(/(?:127\.0\.0\.1|localhost):(\d{4,5})\b/g), ([, port]) => port!),
  );
  const ports = new Map<string, string>();
  for (const port of new Set([PORT, ...named])) {
    let found = randomInt(PORTS.first, PORTS.last);
    while ([...ports.values()].includes(String(found)) || !(await isFree(found))) {
      found = randomInt(PORTS.first, PORTS.last);
    }
    ports.set(port, String(found));
  }
  return ports;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const isOpen = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
  });
  if (isOpen) {
    const closed = once(server, "close");
    server.close();
    await closed;
  }
  return isOpen;
}

/** Folders that operators have and a test has not: they are below the guide's own. */
const PLACES = /(?<![\w./-])\/(?:backup|var\/lib\/docyard)\b/g;

function filledIn({ folder, ports }: World, text: string): string {
  return text
    .replaceAll(PLACES, (place) => join(folder, place))
    .replaceAll(/\b\d{4,5}\b/g, (port) => ports.get(port) ?? port);
}

/** A shell with the guide's variables. */
function shell(world: World, script: string): ChildProcess {
  const child = spawn("bash", ["-c", script], {
    cwd: world.folder,
    env: { ...world.env, DOCYARD_PORT: world.ports.get(PORT)! },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: what a block starts ends with it.
    detached: true,
  });
  alive.add(child);
  child.once("close", () => alive.delete(child));
  return child;
}

/** A long-lived command, up to the line that says where it listens, or (`background`) its first. */
async function startOne(world: World, block: Block): Promise<void> {
  const [program = ""] = block.text.split(/\s/, 1);
  if (block.words.includes("restart")) await endAll(world, program);
  const child = shell(world, `${PRELUDE}\n${filledIn(world, block.text)}`);
  const ended = once(child, "close");
  world.running.push({ program, child, ended });
  let printed = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const hear = (text: string, isOutput: boolean): void => {
    printed += text;
    const isUp =
      block.role === "server" ? isOutput && /https?:\/\/\S+/.test(printed) : printed.includes("\n");
    if (isUp) resolve();
  };
  child.stdout!.setEncoding("utf8").on("data", (text: string) => hear(text, true));
  child.stderr!.setEncoding("utf8").on("data", (text: string) => hear(text, false));
  const timer = setTimeout(() => reject(fault(block, "says nothing", printed)), BLOCK_TIMEOUT_MS);
  void ended.then(() => reject(fault(block, "ended", printed)));
  await promise.finally(() => clearTimeout(timer));
  const found = Object.entries(CREDENTIALS).flatMap(([name, pattern]) => {
    const value = pattern.exec(printed)?.[1];
    return value === undefined ? [] : [`declare -x ${name}="${value}"\n`];
  });
  const state = join(world.folder, STATE);
  const before = await readFile(state, "utf8").catch(() => "");
  await writeFile(state, before + found.join(""));
}

async function runOne(world: World, block: Block, expected: Block | null): Promise<void> {
  const child = shell(world, `${PRELUDE}\n${await commandOf(world, block)}\n${POSTLUDE}`);
  let [stdout, stderr] = ["", ""];
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const timer = setTimeout(() => end(child), BLOCK_TIMEOUT_MS);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  if ((code !== 0) !== block.words.includes("fails")) {
    throw fault(block, `ended with ${code}`, stdout + stderr);
  }
  if (expected === null) return;
  const shown = filledIn(world, expected.text);
  const printed = block.words.includes("fails") ? stdout + stderr : stdout;
  const isSame =
    expected.language === "json"
      ? sameJson(JSON.parse(shown), parsed(expected, printed))
      : sameText(shown.trim(), printed.trim());
  if (!isSame) throw fault(expected, "is not what is printed", printed);
}

/** The block itself, or the file that it becomes. */
async function commandOf(world: World, block: Block): Promise<string> {
  if (block.language === "sh") return filledIn(world, block.text);
  const interpreter = INTERPRETERS[block.language];
  if (interpreter === undefined) throw fault(block, "cannot be run: only sh, js, ts and python can", "");
  return [...interpreter, await write(world, block)].join(" ");
}

async function write(world: World, block: Block): Promise<string> {
  const name = block.file ?? `block-${block.line}.${EXTENSIONS[block.language] ?? block.language}`;
  const path = join(world.folder, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, filledIn(world, block.text));
  return name;
}

/** TypeScript that a guide shows must compile as a strict project would have it. */
async function checkTypes({ folder }: World, page: string): Promise<void> {
  const files = (await readdir(folder)).filter((name) => name.endsWith(".ts"));
  if (files.length === 0) return;
  const compilerOptions = {
    module: "nodenext",
    target: "es2024",
    lib: ["es2024", "dom", "dom.iterable"],
    types: ["node"],
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    allowImportingTsExtensions: true,
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
  await execFileAsync(process.execPath, [compiler, "-p", folder]).catch((error: { stdout: string }) => {
    throw new Error(`${page}: its TypeScript does not compile\n${error.stdout}`);
  });
}

/** Those of one program, or of all. */
async function endAll({ running }: World, program?: string): Promise<void> {
  const isMeant = (one: Running): boolean => program === undefined || one.program === program;
  const [meant, others] = [running.filter(isMeant), running.filter((one) => !isMeant(one))];
  running.splice(0, running.length, ...others);
  for (const { child, ended } of meant) {
    end(child);
    await ended;
  }
}

/** It and what it has started. */
function end({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}

function fault({ page, line, text }: Block, what: string, printed: string): Error {
  return new Error(`${page}:${line}: ${what}\n--- block\n${text}--- printed\n${printed}`);
}

function parsed(block: Block, printed: string): unknown {
  try {
    return JSON.parse(printed);
  } catch {
    throw fault(block, "stands where no JSON is printed", printed);
  }
}

/** `…` stands for anything, over lines too. */
export function sameText(shown: string, printed: string): boolean {
  const pattern = shown.split("…").map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${pattern.join("[^]*?")}$`).test(printed);
}

/** The string `"…"` stands for any value, `…` inside one for any text, and a key `"…"` for keys that are not shown. */
export function sameJson(shown: unknown, printed: unknown): boolean {
  if (shown === "…") return printed !== undefined;
  if (typeof shown === "string") return typeof printed === "string" && sameText(shown, printed);
  if (Array.isArray(shown)) {
    return (
      Array.isArray(printed) &&
      printed.length === shown.length &&
      shown.every((item, index) => sameJson(item, printed[index]))
    );
  }
  if (typeof shown !== "object" || shown === null) return shown === printed;
  if (typeof printed !== "object" || printed === null || Array.isArray(printed)) return false;
  const { "…": more, ...rest } = shown as Record<string, unknown>;
  const there = printed as Record<string, unknown>;
  return (
    Object.entries(rest).every(([key, value]) => sameJson(value, there[key])) &&
    (more !== undefined || Object.keys(there).every((key) => Object.hasOwn(rest, key)))
  );
}
