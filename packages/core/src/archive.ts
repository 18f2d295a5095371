/**
 * The archive: what a backup and an export are made of, whatever medium they lie on. Records as lines of JSON in files of
 * bounded size, blobs by their digest, and a manifest that is written last and vouches for the rest. Files and tar are
 * left to whoever implements `ArchiveWriter` and `ArchiveReader`.
 */

import { DocyardError } from "./errors.ts";
import { isJsonObject, parseJson } from "./json.ts";
import type { StoreRecord } from "./ports.ts";
import { sha256 } from "./sha256.ts";

const ARCHIVE_FORMAT = "docyard-archive";
const ARCHIVE_VERSION = 1;

/** Where an archive is made. What is kept from an earlier, unfinished run may be found there again. */
export interface ArchiveWriter {
  /** Whether the blob is there already, as far as the medium tells; nothing else is written then. */
  holds(digest: string, size: number): Promise<boolean>;
  /**
   * Streams the body, and keeps it only if it is what `digest` and `size` say. Rejects with the body's own error when
   * that rejects; nothing is kept then.
   * @returns what the body was
   */
  writeBlob(
    blob: { readonly digest: string; readonly size: number },
    body: AsyncIterable<Uint8Array>,
  ): Promise<{ readonly size: number; readonly digest: string }>;
  /** Adds a file of records. Names are new in each run. */
  writeRecords(name: string, bytes: Uint8Array): Promise<void>;
  /** A file of records of this run. */
  readRecords(name: string): Promise<Uint8Array>;
  /** Makes everything durable, and then the archive complete, in one step. */
  finish(manifest: Uint8Array): Promise<void>;
}

/** An archive that is complete. */
export interface ArchiveReader {
  readonly manifest: Uint8Array;
  /** @throws DocyardError `data_loss` when it is missing. */
  readRecords(name: string): Promise<Uint8Array>;
  /**
   * The blob, or null. The body rejects with `data_loss` before its end unless every byte of it was as `digest` says: a
   * store that takes bodies whole or not at all never holds wrong bytes.
   */
  readBlob(
    digest: string,
  ): Promise<{ readonly size: number; readonly body: AsyncIterable<Uint8Array> } | null>;
}

/** In this order they are loaded. `amended`: artifacts that ended while their bytes were copied, as they were then. */
const RECORD_KINDS = ["accounts", "amended", "artifacts", "events"] as const;
export type RecordKind = (typeof RECORD_KINDS)[number];

export interface RecordsFile {
  readonly name: string;
  readonly kind: RecordKind;
  readonly records: number;
  readonly bytes: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly format: typeof ARCHIVE_FORMAT;
  readonly version: number;
  /** `backup`: everything as of one moment; `export`: the completed artifacts of one dock. */
  readonly kind: "backup" | "export";
  /** Of an export. */
  readonly dock: string | null;
  /** The moment, ISO 8601. */
  readonly createdAt: string;
  /** Version of the program that made it. */
  readonly docyard: string;
  readonly counts: ArchiveCounts;
  readonly files: readonly RecordsFile[];
}

export interface ArchiveCounts {
  readonly accounts: number;
  readonly artifacts: number;
  readonly events: number;
  /** Distinct blobs, and their bytes. */
  readonly blobs: number;
  readonly bytes: number;
  /** Artifacts whose bytes were missing or damaged when they were to be copied. */
  readonly lost: number;
}

/** Told now and then, while an archive is made or read. */
export interface ArchiveProgress {
  readonly stage: "records" | "blobs" | "rows";
  /** Artifacts, or records. */
  readonly done: number;
  /** Null while it is not known. */
  readonly total: number | null;
  readonly bytes: number;
}

/** Bytes of one file of records, about: small enough to be held in memory, a few hundred of them hold millions of rows. */
const RECORDS_BYTES = 4 * 1024 ** 2;
/** A manifest is a few hundred bytes for each of its files. */
export const MANIFEST_BYTES_MAX: number = 16 * 1024 ** 2;
/** One record with the longest metadata and the most fragments, and the file around it. */
export const RECORDS_BYTES_MAX: number = RECORDS_BYTES + 64 * 1024 ** 2;

const FILE_NAME = /^[a-z0-9-]{1,64}\/[a-z]{1,32}-\d{6}\.ndjson$/;

/** Gathers records of one kind after the other into files. */
export interface RecordsWriter {
  add(kind: RecordKind, record: StoreRecord): Promise<void>;
  /** Writes what is gathered; @returns every file so far */
  flush(): Promise<readonly RecordsFile[]>;
}

