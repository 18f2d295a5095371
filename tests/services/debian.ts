/**
 * Finds server programs on PATH, or fetches Debian's packages into the git-ignored `.cache` folder, without root.
 * Installs nothing and starts nothing; programs that are fetched get their libraries by environment variables.
 */

import { execFile } from "node:child_process";
import { access, constants, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

const execFileAsync = promisify(execFile);

/** Packages of all three services: 90 MB at the slowest line anyone should have. */
const FETCH_TIMEOUT_MS = 10 * 60_000;
/** apt-get's own words, when it fails. */
const OUTPUT_MAX = 16 * 1024 ** 2;

const CACHE = join(import.meta.dirname, "../../.cache/services");

/** GNU's name of this machine's architecture, which Debian's library folders carry. */
const TRIPLETS: Partial<Record<NodeJS.Architecture, string>> = {
  x64: "x86_64-linux-gnu",
  arm64: "aarch64-linux-gnu",
};

export interface Wanted {
  /** Folder in the cache. */
  readonly name: string;
  readonly programs: readonly string[];
  /** Debian's packages that hold them. */
  readonly packages: readonly string[];
  /** What a person can do where neither way works. */
  readonly otherwise: string;
}

export interface Programs {
  readonly path: (program: string) => string;
  /** For these programs' processes only, never for Node: the libraries would be the wrong ones. */
  readonly env: NodeJS.ProcessEnv;
  /** Where fetched libraries are; null for programs of the system, which know. */
  readonly libraries: string | null;
}

export interface FindOptions {
  /** Where to look for programs. Default: PATH, and where Debian keeps servers. */
  readonly path?: string;
  readonly cache?: string;
  /** More options for apt-get. */
  readonly apt?: readonly string[];
}

/** @throws Error with one line that says what is missing and what to do. */
export async function findOrFetch(wanted: Wanted, options: FindOptions = {}): Promise<Programs> {
  const path = options.path ?? [process.env["PATH"], "/usr/sbin", "/sbin"].join(delimiter);
  const found = await findAll(wanted.programs, path.split(delimiter));
  if (found !== null) return { path: (program) => found.get(program)!, env: process.env, libraries: null };

  const root = join(options.cache ?? CACHE, wanted.name);
  const folders = ["usr/bin", "usr/sbin", "bin"].map((folder) => join(root, folder));
  let fetched = await findAll(wanted.programs, folders);
  if (fetched === null) {
    await fetchPackages(wanted, root, options.apt ?? []);
    fetched = await findAll(wanted.programs, folders);
  }
  if (fetched === null) throw missing(wanted, "Debian's packages do not hold them");
  return describe(root, folders, fetched);
}

function describe(root: string, folders: string[], programs: ReadonlyMap<string, string>): Programs {
  const triplet = TRIPLETS[process.arch]!;
  const libraries = join(root, "usr/lib", triplet);
  return {
    path: (program) => programs.get(program)!,
    libraries,
    env: {
      ...process.env,
      PATH: [...folders, process.env["PATH"]].join(delimiter),
      LD_LIBRARY_PATH: [libraries, join(root, "lib", triplet), join(libraries, "ceph")].join(delimiter),
      PYTHONPATH: join(root, "usr/lib/python3/dist-packages"),
    },
  };
}

async function findAll(
  programs: readonly string[],
  folders: readonly string[],
): Promise<Map<string, string> | null> {
  const found = new Map<string, string>();
  for (const program of programs) {
    for (const folder of folders) {
      const path = join(folder, program);
      if (await isExecutable(path)) {
        found.set(program, path);
        break;
      }
    }
  }
  return found.size === programs.length ? found : null;
}

/** Downloads what the machine lacks and unpacks it beside `root`; the last step is one rename, so runs may race. */
async function fetchPackages(wanted: Wanted, root: string, apt: readonly string[]): Promise<void> {
  if (
    TRIPLETS[process.arch] === undefined ||
    (await findAll(["apt-get", "dpkg"], systemFolders())) === null
  ) {
    throw missing(wanted, "this system has no apt-get to fetch them with");
  }
  process.stderr.write(`Fetching ${wanted.packages.join(", ")} from Debian for the tests, once...\n`);
  await mkdir(join(root, ".."), { recursive: true });
  const work = await mkdtemp(`${root}-`);
  try {
    await Promise.all(
      ["lists/partial", "cache/archives/partial", "root"].map((folder) =>
        mkdir(join(work, folder), { recursive: true }),
      ),
    );
    const options = [
      `Dir::State::lists=${work}/lists`,
      `Dir::Cache=${work}/cache`,
      "Debug::NoLocking=true",
      "APT::Sandbox::User=",
      ...apt,
    ].flatMap((option) => ["-o", option]);
    await command("apt-get", [...options, "-qq", "update"]);
    const install = ["install", "-y", "--no-install-recommends", "--download-only"];
    await command("apt-get", [...options, "-qq", ...install, ...wanted.packages]);
    const archives = join(work, "cache/archives");
    for (const file of await readdir(archives)) {
      if (file.endsWith(".deb")) await command("dpkg", ["-x", join(archives, file), join(work, "root")]);
    }
    await rename(join(work, "root"), root).catch((error: NodeJS.ErrnoException) => {
      // Another run was first: its packages are as good.
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } catch (cause) {
    throw missing(wanted, "fetching Debian's packages failed", cause);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function command(program: string, args: readonly string[]): Promise<void> {
  await execFileAsync(program, [...args], {
    timeout: FETCH_TIMEOUT_MS,
    maxBuffer: OUTPUT_MAX,
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  });
}

function missing(wanted: Wanted, reason: string, cause?: unknown): Error {
  const message = `The tests need ${wanted.programs.join(", ")}, and ${reason}: ${wanted.otherwise}`;
  return cause === undefined ? new Error(message) : new Error(message, { cause });
}

function systemFolders(): string[] {
  return (process.env["PATH"] ?? "").split(delimiter);
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
