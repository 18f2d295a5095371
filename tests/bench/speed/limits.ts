/**
 * Limits of this machine, measured in the same run as everything else: what no program on it can beat. Runs in a
 * process of its own, so that its memory is nobody's.
 */

import { createHash, randomBytes } from "node:crypto";
import { open, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import Database from "better-sqlite3";
import { openConnection } from "./connection.ts";

const MIB = 1024 ** 2;
const GROUP = 64;
const CONNECTIONS = 16;

export interface Limits {
  /** Requests a second of a bare node:http that answers a small JSON document. */
  readonly http: number;
  /** Rows a second in transactions of 64 at FULL, and of one. */
  readonly rowsGrouped: number;
  readonly rowsSingle: number;
  /** MiB a second. */
  readonly sha256: number;
  readonly writeAndSync: number;
}

export async function measureLimits(folder: string, seconds: number): Promise<Limits> {
  return {
    http: await http(seconds),
    rowsGrouped: rows(join(folder, "grouped.db"), GROUP, seconds),
    rowsSingle: rows(join(folder, "single.db"), 1, seconds),
    sha256: sha256(seconds),
    writeAndSync: await writeAndSync(join(folder, "written"), 512),
  };
}

async function http(seconds: number): Promise<number> {
  const body = Buffer.from(JSON.stringify({ id: "x".repeat(30), at: 1 }));
  const server = createServer((_, outgoing) => {
    outgoing.writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length }).end(body);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const open = await Promise.all(Array.from({ length: CONNECTIONS }, () => openConnection(url)));
  let done = 0;
  const from = performance.now();
  const until = from + seconds * 1_000;
  await Promise.all(
    open.map(async (connection) => {
      for (; performance.now() < until; done++) await connection.ask("GET /", "");
    }),
  );
  const rate = (done * 1_000) / (performance.now() - from);
  for (const connection of open) connection.close();
  server.close();
  return rate;
}

function rows(file: string, group: number, seconds: number): number {
  const db = new Database(file);
  db.pragma("journal_mode = wal");
  db.pragma("synchronous = full");
  db.exec("create table row (n integer primary key, id text unique, body text)");
  const insert = db.prepare("insert into row values (null, ?, ?)");
  const body = "x".repeat(300);
  const commit = db.transaction((from: number) => {
    for (let i = 0; i < group; i++) insert.run(`id-${from + i}`, body);
  });
  let done = 0;
  const from = performance.now();
  for (; performance.now() - from < seconds * 1_000; done += group) commit(done);
  const rate = (done * 1_000) / (performance.now() - from);
  db.close();
  return rate;
}

function sha256(seconds: number): number {
  const bytes = randomBytes(4 * MIB);
  let done = 0;
  const from = performance.now();
  for (; performance.now() - from < seconds * 1_000; done += 4) createHash("sha256").update(bytes).digest();
  return (done * 1_000) / (performance.now() - from);
}

async function writeAndSync(path: string, mib: number): Promise<number> {
  const bytes = Buffer.alloc(2 * MIB, 7);
  const file = await open(path, "w");
  const from = performance.now();
  for (let written = 0; written < mib; written += 2) await file.write(bytes);
  await file.datasync();
  const rate = (mib * 1_000) / (performance.now() - from);
  await file.close();
  await rm(path);
  return rate;
}
