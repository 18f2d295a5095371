/**
 * An archive as one tar file (POSIX ustar), which any tar reads and writes: the same names as in a folder, the manifest
 * last. Written by position, so that a blob that turns out damaged is taken back; read by position, so that a restore
 * need not read it twice.
 */

import type { FileHandle } from "node:fs/promises";
import { open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { ArchiveReader, ArchiveWriter } from "@docyard/core";
import { digestMap, MANIFEST_BYTES_MAX, RECORDS_BYTES_MAX } from "@docyard/core";
import { blobName, damaged, FILE_MODE, MANIFEST_NAME, readPart, verified, writeBody } from "./archive-io.ts";
import { Failure } from "./failure.ts";
import { isThere, syncFolder, writeFully } from "./files.ts";

/** Everything in a tar file begins at a multiple of it. */
const BLOCK = 512;
/** Sizes beyond what eleven octal digits say are written as GNU tar does, in base 256. */
const OCTAL_SIZE_MAX = 0o77777777777;
/** Bytes of headers read at a time: small blobs bring several. */
const WINDOW_BYTES = 64 * 1024;
/** A pax header with a path and a size is far below. */
const PAX_BYTES_MAX = 1024 ** 2;

/** What is not finished is called so, and starts anew; of several runs the one that began last keeps the name. */
function partOf(path: string): string {
  return `${path}.part`;
}

export interface TarWriter extends ArchiveWriter {
  /** Closes the file, and takes it away unless it was finished. */
  close(): Promise<void>;
}

/** @throws Failure where the file is there already */
export async function tarWriter(path: string): Promise<TarWriter> {
  if (await isThere(path)) throw new Failure(`${path} is there already: name a new file`);
  // Not written over: whoever is writing it still must not end up with our bytes among its own.
  await rm(partOf(path), { force: true });
  const handle = await open(partOf(path), "wx+", FILE_MODE);
  const records = new Map<string, { readonly start: number; readonly size: number }>();
  const mtime = Math.floor(Date.now() / 1_000);
  let end = 0;
  let isFinished = false;
  let turn: Promise<unknown> = Promise.resolve();
  /** One entry at a time: they lie one behind the other. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work);
    turn = result.catch(() => {});
    return result;
  };
  const append = async (name: string, bytes: Uint8Array): Promise<void> => {
    await writeFully(handle, tarHeader(name, bytes.byteLength, mtime), end);
    await writeFully(handle, bytes, end + BLOCK);
    records.set(name, { start: end + BLOCK, size: bytes.byteLength });
    await pad(handle, end + BLOCK + bytes.byteLength);
    end += BLOCK + padded(bytes.byteLength);
  };

  return {
    // Nothing of an earlier run is kept, and nobody asks twice in one.
    holds: async () => false,
    writeBlob: ({ digest, size }, body) =>
      inTurn(async () => {
        const written = await writeBody(handle, end + BLOCK, body);
        if (written.digest === digest && written.size === size) {
          await writeFully(handle, tarHeader(blobName(digest), size, mtime), end);
          await pad(handle, end + BLOCK + size);
          end += BLOCK + padded(size);
        }
        return written;
      }),
    writeRecords: (name, bytes) => inTurn(() => append(name, bytes)),
    async readRecords(name) {
      const { start, size } = records.get(name)!;
      return readFully(handle, start, size);
    },
    finish: (manifest) =>
      inTurn(async () => {
        await append(MANIFEST_NAME, manifest);
        await handle.truncate(end);
        await handle.truncate(end + 2 * BLOCK);
        await handle.sync();
        if (await isNameOf(partOf(path), handle)) await rename(partOf(path), path);
        if (!(await isNameOf(path, handle))) {
          throw new Failure(
            `another run has begun to write ${path}, and this one gave way: run one at a time`,
          );
        }
        isFinished = true;
        await syncFolder(dirname(path));
      }),
    async close() {
      await turn;
      if (!isFinished && (await isNameOf(partOf(path), handle))) await rm(partOf(path), { force: true });
      await handle.close();
    },
  };
}

export interface TarReader extends ArchiveReader {
  close(): Promise<void>;
}

interface Entry {
  readonly name: string;
  readonly start: number;
  readonly size: number;
}

const BLOB_NAME = /^blobs\/[0-9a-f]{2}\/([0-9a-f]{64})$/;

/** @throws Failure where there is no archive, or not a whole one */
export async function tarReader(path: string): Promise<TarReader> {
  if (!(await isThere(path)) && (await isThere(partOf(path)))) {
    throw new Failure(`${path} is not complete: what made it was cut off, and can be run again`);
  }
  const handle = await open(path, "r");
  try {
    const { size: fileSize } = await handle.stat();
    const starts = digestMap();
    const sizes = digestMap();
    const files = new Map<string, Entry>();
    for await (const entry of entriesOf(handle, fileSize)) {
      const digest = BLOB_NAME.exec(entry.name)?.[1];
      if (digest === undefined) files.set(entry.name, entry);
      else {
        starts.set(digest, entry.start);
        sizes.set(digest, entry.size);
      }
    }
    const read = async (name: string, bytesMax: number): Promise<Uint8Array | null> => {
      const entry = files.get(name);
      if (entry === undefined) return null;
      if (entry.size > bytesMax) throw damaged(`${name} is too large`);
      return readFully(handle, entry.start, entry.size);
    };
    const manifest = await read(MANIFEST_NAME, MANIFEST_BYTES_MAX);
    if (manifest === null) {
      throw new Failure(`${path} is no complete archive: there is no ${MANIFEST_NAME} at its end`);
    }
    return {
      manifest,
      async readRecords(name) {
        const bytes = await read(name, RECORDS_BYTES_MAX);
        if (bytes === null) throw damaged(`${name} is missing`);
        return bytes;
      },
      async readBlob(digest) {
        const start = starts.get(digest);
        const size = sizes.get(digest);
        if (start === undefined || size === undefined) return null;
        return { size, body: verified(readPart(handle, start, size), digest) };
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function* entriesOf(handle: FileHandle, fileSize: number): AsyncGenerator<Entry, void, void> {
  const headers = headerReader(handle);
  let said: Partial<Pick<Entry, "name" | "size">> = {};
  for (let at = 0; at + BLOCK <= fileSize;) {
    const header = await headers(at);
    if (header.every((byte) => byte === 0)) return;
    const parsed = parseHeader(header, at);
    const size = said.size ?? parsed.size;
    const start = at + BLOCK;
    if (start + size > fileSize) throw damaged("it ends too early");
    at = start + padded(size);
    if (parsed.type === "x") {
      if (size > PAX_BYTES_MAX) throw damaged(`a header at ${start} is too large`);
      said = parsePax(await readFully(handle, start, size));
      continue;
    }
    const name = (said.name ?? parsed.name).replace(/^(?:\.\/)+/, "");
    said = {};
    if (parsed.type === "0" || parsed.type === "\0") yield { name, start, size };
  }
}

/** Header blocks by position, from windows of the file. */
function headerReader(handle: FileHandle): (at: number) => Promise<Buffer> {
  const window = Buffer.alloc(WINDOW_BYTES);
  let start = 0;
  let length = 0;
  return async (at) => {
    if (at < start || at + BLOCK > start + length) {
      start = at;
      length = (await handle.read(window, 0, WINDOW_BYTES, at)).bytesRead;
      if (length < BLOCK) throw damaged("it ends too early");
    }
    return window.subarray(at - start, at - start + BLOCK);
  };
}

/** A regular file's header. Names are ours: short and ASCII. */
export function tarHeader(name: string, size: number, mtime: number): Buffer {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 100, "latin1");
  header.write(`${octal(FILE_MODE, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100, "latin1");
  if (size <= OCTAL_SIZE_MAX) header.write(`${octal(size, 11)}\0`, 124, "latin1");
  else {
    header.writeUInt8(0x80, 124);
    header.writeBigUInt64BE(BigInt(size), 128);
  }
  header.write(`${octal(mtime, 11)}\0`, 136, "latin1");
  header.write("        0", 148, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  header.write(`${octal(checksum(header), 6)}\0 `, 148, "latin1");
  return header;
}

function parseHeader(header: Buffer, at: number): { name: string; size: number; type: string } {
  const text = (start: number, length: number): string =>
    header.toString("utf8", start, start + length).replace(/\0.*$/s, "");
  if (Number.parseInt(text(148, 8), 8) !== checksum(header)) throw damaged(`no tar header at ${at}`);
  const size =
    header[124]! >= 0x80
      ? Number(header.readBigUInt64BE(128))
      : Number.parseInt(text(124, 12).trim() || "0", 8);
  const prefix = text(257, 5) === "ustar" ? text(345, 155) : "";
  return {
    name: prefix === "" ? text(0, 100) : `${prefix}/${text(0, 100)}`,
    size: sizeOf(size, `the tar header at ${at}`),
    type: String.fromCharCode(header[156]!),
  };
}

/** A negative one would lead back to what has been read, for ever. @throws DocyardError `data_loss` */
function sizeOf(size: number, where: string): number {
  if (!Number.isSafeInteger(size) || size < 0) throw damaged(`no size in ${where}`);
  return size;
}

/** The sum of all bytes, its own field taken as blanks. */
function checksum(header: Buffer): number {
  let sum = 0;
  for (const [index, byte] of header.entries()) sum += index >= 148 && index < 156 ? 0x20 : byte;
  return sum;
}

/** What other tars say in lines of `length key=value`. */
function parsePax(bytes: Buffer): Partial<Pick<Entry, "name" | "size">> {
  const said: { name?: string; size?: number } = {};
  for (let at = 0; at < bytes.length;) {
    const length = Number.parseInt(bytes.toString("latin1", at, at + 20), 10);
    if (!(length > 0)) throw damaged("a tar header is not as it should be");
    const [, key, value] = /^\d+ ([^=]+)=(.*)\n$/s.exec(bytes.toString("utf8", at, at + length)) ?? [];
    if (key === "path") said.name = value!;
    if (key === "size") said.size = sizeOf(Number(value), "a pax header");
    at += length;
  }
  return said;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

/** Zeros up to the next block: what was taken back may lie there. */
async function pad(handle: FileHandle, end: number): Promise<void> {
  await writeFully(handle, Buffer.alloc(padded(end) - end), end);
}

async function readFully(handle: FileHandle, start: number, size: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of readPart(handle, start, size)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Whether the path is this open file, and not another one that has come to be called so. */
async function isNameOf(path: string, handle: FileHandle): Promise<boolean> {
  const [there, own] = await Promise.all([
    stat(path, { bigint: true }).catch(() => null),
    handle.stat({ bigint: true }),
  ]);
  return there !== null && there.ino === own.ino && there.dev === own.dev;
}
