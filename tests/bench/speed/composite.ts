/**
 * The limit in one program: bare node:http, docyard's own rows committed in groups at FULL, bytes hashed and synced,
 * with docyard's flow and none of what makes it a product (scopes, tenants, validation, dedup, ranges, expiry, verified
 * reads, totals that need no counting). What docyard is measured against; at most 150 lines of code, so that it can be
 * checked by eye.
 */

import { createHash, createHmac, randomBytes } from "node:crypto";
import { mkdir, open, rename } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import Database from "better-sqlite3";

const HOUR_MS = 3_600_000;

/** The database is there, as docyard's store has made and filled it: what is compared are programs, not rows. */
const [folder] = process.argv.slice(2) as [string];
const bytesFolder = `${folder}/bytes`;
await mkdir(bytesFolder, { recursive: true });
const db = new Database(`${folder}/docyard.db`);
db.exec("pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -32768; analyze");
const prepared = new Map<unknown, Database.Statement>();
const prepare = (text: string | TemplateStringsArray): Database.Statement =>
  prepared.get(text) ?? prepared.set(text, db.prepare([text].flat().join("?"))).get(text)!;
const run = (text: TemplateStringsArray, ...values: unknown[]): unknown => prepare(text).run(...values);
// oxlint-disable no-unused-expressions -- a statement of SQL is one here

type Said = { id: string; filename: string; metadata: object; size: number };
type Sums = [digest: string, size: number];
type Row = Said & { n: number; metadata: string; storage_key: string; created_at: number };

function add(id: string, { filename, metadata, size }: Said, at: number): void {
  const [own, json, hour] = [id.slice(4), JSON.stringify(metadata), new Date(at).toISOString().slice(0, 13)];
  run`insert into artifact (id, dock_id, face, version, status, filename, folded, content_type, size, metadata, source,
      upload_id, staging_key, storage_key, shares_blob, attempts, due_at, created_by, created_at, updated_at)
    values (${id}, 'dock_default', 'machine', 1, 'created', ${filename}, ${filename.toLowerCase()},
      'application/octet-stream', ${size}, ${json}, '{"kind":"upload"}', ${`upload_${own}`},
      ${`incoming/upload_${own}`}, ${`docks/dock_default/artifacts/${hour}/${own}`}, 0, 0, ${at + HOUR_MS},
      'mc_bench', ${at}, ${at})`;
  run`insert into dock_count (dock_id, seq, artifacts, open, bytes) values ('dock_default', 1, 1, 1, ${size})
    on conflict do update
    set seq = seq + 1, artifacts = artifacts + 1, open = open + 1, bytes = bytes + excluded.bytes`;
  tell(id, "artifact.created", "{}", at);
}

function tell(id: string, type: string, data: string, at: number): void {
  run`insert into event (dock_id, seq, artifact_id, type, at, by, data) values ('dock_default',
    (select seq from dock_count where dock_id = 'dock_default'), ${id}, ${type}, ${at}, 'mc_bench', ${data})`;
}

function finish(row: Row, [digest, size]: Sums, at: number): void {
  const { n, id, filename, metadata, storage_key, created_at } = row;
  run`update artifact set status = 'upload_completed', version = 2, digest = ${digest}, size = ${size},
    blob_key = ${`${storage_key}-${digest}`}, due_at = null, updated_at = ${at} where n = ${n}`;
  run`insert into listing_count (dock_id, face, completed, changes) values ('dock_default', 'machine', 1, 1)
    on conflict do update set completed = completed + 1, changes = changes + 1`;
  run`insert into listing_stretch (listing, stretch, documents, lowest, highest)
    values (1, ${Math.floor(created_at / 2 ** 20)}, 1, ${n}, ${n}) on conflict do update
    set documents = documents + 1, highest = excluded.highest`;
  for (const pair of Object.entries(JSON.parse(metadata) as object)) {
    const [path, value] = pair.map((part) => JSON.stringify(part));
    run`insert into term (listing, path, value, documents) values (1, ${path}, ${value}, 1)
      on conflict do update set documents = documents + 1`;
    run`insert into posting (term, created_at, id, n) values ((select id from term
      where listing = 1 and path = ${path} and value = ${value}), ${created_at}, ${id}, ${n})`;
  }
  run`insert into artifact_name (rowid, folded) values ((1 << 40) + ${n}, ${filename.toLowerCase()})`;
  run`update dock_count set seq = seq + 1, open = open - 1 where dock_id = 'dock_default'`;
  tell(id, "artifact.completed", JSON.stringify({ size, digest }), at);
}

