/**
 * The one executable, made once for these tests, and places with nothing in them to run it in. Knows how to make it and
 * where it can be put; what it must do there is the test's.
 */

import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile } from "node:fs/promises";
import { basename, delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { tempFolder } from "./program.ts";

export const ROOT: string = join(import.meta.dirname, "../..");
const BUILD = join(ROOT, "packages/cli/exe/build.ts");
/** It starts the program several times, on a machine that may be busy with other things. */
const BUILD_TIMEOUT_MS = 170_000;
/** What a program of Node's kind is linked with; everything else that it needs, it must bring. */
const LIBRARIES = /^(?:ld-linux[\w.-]*|lib(?:dl|stdc\+\+|m|gcc_s|pthread|c))\.so(?:\.\d+)*$/;
/** The user that owns nothing, by number: an empty root has no list of names. */
export const NOBODY = 65_534;

const execFileAsync = promisify(execFile);

export interface Made {
  /** The folder with all that was made. */
  readonly folder: string;
  /** The executable's file name and path. */
  readonly name: string;
  readonly path: string;
  read(name: string): Promise<string>;
}

/** Makes this machine's executable in a folder: seconds on a quiet machine. @throws Error with what the build said. */
export async function makeExecutable(folder: string): Promise<Made> {
  await execFileAsync(process.execPath, [BUILD, "--out", folder], {
    cwd: folder,
    timeout: BUILD_TIMEOUT_MS,
  }).catch((error: { stderr?: string }) => {
    throw new Error(`the executable cannot be made: ${error.stderr ?? ""}`, { cause: error });
  });
  const name = (await readdir(folder)).find((one) => /^docyard-server-\w+-\w+(\.exe)?$/.test(one))!;
  return { folder, name, path: join(folder, name), read: (file) => readFile(join(folder, file), "utf8") };
}

/** Somewhere to run it, and how. */
export interface Place {
  /** For the names of tests: what this is, on this machine. */
  readonly what: string;
  /** The folder as this machine sees it. */
  readonly path: string;
  /** Where its one writable folder is, as the program sees it. */
  readonly data: string;
  /** What to run instead of the executable. */
  readonly command: readonly string[];
  remove(): Promise<void>;
}

/** Programs are named by their paths: without variables there is none to look them up by. */
function programPath(name: string): string {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path)) ?? name;
}

const CHROOT = programPath("chroot");
const UNSHARE = programPath("unshare");
const CAN_ROOT = process.getuid?.() === 0 && existsSync(CHROOT);
/** Whether this user may make namespaces of their own, in which they may change the root and mount. */
const CAN_UNSHARE = spawnSync(UNSHARE, ["--user", "--map-root-user", "--mount", "true"]).status === 0;

/** What `emptyRoot` will give here, for names of tests. */
export const EMPTY_ROOT: string =
  process.platform === "linux" && (CAN_ROOT || (CAN_UNSHARE && existsSync(CHROOT)))
    ? "an empty root"
    : "an empty folder (nobody may change the root here)";

/**
 * A root with the executable, the system libraries it is linked with, and a folder for data: no shell, no Node, no
 * `/tmp`, no `/proc`, no `/dev`. Where the root cannot be changed, an empty folder.
 */
export async function emptyRoot(executable: string, user?: number): Promise<Place> {
  const { path, remove } = await tempFolder();
  await copyFile(executable, join(path, "docyard-server"));
  const data = join(path, "data");
  await mkdir(data);
  await execFileAsync("chmod", ["755", path]);
  await execFileAsync("chmod", ["777", data]);
  if (EMPTY_ROOT !== "an empty root") {
    return { what: EMPTY_ROOT, path, data, command: [join(path, "docyard-server")], remove };
  }
  for (const library of libraries()) {
    await mkdir(join(path, dirname(library)), { recursive: true });
    await copyFile(library, join(path, library));
  }
  const chroot = CAN_ROOT ? [CHROOT] : [UNSHARE, "--user", "--map-root-user", CHROOT];
  const as = user === undefined || !CAN_ROOT ? [] : [`--userspec=${user}:${user}`];
  return {
    what: EMPTY_ROOT,
    path,
    data: "/data",
    command: [...chroot, ...as, path, "/docyard-server"],
    remove,
  };
}

/** Where the system keeps them: Node is linked with the same. */
function libraries(): string[] {
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: readonly string[] };
  return sharedObjects.filter((path) => LIBRARIES.test(basename(path)));
}

/** What `noexec` will do here, for names of tests. */
export const NOEXEC: string = CAN_UNSHARE
  ? "mounted noexec"
  : "not writable (nobody may mount here, so noexec itself is not tried)";

/** Runs a command where programs cannot be loaded from these folders, or, where nobody may mount, not be put. */
export function noexec(folders: readonly string[], command: readonly string[]): readonly string[] {
  if (!CAN_UNSHARE) return command;
  const mounts = folders.map((folder) => `mount -t tmpfs -o noexec none '${folder}'`);
  return [
    UNSHARE,
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-ec",
    [...mounts, 'exec "$@"'].join("\n"),
    "sh",
    ...command,
  ];
}
