/**
 * A temporary folder with the daemons that live in it, both gone when the test run is, however it ends.
 * Knows processes, ports and folders only; what to start, and when it counts as ready, is each launcher's own.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, closeSync } from "node:fs";
import { chown, mkdtemp, readFile, rm, statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

/** Free bytes below which memory is no place for a service's files: a container's default /dev/shm has 64 MiB. */
const MEMORY_FOLDER_FREE_MIN = 2 * 1024 ** 3;
/** How long one helper program may run; generous, for a machine busy with other things. */
const HELPER_TIMEOUT_MS = 60_000;
/** How long a daemon may take to answer; normal is 0.05 to 2 s. */
const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 20;
/** How long a daemon may take to end after a polite signal before it is killed. */
const STOP_TIMEOUT_MS = 10_000;
/** How many lines of a daemon's log an error quotes. */
const LOG_TAIL_LINES = 15;
/** A free port may be taken by another program before the daemon binds it. */
const START_ATTEMPTS = 3;

const execFileAsync = promisify(execFile);

/** Who a program runs as; empty: as this process. */
export interface Identity {
  readonly uid?: number;
  readonly gid?: number;
}

export interface ProcessOptions extends Identity {
  readonly env?: NodeJS.ProcessEnv;
}

export interface Daemon {
  readonly pid: number;
  /** The daemon's name and the end of what it printed, for errors. */
  describe(): Promise<string>;
  isRunning(): boolean;
  /** Sends the signal, SIGKILL if that did not help in time, and resolves when the process has ended. */
  end(signal: NodeJS.Signals): Promise<void>;
}

export interface Workspace {
  readonly dir: string;
  /** Runs a helper to its end; resolves to what it printed, rejects with its own words when it failed. */
  run(program: string, args: readonly string[], options?: ProcessOptions): Promise<string>;
  /** Starts a daemon in the foreground, as a child that dies with this process. */
  start(program: string, args: readonly string[], options?: ProcessOptions): Promise<Daemon>;
  /** Ends what still runs and removes the folder. */
  close(): Promise<void>;
}

/** What every launcher hands back. */
export interface Service {
  readonly pids: readonly number[];
  /** Ends the service for good and removes everything it kept. */
  stop(): Promise<void>;
  /** Ends it like a power cut (SIGKILL); `restart` brings it back. */
  kill(): Promise<void>;
  /** Starts it again on the same port, ending it first if it still runs. */
  restart(): Promise<void>;
}

/**
 * Outlives us by a moment: told of every daemon over a pipe, it ends them and removes the folder when the pipe breaks,
 * which it does however this process ends, SIGKILL included. Daemons that ended are struck off, so that no
 * number is used after the system may have given it to another program.
 */
const REAPER = `
pids=' '
while read -r word pid; do
  case $word in
    add) pids="$pids$pid " ;;
    drop) case $pids in *" $pid "*) pids="\${pids%% $pid *} \${pids#* $pid }" ;; esac ;;
    done) exit 0 ;;
  esac
done
for pid in $pids; do kill -TERM "$pid"; kill -CONT "$pid"; done
sleep 1
for pid in $pids; do kill -KILL "$pid"; done
sleep 0.2
rm -rf -- "$1"
`;

/** A new folder, owned by `owner` when one is named. */
export async function openWorkspace(name: string, owner: Identity = {}): Promise<Workspace> {
  const dir = await mkdtemp(join(await roomyFolder(), `docyard-${name}-`));
  if (owner.uid !== undefined && owner.gid !== undefined) await chown(dir, owner.uid, owner.gid);

  const reaper = spawn("sh", ["-c", REAPER, "reaper", dir], {
    cwd: "/",
    stdio: ["pipe", "ignore", "ignore"],
    // A session of its own: the terminal's Ctrl-C must not end it before us.
    detached: true,
  });
  await once(reaper, "spawn");
  reaper.unref();
  // A reaper that was ended from outside must not take the test run with it.
  reaper.stdin.on("error", () => {});
  const tell = (line: string): void => void reaper.stdin.write(`${line}\n`);
  const running = new Set<Daemon>();

  return {
    dir,
    run: (program, args, options = {}) => runHelper(dir, program, args, options),
    async start(program, args, options = {}) {
      const daemon = await startDaemon(dir, program, args, options, (pid) => {
        running.delete(daemon);
        tell(`drop ${pid}`);
      });
      tell(`add ${daemon.pid}`);
      running.add(daemon);
      return daemon;
    },
    async close() {
      await Promise.all([...running].map((daemon) => daemon.end("SIGKILL")));
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
      reaper.stdin.end("done\n");
    },
  };
}

async function runHelper(
  dir: string,
  program: string,
  args: readonly string[],
  options: ProcessOptions,
): Promise<string> {
  const { stdout } = await execFileAsync(program, [...args], {
    cwd: dir,
    timeout: HELPER_TIMEOUT_MS,
    killSignal: "SIGKILL",
    ...options,
  });
  return stdout;
}

async function startDaemon(
  dir: string,
  program: string,
  args: readonly string[],
  options: ProcessOptions,
  onEnd: (pid: number) => void,
): Promise<Daemon> {
  const name = program.slice(program.lastIndexOf("/") + 1);
  const log = join(dir, `${name}.out`);
  const output = openSync(log, "a");
  let child: ChildProcess;
  try {
    child = spawn(program, [...args], {
      cwd: dir,
      stdio: ["ignore", output, output],
      detached: true,
      ...options,
    });
    await once(child, "spawn");
  } finally {
    closeSync(output);
  }
  const pid = child.pid!;
  const ended = once(child, "exit").then(() => onEnd(pid));

  return {
    pid,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    async describe() {
      const lines = (await readFile(log, "utf8").catch(() => "")).trimEnd().split("\n");
      return `${name} (pid ${pid}):\n${lines.slice(-LOG_TAIL_LINES).join("\n")}`;
    },
    async end(signal) {
      child.kill(signal);
      // A stopped process (SIGSTOP) acts on nothing but SIGCONT and SIGKILL.
      child.kill("SIGCONT");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}

/**
 * Resolves when `probe` does.
 * @throws Error with the end of the daemon's output when the daemon ends first or never answers.
 */
export async function untilReady(daemon: Daemon, probe: () => Promise<unknown>): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    try {
      await probe();
      return;
    } catch (cause) {
      if (!daemon.isRunning()) throw new Error(`A test service ended: ${await daemon.describe()}`, { cause });
      if (Date.now() > deadline) {
        throw new Error(`A test service did not answer: ${await daemon.describe()}`, { cause });
      }
    }
    await sleep(READY_POLL_MS);
  }
}

/** Tries a start again with fresh ports: between finding one free and binding it, another program may take it. */
export async function startWithRetries<T>(start: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start();
    } catch (error) {
      if (attempt === START_ATTEMPTS) throw error;
    }
  }
}

/** A TCP port on 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("No TCP port to be had on 127.0.0.1");
  return address.port;
}

/** Memory where there is plenty: a service that syncs to disk takes several times as long to start. */
async function roomyFolder(): Promise<string> {
  try {
    const { bavail, bsize } = await statfs("/dev/shm");
    if (bavail * bsize >= MEMORY_FOLDER_FREE_MIN) return "/dev/shm";
  } catch {
    // No such folder on this system.
  }
  return tmpdir();
}
