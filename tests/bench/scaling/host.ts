/**
 * The machine and the servers that coefficients are measured on: processor time by process, the disk, and a PostgreSQL
 * that syncs. What is measured on them is `measure.ts` and `measure-*.ts`.
 */

import { closeSync, openSync } from "node:fs";
import { mkdtemp, open, readdir, readFile, chown, rm, stat } from "node:fs/promises";
import { arch, availableParallelism, cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { startPostgres } from "../../services/postgres.ts";
import type { DiskFile, DiskIo } from "../../../packages/adapters/src/blob/disk-io.ts";
import { nodeDiskIo } from "../../../packages/adapters/src/blob/disk-io.ts";
import { freePort, openWorkspace, untilReady } from "../../services/workspace.ts";

/** The kernel's unit of processor time in /proc, fixed for programs: a hundred a second. */
const TICK_US = 10_000;
const WRITE_BYTES = 4 * 1024 ** 2;
const MIB = 1024 ** 2;

export interface Machine {
  readonly processors: number;
  readonly model: string;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  /** What else the processors had to do just before. */
  readonly loadBefore: number;
}

export function machine(): Machine {
  return {
    processors: availableParallelism(),
    model: cpus()[0]?.model.trim() ?? "unknown",
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    system: `${process.platform} ${arch()}`,
    node: process.version,
    loadBefore: Number(loadavg()[0]!.toFixed(1)),
  };
}

/** Processor time that a process, its children and its former children have used, in microseconds. Linux only. */
export async function processorUs(pid: number): Promise<number> {
  const numbers = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  let ticks = 0;
  for (const name of numbers) {
    const line = await readFile(`/proc/${name}/stat`, "utf8").catch(() => "");
    // The second field is the program's name in brackets, with whatever it has in it.
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
    const isIt = Number(name) === pid;
    if (!isIt && Number(fields[1]) !== pid) continue;
    ticks += Number(fields[11]) + Number(fields[12]) + (isIt ? Number(fields[13]) + Number(fields[14]) : 0);
  }
  return ticks * TICK_US;
}

/** Median time of a small write with its sync, in milliseconds. */
export async function syncMs(folder: string, times = 300): Promise<number> {
  return withFile(folder, async (file) => {
    const took: number[] = [];
    for (let i = 0; i < times; i++) {
      const from = performance.now();
      await file.write(Buffer.alloc(8_192, i));
      await file.datasync();
      took.push(performance.now() - from);
    }
    return took.sort((a, b) => a - b)[times >> 1]!;
  });
}

/** Time of making a file, in milliseconds, above which the file system is not at rest; it is some 0.03 as a rule. */
const MAKING_MS = 0.15;
const MADE = 41;
const REST_STEP_MS = 5_000;
/** Looks before it is taken as it is: five minutes. */
const REST_STEPS = 60;

/**
 * Waits until making files costs what it usually does. ext4 passes over inodes that were in use some minutes ago: after
 * thousands were deleted it searches for a millisecond or two, for everybody alike. The files stay, for the same reason.
 */
export async function filesAtRest(folder: string): Promise<void> {
  for (let step = 0; step < REST_STEPS; step++) {
    const took: number[] = [];
    for (let i = 0; i < MADE; i++) {
      const from = performance.now();
      closeSync(openSync(join(folder, `rest-${step}-${i}`), "wx"));
      took.push(performance.now() - from);
    }
    if (took.sort((a, b) => a - b)[MADE >> 1]! < MAKING_MS) return;
    await new Promise((resolve) => setTimeout(resolve, REST_STEP_MS));
  }
}

/** A long write and its sync. */
export async function diskMiBPerSecond(folder: string, mib: number): Promise<number> {
  return withFile(folder, async (file) => {
    const bytes = Buffer.alloc(WRITE_BYTES, 7);
    const from = performance.now();
    for (let written = 0; written < mib * MIB; written += WRITE_BYTES) await file.write(bytes);
    await file.sync();
    return (mib * 1_000) / (performance.now() - from);
  });
}

type FileHandle = Awaited<ReturnType<typeof open>>;

async function withFile<T>(folder: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
  const path = join(folder, "probe");
  const file = await open(path, "w");
  try {
    return await work(file);
  } finally {
    await file.close();
    await rm(path);
  }
}

/** The file system calls of the disk store, and how often they have waited for the disk so far. */
export function countedIo(): { readonly io: DiskIo; readonly syncs: () => number } {
  let count = 0;
  const counting =
    <A extends unknown[], T>(run: (...args: A) => Promise<T>) =>
    (...args: A): Promise<T> => {
      count++;
      return run(...args);
    };
  const counted = (file: DiskFile): DiskFile => ({
    ...file,
    sync: counting(file.sync),
    datasync: counting(file.datasync),
  });
  const io: DiskIo = {
    ...nodeDiskIo,
    openFolder: async (path) => counted(await nodeDiskIo.openFolder(path)),
    createFile: async (path, mode) => counted(await nodeDiskIo.createFile(path, mode)),
    async createSyncedFile(path, mode) {
      const file = await nodeDiskIo.createSyncedFile(path, mode);
      return { ...file, writev: counting(file.writev) };
    },
    createWhole: counting(nodeDiskIo.createWhole),
  };
  return { io, syncs: () => count };
}

export interface Database {
  readonly url: string;
  readonly pid: number;
  query<R extends object>(text: string): Promise<readonly R[]>;
  stop(): Promise<void>;
}

/**
 * PostgreSQL as production has it: syncing, on this machine's disk, default settings otherwise. The tests' own server
 * does neither; its programs and its user are taken over from it.
 */
export async function durablePostgres(): Promise<Database> {
  const borrowed = await startPostgres();
  const folder = await mkdtemp(join(tmpdir(), "docyard-scaling-"));
  const workspace = await openWorkspace("scaling");
  const stop = async (): Promise<void> => {
    await workspace.close();
    await borrowed.stop();
    await rm(folder, { recursive: true });
  };
  try {
    const asked = await connect(borrowed.url);
    const { rows } = await asked.query<{ bin: string; data: string }>(
      "select (select setting from pg_config where name = 'BINDIR') as bin, current_setting('data_directory') as data",
    );
    await asked.end();
    const { bin, data: owned } = rows[0]!;
    const { uid, gid } = await stat(owned);
    await chown(folder, uid, gid);
    const as = { uid, gid, cwd: folder, env: { LC_ALL: "C", TZ: "UTC", HOME: folder } };
    const data = join(folder, "data");
    await workspace.run(join(bin, "initdb"), ["-D", data, "-U", "postgres", "-A", "trust", "--locale=C"], as);
    const port = await freePort();
    const args = ["-D", data, "-h", "127.0.0.1", "-p", String(port), "-c", "unix_socket_directories="];
    const daemon = await workspace.start(join(bin, "postgres"), args, as);
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    await untilReady(daemon, async () => (await connect(url)).end());
    const client = await connect(url);
    return {
      url,
      pid: daemon.pid,
      query: async <R extends object>(text: string) => (await client.query<R>(text)).rows,
      async stop() {
        await client.end();
        await daemon.end("SIGINT");
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return client;
}
