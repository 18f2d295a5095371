/**
 * The key file: what seals secrets in the database, kept outside of it (ruling 13). Makes it on first use, reads it,
 * and adds a key for a rotation; sealing itself is core's.
 */

import { randomBytes } from "node:crypto";
import { open, readFile, rename, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Keyring, Sealer } from "@docyard/core";
import { createSealer } from "@docyard/core";
import type { Config } from "./config.ts";
import { Failure, reasonOf } from "./failure.ts";
import { isErrno, nameNew, syncFolder } from "./files.ts";

/** What the file holds: the id of the key that seals, and every key as base64url. */
interface KeyFile {
  readonly current: string;
  readonly keys: Readonly<Record<string, string>>;
}

const KEY_BYTES = 32;
/** Its owner's alone. */
const MODE = 0o600;
/** Adding a key takes milliseconds: whoever seems to do it for so long was killed. */
const LOCK_AGE_MAX_MS = 30_000;
/** Milliseconds between two looks at whether another one is done. */
const LOCK_POLL_MS = 20;

/** Where the keys are: as configured, else `docyard.key` beside the SQLite file or in the working directory. */
export function keyFileOf({ keyFile, db }: Pick<Config, "keyFile" | "db">): string {
  if (keyFile !== "") return keyFile;
  const file = /^sqlite:(.+)$/s.exec(db)?.[1];
  return join(file === undefined ? "." : dirname(file), "docyard.key");
}

/**
 * Seals with the key of a file that is made when the first secret is sealed, and opens with any key in it. A secret
 * that does not open has the file read once more: it may have been sealed since with a key that was added.
 */
export function keyFileSealer(path: string): Sealer {
  let keyring: Keyring | undefined;
  return {
    async seal(text, owner) {
      keyring ??= await readOrMake(path);
      return createSealer(keyring).seal(text, owner);
    },
    async open(sealed, owner) {
      if (keyring !== undefined) {
        const opened = await createSealer(keyring)
          .open(sealed, owner)
          .catch(() => null);
        if (opened !== null) return opened;
      }
      // Not made here: a new key opens nothing, and would hide that the right file is missing.
      keyring = await readKeys(path);
      return createSealer(keyring).open(sealed, owner);
    },
  };
}

/** @throws Failure in words for an operator, also when there is no such file. */
export async function readKeys(path: string): Promise<Keyring> {
  try {
    return await read(path);
  } catch (error) {
    throw failed(path, error);
  }
}

/** @throws Failure in words for an operator; a damaged file is never replaced. */
async function readOrMake(path: string): Promise<Keyring> {
  try {
    return await read(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw failed(path, error);
  }
  try {
    const id = newId();
    await write(path, { current: id, keys: { [id]: newKey() } }, { mayReplace: false });
    return await read(path);
  } catch (error) {
    throw failed(path, error);
  }
}

/** Adds a key that seals from now on; the others still open what they sealed, and so do those that others add meanwhile. */
export async function addKey(path: string): Promise<Keyring> {
  await readOrMake(path);
  try {
    return await exclusively(`${path}.lock`, async () => {
      const { keys } = await read(path);
      const id = newId();
      const kept = Object.entries(keys).map(([name, bytes]) => [name, encode(bytes)] as const);
      const all = { ...Object.fromEntries(kept), [id]: newKey() };
      await write(path, { current: id, keys: all }, { mayReplace: true });
      return await read(path);
    });
  } catch (error) {
    throw failed(path, error);
  }
}

/** One process at a time: of two that replace the same file, one would take away what the other has begun to seal with. */
async function exclusively<T>(lock: string, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      await (await open(lock, "wx", MODE)).close();
      break;
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
      const held = await stat(lock).catch(() => null);
      const age = held === null ? 0 : Math.abs(Date.now() - held.mtimeMs);
      await (age > LOCK_AGE_MAX_MS ? unlink(lock).catch(() => {}) : sleep(LOCK_POLL_MS));
    }
  }
  try {
    return await work();
  } finally {
    await unlink(lock).catch(() => {});
  }
}

async function read(path: string): Promise<Keyring> {
  const text = await readFile(path, "utf8");
  let file: { readonly current?: unknown; readonly keys?: Readonly<Record<string, unknown>> };
  try {
    file = JSON.parse(text) as typeof file;
  } catch {
    // The parser's message would quote the file.
    throw new Error("it is not a key file");
  }
  if (typeof file !== "object" || file === null) throw new Error("it is not a key file");
  const keys: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (const [id, key] of Object.entries(file.keys ?? {})) {
    const bytes = Uint8Array.from(Buffer.from(String(key), "base64url"));
    if (bytes.length !== KEY_BYTES) throw new Error(`key ${id} in it is damaged`);
    keys[id] = bytes;
  }
  if (typeof file.current !== "string" || !Object.hasOwn(keys, file.current))
    throw new Error("it names a current key that it does not hold");
  return { current: file.current, keys };
}

/** Whole or not at all, and durable: a lost key makes every sealed secret unreadable. */
async function write(
  path: string,
  file: KeyFile,
  { mayReplace }: { readonly mayReplace: boolean },
): Promise<void> {
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString("hex")}`;
  const handle = await open(temporary, "wx", MODE);
  try {
    try {
      await handle.writeFile(`${JSON.stringify(file)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (mayReplace) {
      await rename(temporary, path);
    } else {
      // Of several processes that start at once, one makes the file and all read it.
      await nameNew(temporary, path).catch(async (error: unknown) => {
        if (!isErrno(error, "EEXIST")) throw error;
        await unlink(temporary);
      });
    }
    await syncFolder(dirname(path));
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/** Sorts by when it was made, and says so. */
function newId(): string {
  return `k${new Date().toISOString().slice(0, 10).replaceAll("-", "")}-${randomBytes(3).toString("hex")}`;
}

function newKey(): string {
  return encode(randomBytes(KEY_BYTES));
}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

function failed(path: string, error: unknown): Failure {
  return new Failure(`--key-file ${path}: ${reasonOf(error)}`, { cause: error });
}
