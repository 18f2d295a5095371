/**
 * What is measured: docyard as it is shipped, on SQLite or PostgreSQL, and the composite, each as a process of its own
 * that speaks to the same client. How they are asked is here; what is asked, and how often, is `workloads.ts`.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { postgresStore } from "@docyard/adapters/store/postgres";
import { sqliteStore } from "@docyard/adapters/store/sqlite";
import type { Artifact, Store, StoreRecord } from "@docyard/core";
import { startServer, tempFolder } from "../../e2e/program.ts";
import type { Connection } from "./connection.ts";
import { facts } from "./facts.ts";
import { fillInBulk } from "./fill.ts";

export interface ListQuery {
  readonly limit?: number;
  readonly offset?: number;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly search?: string;
  readonly cursor?: string;
}

export interface Page {
  readonly data: readonly { readonly id: string; readonly downloadUrl: string }[];
  readonly meta: { readonly total: number; readonly nextCursor?: string | null };
}

export interface Subject {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
  readonly folder: string;
  /** @param size declared, in bytes; default 10 KiB */
  create(to: Connection, i: number, size?: number): Promise<Begun>;
  put(to: Connection, begun: Begun, bytes: Uint8Array): Promise<void>;
  complete(to: Connection, begun: Begun): Promise<void>;
  list(from: Connection, query: ListQuery): Promise<Page>;
  stop(): Promise<void>;
}

export interface Begun {
  readonly id: string;
  readonly uploadUrl: string;
  readonly uploadId: string;
}

const JSON_TYPE = "Content-Type: application/json\r\n";
const DOCK = "dock_default";
const DATABASE = "docyard.db";
/** What is loaded at once. */
const FILL_BATCH = 1_000;
/** Rows from which on filling a file as a server would takes too long. */
const BULK_MIN = 5_000_000;

const described = (i: number, size = 10_240): object => ({
  filename: `bench-${i}.bin`,
  metadata: { patientId: `q${Math.floor(i / 10)}`, kind: "bench", ward: `w${i % 100}` },
  size,
});

export async function docyard(
  rows: number,
  args: readonly string[] = [],
  database?: { readonly url: string; readonly name: string },
): Promise<Subject> {
  const folder = await tempFolder();
  const file = join(folder.path, DATABASE);
  if (database === undefined) await fillSqlite(file, rows);
  else await fill(await postgresStore({ url: database.url }), rows);
  const limits = ["list", "download", "token"].flatMap((name) => [`--limit-${name}`, "0"]);
  const db = database?.url ?? `sqlite:${file}`;
  const server = await startServer(
    ["--db", db, "--blob", join(folder.path, "data"), ...limits, "--log-level", "error", ...args],
    { cwd: folder.path },
  );
  const { clientId, clientSecret } = server.firstRun!.client;
  const granted = await fetch(`${server.url}/v1/oauth/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "client_credentials",
      client_id: clientId,
      client_secret: clientSecret,
    }),
  });
  const { access_token: token } = (await granted.json()) as { access_token: string };
  const bearer = `Authorization: Bearer ${token}\r\n`;
  const base = `/v1/machine/docks/${DOCK}/artifacts`;
  return {
    name: database?.name ?? "docyard",
    url: server.url,
    pid: server.pid,
    folder: folder.path,
    create: (to, i, size) => to.json<Begun>(`POST ${base}`, bearer + JSON_TYPE, described(i, size)),
    async put(to, { uploadUrl }, bytes) {
      const { pathname, search } = new URL(uploadUrl);
      const { status } = await to.ask(`PUT ${pathname}${search}`, "", bytes);
      if (status !== 200) throw new Error(`PUT answered ${status}`);
    },
    async complete(to, { uploadId }) {
      await to.json(`POST ${base}/upload/complete`, bearer + JSON_TYPE, { uploadId });
    },
    list: (from, query) => from.json<Page>(`GET ${base}?${parameters(query)}`, bearer),
    async stop() {
      await server.stop();
      await folder.remove();
    },
  };
}

export async function composite(rows: number): Promise<Subject> {
  const folder = await tempFolder();
  await fillSqlite(join(folder.path, DATABASE), rows);
  const { child, port } = await program(fileURLToPath(new URL("composite.ts", import.meta.url)), [
    folder.path,
  ]);
  return {
    name: "composite",
    url: `http://127.0.0.1:${port}`,
    pid: child.pid!,
    folder: folder.path,
    async create(to, i, size) {
      const made = await to.json<Begun>("POST /artifacts", JSON_TYPE, described(i, size));
      return { ...made, uploadId: made.id };
    },
    async put(to, { uploadUrl }, bytes) {
      const { status } = await to.ask(`PUT ${uploadUrl}`, "", bytes);
      if (status !== 200) throw new Error(`PUT answered ${status}`);
    },
    async complete(to, { id }) {
      await to.json("POST /complete", JSON_TYPE, { id });
    },
    list: (from, query) => from.json<Page>(`GET /artifacts?${parameters(query)}`, ""),
    async stop() {
      child.kill("SIGKILL");
      await once(child, "exit");
      await folder.remove();
    },
  };
}

async function fillSqlite(file: string, rows: number): Promise<void> {
  if (rows >= BULK_MIN) await fillInBulk(file, batches(rows));
  else await fill(await sqliteStore({ file }), rows);
}

/** Closes the store as well. */
async function fill(store: Store, rows: number): Promise<void> {
  for (const records of batches(rows)) await store.load(records);
  await store.close();
}

/** Starts a program that prints `{"port":…}` when it listens. */
export async function program(
  file: string,
  args: readonly string[],
): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const child = spawn(process.execPath, ["--no-warnings", file, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, port: (JSON.parse(line) as { port: number }).port };
  }
  throw new Error(`${file} ended before it listened`);
}

function parameters({ metadata, ...plain }: ListQuery): string {
  const said = Object.entries(plain).map(([name, value]) => [name, String(value)] as [string, string]);
  if (metadata !== undefined) said.push(["metadata", JSON.stringify(metadata)]);
  return new URLSearchParams(said).toString();
}

/** Completed artifacts of the default dock, before the server's first start makes that dock. */
function* batches(rows: number): Generator<readonly StoreRecord[]> {
  for (let first = 1; first <= rows; first += FILL_BATCH) {
    const records: StoreRecord[] = [];
    for (let n = first; n < first + FILL_BATCH && n <= rows; n++) {
      records.push({ kind: "artifact", artifact: artifactOf(n) });
    }
    yield records;
  }
}

function artifactOf(n: number): Artifact {
  const { id, filename, metadata, size, digest, createdAt } = facts(n);
  const storageKey = `docks/${DOCK}/artifacts/2026-01-01/00/${id.slice(4)}`;
  return {
    id,
    dockId: DOCK,
    face: "machine",
    version: 2,
    status: "upload_completed",
    filename,
    contentType: "application/pdf",
    size,
    digest,
    metadata,
    mediaType: null,
    source: { kind: "upload" },
    durationMs: null,
    failure: null,
    uploadId: `upload_${id.slice(4)}`,
    stagingKey: `incoming/upload_${id.slice(4)}`,
    storageKey,
    blobKey: `${storageKey}-${digest}`,
    sharesBlob: false,
    duplicateOf: null,
    attempts: 0,
    dueAt: null,
    createdBy: "mc_bench",
    createdAt,
    updatedAt: createdAt,
  };
}