/** All writes of one turn share one transaction, and so one sync. */
const queue: { run: () => void; resolve: () => void }[] = [];
const commit = db.transaction((jobs: typeof queue) => jobs.map((job) => job.run()));
const write = (run: () => void): Promise<void> =>
  new Promise((resolve) => {
    if (queue.push({ run, resolve }) > 1) return;
    setImmediate(() => {
      const jobs = queue.splice(0);
      commit(jobs);
      for (const job of jobs) job.resolve();
    });
  });

const secret = randomBytes(32);
function sign(id: string): string {
  const expires = Date.now() + HOUR_MS;
  const hmac = createHmac("sha256", secret).update(id + expires);
  return `/bytes/${id}?expires=${expires}&signature=${hmac.digest("hex")}`;
}

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

function list(query: URLSearchParams): object {
  const [limit, offset] = [Number(query.get("limit") ?? 20), Number(query.get("offset") ?? 0)];
  const pairs = Object.entries(JSON.parse(query.get("metadata") ?? "{}") as Record<string, string>);
  const search = query.get("search");
  const values = pairs.flat().map((part) => JSON.stringify(part));
  const term = "(select id from term where listing = 1 and path = ? and value = ?)";
  let from = `artifact where dock_id = 'dock_default' and face = 'machine' and status = 'upload_completed'
    ${`and n in (select n from posting where term = ${term})`.repeat(pairs.length)}`;
  if (search !== null) {
    values.push(`"${search}"`);
    from = "artifact where n in (select rowid & 0xffffffffff from artifact_name where artifact_name match ?)";
  }
  // One pair has an index in the list's own order.
  if (pairs.length === 1) from = `posting join artifact using (n, id, created_at) where term = ${term}`;
  const count = pairs.length === 1 ? `posting where term = ${term}` : from;
  const page = prepare(`select n, id, filename, metadata, size, digest, status, created_at from ${from}
    order by created_at desc, id desc limit ? offset ?`);
  const { total } = prepare(`select count(*) total from ${count}`).get(...values) as { total: number };
  const data = (page.all(...values, limit, offset) as Row[]).map((row) => {
    return { ...row, metadata: JSON.parse(row.metadata) as object, downloadUrl: sign(row.id) };
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
    // Growing with time, like docyard's: whatever is indexed by it is written side by side.
    const made = `art_${at.toString(16).padStart(12, "0")}${randomBytes(7).toString("hex")}`;
    await write(() => add(made, said, at));
    return { id: made, uploadUrl: sign(made) };
  }
  const row = prepare("select * from artifact where id = ?").get(said.id) as Row;
  const sums = received.get(said.id)!;
  received.delete(said.id);
  await rename(`${bytesFolder}/.${said.id}`, `${bytesFolder}/${said.id}-${sums[0]}`);
  const directory = await open(bytesFolder);
  await directory.sync();
  await directory.close();
  await write(() => finish(row, sums, at));
  return { id: said.id };
}

// A slow answer to one is no reason to hang up on the others; whatever goes wrong ends the program.
const server = createServer({ keepAliveTimeout: 0 }, (incoming, outgoing) => {
  void answer(incoming).then((result) => {
    const body = Buffer.from(JSON.stringify(result));
    const headers = { "Content-Type": "application/json", "Content-Length": body.length };
    outgoing.writeHead(200, headers).end(body);
  });
});
server.listen(0, "127.0.0.1", () =>
  console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })),
);