/** Into a folder that is new in each run: an archive that is replaced stays whole until the new one is. */
export function recordsWriter(archive: ArchiveWriter, createdAt: number): RecordsWriter {
  const folder = `records-${new Date(createdAt).toISOString().replaceAll(/[^0-9]/g, "")}`;
  const files: RecordsFile[] = [];
  let lines: string[] = [];
  let length = 0;
  let current: RecordKind | null = null;

  const flush = async (): Promise<readonly RecordsFile[]> => {
    if (current === null || lines.length === 0) return files;
    const kind = current;
    const number = files.filter((file) => file.kind === kind).length + 1;
    const name = `${folder}/${kind}-${String(number).padStart(6, "0")}.ndjson`;
    const bytes = new TextEncoder().encode(lines.join(""));
    const records = lines.length;
    [lines, length] = [[], 0];
    await archive.writeRecords(name, bytes);
    files.push({ name, kind, records, bytes: bytes.byteLength, sha256: await sha256(bytes) });
    return files;
  };

  return {
    async add(kind, record) {
      if (kind !== current || length >= RECORDS_BYTES) await flush();
      current = kind;
      const line = `${JSON.stringify(record)}\n`;
      lines.push(line);
      length += line.length;
    },
    flush,
  };
}

/** The records of a file, which must be what the manifest says. @throws DocyardError `data_loss` */
export async function readRecords(
  archive: Pick<ArchiveReader, "readRecords">,
  file: RecordsFile,
): Promise<StoreRecord[]> {
  const bytes = await archive.readRecords(file.name);
  if (bytes.byteLength !== file.bytes || (await sha256(bytes)) !== file.sha256) {
    throw new DocyardError("data_loss", `The archive is damaged: ${file.name} is not what its manifest says`);
  }
  const lines = new TextDecoder().decode(bytes).split("\n");
  return lines.filter((line) => line !== "").map((line) => readRecord(file.name, line));
}

function readRecord(name: string, line: string): StoreRecord {
  let record: unknown;
  try {
    record = parseJson(line);
  } catch {
    record = null;
  }
  if (isJsonObject(record)) {
    const { kind } = record;
    if ((kind === "account" || kind === "artifact" || kind === "event") && isJsonObject(record[kind])) {
      return record as unknown as StoreRecord;
    }
  }
  throw new DocyardError("data_loss", `The archive is damaged: ${name} holds a line that is no record`);
}

/** Writes the manifest of what was archived, which makes the archive complete. @param createdAt milliseconds since 1970 UTC */
export async function finishArchive(
  archive: ArchiveWriter,
  createdAt: number,
  contents: Pick<Manifest, "kind" | "dock" | "docyard" | "counts" | "files">,
): Promise<Manifest> {
  const { kind, dock, ...rest } = contents;
  const manifest: Manifest = {
    format: ARCHIVE_FORMAT,
    version: ARCHIVE_VERSION,
    kind,
    dock,
    createdAt: new Date(createdAt).toISOString(),
    ...rest,
  };
  await archive.finish(new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`));
  return manifest;
}

/** @throws DocyardError `data_loss` for what is no manifest, `invalid_argument` for one of a later version. */
export function readManifest(bytes: Uint8Array): Manifest {
  let manifest: Partial<Record<keyof Manifest, unknown>> | null = null;
  try {
    const value: unknown = parseJson(new TextDecoder().decode(bytes));
    if (isJsonObject(value)) manifest = value;
  } catch {
    // Told below.
  }
  if (manifest?.format !== ARCHIVE_FORMAT || !Number.isSafeInteger(manifest.version)) {
    throw new DocyardError("data_loss", "This is no docyard archive");
  }
  if (manifest.version !== ARCHIVE_VERSION) {
    throw new DocyardError(
      "invalid_argument",
      `The archive has format ${String(manifest.version)}, and this program reads format ${ARCHIVE_VERSION}: use the docyard that made it`,
    );
  }
  const { kind, dock, counts, files } = manifest;
  const isWhole =
    (kind === "backup" || kind === "export") &&
    (kind === "export") === (typeof dock === "string") &&
    isJsonObject(counts) &&
    COUNTS.every((name) => isCount(counts[name])) &&
    Array.isArray(files) &&
    files.every(isRecordsFile);
  if (!isWhole) throw new DocyardError("data_loss", "The archive is damaged: its manifest is not whole");
  return manifest as Manifest;
}

const COUNTS = ["accounts", "artifacts", "events", "blobs", "bytes", "lost"] as const;

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isRecordsFile(value: unknown): boolean {
  if (!isJsonObject(value)) return false;
  const { name, kind, records, bytes, sha256: digest } = value;
  return (
    typeof name === "string" &&
    FILE_NAME.test(name) &&
    (RECORD_KINDS as readonly unknown[]).includes(kind) &&
    isCount(records) &&
    isCount(bytes) &&
    (bytes as number) <= RECORDS_BYTES_MAX &&
    typeof digest === "string"
  );
}
