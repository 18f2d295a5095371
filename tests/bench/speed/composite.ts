/**
 * The limit in one program: bare node:http, SQLite rows committed in groups at FULL, bytes hashed and synced, with
 * docyard's flow and none of what makes it a product (scopes, tenants, validation, dedup, ranges, expiry, verified
 * reads). What docyard is measured against; at most 150 lines of code, so that it can be checked by eye.
 */

import { createHash, createHmac, randomBytes } from "node:crypto";
import { mkdir, open, rename } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import Database from "better-sqlite3";
import { facts } from "./facts.ts";

const [folder, rows] = process.argv.slice(2) as [string, string];
const bytesFolder = `${folder}/bytes`;
await mkdir(bytesFolder, { recursive: true });
const db = new Database(`${folder}/composite.db`);
db.pragma("journal_mode = wal");
db.pragma("synchronous = full");
db.exec(`create table artifact (n integer primary key, id text unique, filename text, meta text, size integer,
    digest text, status text, created integer);
  create index by_time on artifact (status, created, n);
  create unique index by_digest on artifact (digest) where status = 'done';
  create table event (seq integer primary key, id text, type text, at integer);
  create table kv (key text, value text, created integer, n integer, primary key (key, value, created, n)) without rowid;
  create virtual table name using fts5(filename, content='', tokenize='trigram');`);
const prepared = new Map<string, Database.Statement>();
const sql = (text: string): Database.Statement => {
  if (!prepared.has(text)) prepared.set(text, db.prepare(text));
  return prepared.get(text)!;
};
const publish = (n: number | bigint, filename: string, meta: object, at: number): void => {
  for (const pair of Object.entries(meta)) sql("insert into kv values (?, ?, ?, ?)").run(...pair, at, n);
  sql("insert into name (rowid, filename) values (?, ?)").run(n, filename);
};
db.transaction((count: number) => {
  for (let n = 1; n <= count; n++) {
    const { id, filename, metadata, size, digest, createdAt } = facts(n);
    const values = [n, id, filename, JSON.stringify(metadata), size, digest, createdAt];
    sql("insert into artifact values (?, ?, ?, ?, ?, ?, 'done', ?)").run(...values);
    publish(n, filename, metadata, createdAt);
  }
})(Number(rows));
db.exec("analyze");

/** All writes of one turn share one transaction, and so one sync. */
let queue: { run: () => void; resolve: () => void; reject: (error: unknown) => void }[] = [];
const commit = db.transaction((jobs: typeof queue) => {
  for (const { run } of jobs) run();
});
const write = (run: () => void): Promise<void> =>
  new Promise((resolve, reject) => {
    if (queue.push({ run, resolve, reject }) > 1) return;
    setImmediate(() => {
      const jobs = queue.splice(0);
      try {
        commit(jobs);
        for (const job of jobs) job.resolve();
      } catch (error) {
        for (const job of jobs) job.reject(error);
      }
    });
  });

const secret = randomBytes(32);
function sign(id: string): string {
  const expires = Date.now() + 3_600_000;
  const hmac = createHmac("sha256", secret).update(id + expires);
  return `/bytes/${id}?expires=${expires}&signature=${hmac.digest("hex")}`;
}

type Said = { id: string; filename: string; metadata: object; size: number };
type Sums = [digest: string, size: number];

/** Hash in line, 2 MiB a write with one in flight, then a sync: what this machine does best with Node. */
async function receive(incoming: AsyncIterable<Buffer>, path: string): Promise<Sums> {
  const file = await open(path, "w");
  const hash = createHash("sha256");
  let [group, held, size] = [[] as Buffer[], 0, 0];
  let writing: Promise<unknown> = Promise.resolve();
  for await (const part of incoming) {
    hash.update(part);
    group.push(part);
    size += part.length;
    if ((held += part.length) < 2 * 1024 ** 2) continue;
    await writing;
    writing = file.writev(group);
    [group, held] = [[], 0];
  }
  await writing;
  if (held > 0) await file.writev(group);
  await file.datasync();
  await file.close();
  return [hash.digest("hex"), size];
}

type Row = { n: number; id: string; filename: string; meta: string; created: number };

function list(query: URLSearchParams): object {
  const [limit, offset] = [Number(query.get("limit") ?? 20), Number(query.get("offset") ?? 0)];
  const pairs = Object.entries(JSON.parse(query.get("metadata") ?? "{}") as Record<string, string>);
  const search = query.get("search");
  const values = search === null ? pairs.flat() : [`"${search}"`];
  let from = `artifact where status = 'done'${" and n in (select n from kv where key = ? and value = ?)".repeat(pairs.length)}`;
  if (search !== null) from = "artifact where n in (select rowid from name where filename match ?)";
  // One pair has an index in the list's own order.
  if (pairs.length === 1) from = "kv join artifact using (n, created) where key = ? and value = ?";
  const count = pairs.length === 1 ? "kv where key = ? and value = ?" : from;
  const page = sql(`select * from ${from} order by created desc, n desc limit ? offset ?`);
  const { total } = sql(`select count(*) total from ${count}`).get(...values) as { total: number };
  const data = (page.all(...values, limit, offset) as Row[]).map((row) => {
    return { ...row, meta: JSON.parse(row.meta) as object, downloadUrl: sign(row.id) };
  });
  return { data, meta: { total, hasMore: offset + limit < total } };
}

const received = new Map<string, Sums>();

async function answer(incoming: IncomingMessage): Promise<object> {
  const { pathname, searchParams } = new URL(incoming.url!, "http://host");
  if (incoming.method === "GET") return list(searchParams);
  const id = pathname.slice("/bytes/".length);
  if (incoming.method === "PUT")
    return { sums: received.set(id, await receive(incoming, `${bytesFolder}/.${id}`)).get(id) };
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(part as Buffer);
  const said = JSON.parse(Buffer.concat(parts).toString()) as Said;
  const at = Date.now();
  if (pathname === "/artifacts") {
    const made = `art_${randomBytes(16).toString("hex")}`;
    await write(() => {
      const values = [made, said.filename, JSON.stringify(said.metadata), said.size, at];
      sql("insert into artifact values (null, ?, ?, ?, ?, null, 'open', ?)").run(...values);
      sql("insert into event values (null, ?, 'created', ?)").run(made, at);
    });
    return { id: made, uploadUrl: sign(made) };
  }
  const row = sql("select * from artifact where id = ?").get(said.id) as Row;
  const [digest, size] = received.get(said.id)!;
  received.delete(said.id);
  await rename(`${bytesFolder}/.${said.id}`, `${bytesFolder}/${said.id}-${digest}`);
  const directory = await open(bytesFolder);
  await directory.sync();
  await directory.close();
  await write(() => {
    sql("update artifact set status = 'done', digest = ?, size = ? where n = ?").run(digest, size, row.n);
    publish(row.n, row.filename, JSON.parse(row.meta) as object, row.created);
    sql("insert into event values (null, ?, 'completed', ?)").run(said.id, at);
  });
  return { id: said.id, digest };
}

// A slow answer to one is no reason to hang up on the others.
const server = createServer({ keepAliveTimeout: 0 }, (incoming, outgoing) => {
  answer(incoming).then(
    (result) => {
      const body = Buffer.from(JSON.stringify(result));
      outgoing
        .writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length })
        .end(body);
    },
    (error: unknown) => outgoing.writeHead(500).end(String(error)),
  );
});
server.listen(0, "127.0.0.1", () =>
  console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })),
);
