/**
 * `artifact list|get|upload|download|rm`: the main job from the command line, through core's own use cases in the name of
 * the operator. Files are read and written here; an upload or a download that was cut off goes on where it was.
 */

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { open, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type {
  Artifact,
  ArtifactSummary,
  Created,
  JsonObject,
  VisibleStatus,
  WritableDock,
} from "@docyard/core";
import {
  DocyardError,
  isDocyardError,
  isId,
  PAGE_LIMIT_MAX,
  parseFilter,
  VISIBLE_STATUSES,
} from "@docyard/core";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { Failure, reasonOf, UsageError } from "./failure.ts";
import { isErrno, nameNew, readFilePart, syncFolder, writeFully } from "./files.ts";
import { dockNamed, operate, type Operation, operatorOf } from "./operator.ts";
import { list, record } from "./print.ts";
import { startProgress } from "./progress.ts";

const AGAIN = "run it again to go on";

function artifactDocument(artifact: ArtifactSummary) {
  const { id, dockId, face, status, filename, contentType, size, digest, metadata, failure } = artifact;
  return {
    id,
    dockId,
    face,
    status,
    filename,
    contentType,
    size,
    hash: digest === null ? null : `sha256:${digest}`,
    metadata,
    failure: failure?.message ?? null,
    createdAt: new Date(artifact.createdAt).toISOString(),
    updatedAt: new Date(artifact.updatedAt).toISOString(),
  };
}

// ---- list and get ----------------------------------------------------------------------------------------------

export async function listArtifacts(said: Said, config: Config): Promise<Answer> {
  return operate(
    said,
    config,
    async (operation) => {
      const dock = await dockNamed(operation, said.positional);
      const reader = await operation.docyard.open(operatorOf(dock), dock.id, "artifacts:read");
      const [search, metadata, limit, status] = ["search", "metadata", "limit", "status"].map(said.flag);
      if (limit !== undefined && !isLimit(limit))
        throw new UsageError(`--limit: write 1 to ${PAGE_LIMIT_MAX}`);
      const { items, page } = await reader.list({
        ...(search === undefined ? {} : { search }),
        ...(metadata === undefined ? {} : { filter: parseFilter(metadata) }),
        ...(limit === undefined ? {} : { limit: Number(limit) }),
        ...(status === undefined ? {} : { statuses: statusesOf(status) }),
      });
      const data = items.map(({ artifact }) => artifactDocument(artifact));
      const table = data.map(({ id, status: state, size, createdAt, filename }) => ({
        id,
        status: state,
        size,
        createdAt,
        filename,
      }));
      const more = page.hasMore ? `\n${data.length} of ${page.total}: say --limit for more\n` : "";
      return { document: { data, total: page.total, hasMore: page.hasMore }, text: `${list(table)}${more}` };
    },
    AGAIN,
  );
}

function isLimit(text: string): boolean {
  return /^\d{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= PAGE_LIMIT_MAX;
}

function statusesOf(text: string): VisibleStatus[] {
  return text.split(",").map((word) => {
    const found = VISIBLE_STATUSES.find((status) => status === word);
    if (found === undefined) throw new UsageError(`--status: choose from ${VISIBLE_STATUSES.join(", ")}`);
    return found;
  });
}

export async function getArtifact(said: Said, config: Config): Promise<Answer> {
  return operate(
    said,
    config,
    async (operation) => {
      const document = artifactDocument(await artifactNamed(operation, said.positional));
      return { document, text: record(`Artifact ${document.id}:`, document) };
    },
    AGAIN,
  );
}

/** Whatever its dock and face. @throws DocyardError `not_found` */
async function artifactNamed({ store }: Operation, id: string): Promise<Artifact> {
  const artifact = isId(id) ? await store.artifacts.get({ id }) : null;
  if (artifact === null || artifact.status === "deleted") {
    throw new DocyardError("not_found", `Artifact ${id.slice(0, 64)} not found`);
  }
  return artifact;
}

export async function removeArtifacts(said: Said, config: Config): Promise<Answer> {
  return operate(
    said,
    config,
    async (operation) => {
      // All must be there before the first one goes.
      const artifacts: Artifact[] = [];
      for (const id of [said.positional, ...said.more]) artifacts.push(await artifactNamed(operation, id));
      for (const { id, dockId, face } of artifacts) {
        if (face === "studio") throw new Failure(`Artifact ${id} was made by Studio: delete it there`);
        operation.signal.throwIfAborted();
        const dock = await dockNamed(operation, dockId);
        await (await operation.docyard.open(operatorOf(dock), dockId, "artifacts:write")).remove(id);
      }
      const removed = artifacts.map(({ id }) => id);
      return { document: { removed }, text: removed.map((id) => `Artifact ${id} removed.\n`).join("") };
    },
    "what was removed stays removed",
  );
}

// ---- upload ----------------------------------------------------------------------------------------------------

interface Facts {
  readonly path: string;
  readonly filename: string;
  readonly size: number;
  readonly digest: string;
}

export async function uploadFiles(said: Said, config: Config): Promise<Answer> {
  const name = said.flag("name");
  if (name !== undefined && said.more.length > 1) throw new UsageError("--name goes with one file only");
  const metadata = metadataOf(said.flag("metadata"));
  return operate(
    said,
    config,
    async (operation) => {
      const dock = await dockNamed(operation, said.positional);
      const writer = await operation.docyard.open(operatorOf(dock), dock.id, "artifacts:write");
      const documents: object[] = [];
      for (const path of said.more) {
        const facts = await hashFile(operation, path, name ?? basename(path));
        const { artifact, isDuplicate } = await upload(operation, writer, facts, metadata);
        documents.push({ ...artifactDocument(artifact), file: path, isDuplicate });
      }
      const lines = documents.map((one) => record("Stored:", one)).join("\n");
      return { document: { data: documents }, text: lines };
    },
    AGAIN,
  );
}

function metadataOf(text: string | undefined): JsonObject | undefined {
  if (text === undefined) return undefined;
  try {
    return parseFilter(text);
  } catch (error) {
    throw new UsageError(`--metadata: ${reasonOf(error)}`);
  }
}

async function hashFile({ docyard, signal }: Operation, path: string, filename: string): Promise<Facts> {
  const { sizeMax } = docyard.settings;
  const hash = createHash("sha256");
  const handle = await openFile(path);
  try {
    const { size } = await handle.stat();
    // Before it is read, which takes minutes where a file is as large.
    if (size > sizeMax) throw new Failure(`${path} has more than the ${sizeMax} bytes of --max-size`);
    const body = watching("hash", readFilePart(handle, 0, size, changed(path)), { size, signal });
    for await (const chunk of body) hash.update(chunk);
    return { path, filename, size, digest: hash.digest("hex") };
  } finally {
    await handle.close();
  }
}

/** Without O_NONBLOCK whoever opens a FIFO waits for its writer, deaf to signals. To files it means nothing. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;

async function openFile(path: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(path, READ_FLAGS);
  } catch (error) {
    throw new Failure(`${path}: ${reasonOf(error)}`, { cause: error });
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new Failure(`${path}: this is no file`);
}

async function upload(
  operation: Operation,
  writer: WritableDock,
  facts: Facts,
  metadata: JsonObject | undefined,
): Promise<{ artifact: Artifact; isDuplicate: boolean }> {
  const { docyard, store, said } = operation;
  const contentType = said.flag("content-type");
  const begun = await begunUpload(operation, writer, facts);
  const created: Created | null =
    begun !== null
      ? null
      : await writer.create({
          filename: facts.filename,
          size: facts.size,
          hash: facts.digest,
          ...(metadata === undefined ? {} : { metadata }),
          ...(contentType === undefined ? {} : { contentType }),
        });
  if (created?.isDuplicate === true) return created;
  const row = begun ?? created!.artifact;
  await stageBytes(operation, row, facts);
  const completed = await writer.complete({ uploadId: row.uploadId! });
  if (completed.artifact.status !== "upload_started") return completed;
  // A store that cannot attest a digest has a worker read the bytes: this is one.
  await docyard.ingest(completed.artifact.id, { signal: operation.signal });
  const current = (await store.artifacts.get({ id: completed.artifact.id })) ?? completed.artifact;
  if (current.status !== "upload_completed" && current.duplicateOf === null) {
    throw new Failure(`${facts.path}: ${current.failure?.message ?? `is ${current.status}`}`);
  }
  const twin = current.duplicateOf === null ? null : await store.artifacts.get({ id: current.duplicateOf });
  return { artifact: twin ?? current, isDuplicate: twin !== null };
}

/** Open rows looked through for one to go on with. */
const BEGUN_MAX = 100;

/** An earlier upload of this very file by this command that was cut off. */
async function begunUpload(
  { store }: Operation,
  { dock }: WritableDock,
  facts: Facts,
): Promise<Artifact | null> {
  const { rows } = await store.artifacts.find({
    dockId: dock.id,
    face: "machine",
    statuses: ["created"],
    search: facts.filename,
    start: { offset: 0 },
    limit: BEGUN_MAX,
  });
  const found = rows.find(
    ({ filename, digest, createdBy }) =>
      filename === facts.filename && digest === facts.digest && createdBy === operatorOf(dock).id,
  );
  const row = found === undefined ? null : await store.artifacts.get({ id: found.id });
  return row?.status === "created" ? row : null;
}

/** Straight to where the client's PUT would land, unless it is there already. */
async function stageBytes({ blobs, docyard, signal }: Operation, row: Artifact, facts: Facts): Promise<void> {
  const staged = await blobs.stat(row.stagingKey!);
  if (staged?.size === facts.size && staged.digest === facts.digest) return;
  const handle = await openFile(facts.path);
  try {
    const { path, size } = facts;
    const body = watching("upload", readFilePart(handle, 0, size, changed(path)), { size, signal });
    const { sizeMax } = docyard.settings;
    const sent = await blobs.put(row.stagingKey!, body, { sizeMax, signal });
    if (sent.digest !== facts.digest) throw changed(path)();
  } finally {
    await handle.close();
  }
}

/** What is said of a file that is not what it was when it was looked at first. */
const changed = (path: string) => (): Failure =>
  new Failure(`${path} was changed while it was read: try again`);

/** The same bytes, with a bar. */
async function* watching(
  stage: string,
  body: AsyncIterable<Uint8Array>,
  { size, signal, from = 0 }: { readonly size: number; readonly signal: AbortSignal; readonly from?: number },
): AsyncGenerator<Uint8Array, void, void> {
  const progress = await startProgress({ noun: "bytes" });
  try {
    let done = from;
    for await (const chunk of body) {
      signal.throwIfAborted();
      yield chunk;
      done += chunk.byteLength;
      progress.tell(stage, { done, total: size, bytes: done });
    }
  } finally {
    progress.stop();
  }
}

// ---- download --------------------------------------------------------------------------------------------------

export async function downloadFile(said: Said, config: Config): Promise<Answer> {
  return operate(
    said,
    config,
    async (operation) => {
      const artifact = await artifactNamed(operation, said.positional);
      const { id, status, size, digest } = artifact;
      if (status !== "upload_completed") throw new Failure(`Artifact ${id} is ${status}: it has no bytes`);
      // A filename is never a path (ruling 9).
      const path = said.more[0] ?? artifact.filename;
      const mayReplace = said.has("force");
      if (await isFolder(path)) throw new Failure(`${path} is a folder: name a file in it`);
      if (!mayReplace && (await exists(path)))
        throw new Failure(`${path} is there already: say --force to replace it`);
      const resumed = await download(operation, artifact, path, mayReplace);
      const document = { id, file: path, size, hash: `sha256:${digest}`, resumedAt: resumed };
      return { document, text: record(`Artifact ${id} is in ${path}.`, document) };
    },
    AGAIN,
  );
}

/** @returns how many bytes an earlier run had left */
async function download(
  operation: Operation,
  artifact: Artifact,
  path: string,
  mayReplace: boolean,
): Promise<number> {
  const part = partOf(path);
  const handle = await open(part, "a+", 0o600).then(
    async (appending) => {
      await appending.close();
      return open(part, "r+");
    },
    (error: unknown) => {
      throw new Failure(`${part}: ${reasonOf(error)}`, { cause: error });
    },
  );
  let start: number;
  try {
    start = await fill(operation, artifact, handle);
    await handle.sync();
  } catch (error) {
    if (error instanceof Mismatch) await unlink(part);
    throw error;
  } finally {
    await handle.close();
  }
  if (mayReplace) await rename(part, path);
  else {
    await nameNew(part, path).catch((error: unknown) => {
      throw new Failure(`${path}: ${reasonOf(error)}`, { cause: error });
    });
  }
  await syncFolder(dirname(path));
  return start;
}

/** Where a download is kept until it is whole; the longest names have no room for another ending. */
function partOf(path: string): string {
  const name = basename(path);
  if (Buffer.byteLength(name) + PART.length <= NAME_BYTES_MAX) return path + PART;
  return join(dirname(path), createHash("sha256").update(name).digest("hex") + PART);
}

const PART = ".part";
/** Of one name in a folder, on nearly all file systems. */
const NAME_BYTES_MAX = 255;

class Mismatch extends Failure {}

/** Adds what is missing, once more from the beginning if what was there was wrong. */
async function fill(operation: Operation, artifact: Artifact, handle: FileHandle): Promise<number> {
  const size = artifact.size!;
  const found = (await handle.stat()).size;
  const start = found > size ? 0 : found;
  for (const from of start === 0 ? [0] : [start, 0]) {
    await handle.truncate(from);
    if (await fillFrom(operation, artifact, handle, from)) return from;
  }
  throw new Mismatch(
    `The stored bytes of artifact ${artifact.id} are missing or damaged: nothing was kept (docyard-server verify tells more)`,
  );
}

/** Whether the whole is right. */
async function fillFrom(
  { blobs, signal }: Operation,
  { blobKey, size, digest, filename }: Artifact,
  handle: FileHandle,
  from: number,
): Promise<boolean> {
  const hash = createHash("sha256");
  for await (const chunk of readFilePart(handle, 0, from, changed(filename))) hash.update(chunk);
  let at = from;
  if (from < size!) {
    if ((await blobs.stat(blobKey!))?.size !== size) return false;
    const { body } = await blobs.get(blobKey!, { range: { start: from, end: size }, signal });
    try {
      for await (const chunk of watching("download", body, { size, signal, from })) {
        await writeFully(handle, chunk, at);
        hash.update(chunk);
        at += chunk.byteLength;
      }
    } catch (error) {
      if (isDocyardError(error, "data_loss") || isDocyardError(error, "not_found")) return false;
      throw error;
    }
  }
  return hash.digest("hex") === digest;
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: unknown) => {
      if (isErrno(error, "ENOENT")) return false;
      throw new Failure(`${path}: ${reasonOf(error)}`, { cause: error });
    },
  );
}
