/**
 * A Python with the `requests` library, for the vendor's own client: the system's, or Debian's package fetched into the
 * git-ignored `.cache` folder without root. Installs nothing.
 */

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const execFileAsync = promisify(execFile);

const CACHE = join(import.meta.dirname, "../../.cache/python");
/** Pure Python, and what it imports. */
const PACKAGES = [
  "python3-requests",
  "python3-urllib3",
  "python3-certifi",
  "python3-chardet",
  "python3-idna",
  "python3-six",
];
/** Half a megabyte, on the slowest line anyone should have. */
const FETCH_TIMEOUT_MS = 5 * 60_000;

export interface Python {
  readonly program: string;
  readonly env: NodeJS.ProcessEnv;
}

/** @throws Error with one line that says what to install. */
export async function pythonWithRequests(): Promise<Python> {
  const system: Python = { program: "python3", env: process.env };
  if (await canImport(system)) return system;
  const fetched: Python = {
    program: "python3",
    env: { ...process.env, PYTHONPATH: join(CACHE, "usr/lib/python3/dist-packages") },
  };
  try {
    if (!(await canImport(fetched))) await fetchPackages();
  } catch (cause) {
    throw missing(cause);
  }
  if (!(await canImport(fetched))) throw missing(undefined);
  return fetched;
}

async function canImport({ program, env }: Python): Promise<boolean> {
  return execFileAsync(program, ["-c", "import requests"], { env }).then(
    () => true,
    () => false,
  );
}

/** Downloads and unpacks beside the cache; the last step is one rename, so runs may race. */
async function fetchPackages(): Promise<void> {
  await mkdir(join(CACHE, ".."), { recursive: true });
  const work = await mkdtemp(`${CACHE}-`);
  try {
    const options = { cwd: work, timeout: FETCH_TIMEOUT_MS };
    await mkdir(join(work, "lists/partial"), { recursive: true });
    const settings = [
      `Dir::State::lists=${work}/lists`,
      `Dir::Cache=${work}`,
      "Debug::NoLocking=true",
      "APT::Sandbox::User=",
    ];
    const apt = ["-qq", ...settings.flatMap((setting) => ["-o", setting])];
    await execFileAsync("apt-get", [...apt, "update"], options);
    await execFileAsync("apt-get", [...apt, "download", ...PACKAGES], options);
    const root = join(work, "root");
    await mkdir(root);
    for (const file of await readdir(work)) {
      if (file.endsWith(".deb")) await execFileAsync("dpkg", ["-x", join(work, file), root], options);
    }
    await rename(root, CACHE).catch((error: NodeJS.ErrnoException) => {
      // Another run was first: its packages are as good.
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function missing(cause: unknown): Error {
  return new Error(
    "The vendor's Python client needs python3 with the requests library, and fetching Debian's failed: install python3-requests",
    { cause },
  );
}
