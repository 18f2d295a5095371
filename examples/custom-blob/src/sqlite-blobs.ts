/** Blobs inside a SQLite file, in pieces as they came. Keys, bodies and signed URLs are the kit's; here is where bytes lie. */

import { randomUUID } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import * as kit from "@docyard/adapters/blob/kit";
import { type BlobStore, type ByteRange, DocyardError } from "@docyard/core";

/** `body` names the pieces: copies share them, and nobody ever changes them. */
type Row = { key: string; body: string; size: number; digest: string; modifiedAt: number };
type Options = { sizeMax: number; signal?: AbortSignal; publish?: (got: { size: number }) => Promise<void> };

const TABLES = `PRAGMA journal_mode = WAL;
  CREATE TABLE IF NOT EXISTS blob (key TEXT PRIMARY KEY, body TEXT, size INT, digest TEXT, modifiedAt INT);
  CREATE INDEX IF NOT EXISTS blobByBody ON blob (body);
  CREATE TABLE IF NOT EXISTS piece (body TEXT, start INT, bytes BLOB, PRIMARY KEY (body, start));
  DELETE FROM piece WHERE body NOT IN (SELECT body FROM blob);`; // what a crash left of uploads
export function sqliteBlobs(file: string, url: Omit<kit.ServeOptions, "blobs" | "closing">): BlobStore {
  const db = new DatabaseSync(file);
  db.exec(TABLES);
  const closing = new AbortController();
  const byKey = db.prepare("SELECT * FROM blob WHERE key = ?");
  const page = db.prepare("SELECT * FROM blob WHERE key > ? AND key BETWEEN ? AND ? ORDER BY key LIMIT ?");
  const name = db.prepare("INSERT OR REPLACE INTO blob VALUES (?, ?, ?, ?, ?)");
  const unname = db.prepare("DELETE FROM blob WHERE key = ?");
  const add = db.prepare("INSERT INTO piece VALUES (?, ?, ?)");
  const at = db.prepare("SELECT * FROM piece WHERE body = ? AND start <= ? ORDER BY start DESC LIMIT 1");
  const drop = db.prepare("DELETE FROM piece WHERE body = ?1 AND ?1 NOT IN (SELECT body FROM blob)");

  const find = (key: string): Row | undefined => {
    closing.signal.throwIfAborted();
    return byKey.get(kit.checkKey(key)) as Row | undefined;
  };
  /** The one step that counts: a key gets other bytes, or none. Synced, and all pieces that came before with it. */
  const change = (key: string, to: Omit<Row, "key" | "modifiedAt"> | null): void => {
    const before = find(key)?.body ?? null;
    db.exec("PRAGMA synchronous = FULL");
    if (to === null) unname.run(key);
    else name.run(key, to.body, to.size, to.digest, Date.now());
    db.exec("PRAGMA synchronous = NORMAL");
    drop.run(before);
  };
  async function write(key: string, source: AsyncIterable<Uint8Array>, options: Options) {
    find(key);
    const body = randomUUID();
    try {
      const take = (chunk: Uint8Array, start: number): void => void add.run(body, start, chunk);
      const received = await kit.receive(source, options, take);
      await options.publish?.(received);
      change(key, { body, ...received });
      return received;
    } finally {
      if (db.isOpen) drop.run(body); // which does nothing once the body has a name
    }
  }
  async function* read({ body }: Row, { start, end }: ByteRange, signal?: AbortSignal) {
    while (start < end) {
      signal?.throwIfAborted();
      const piece = at.get(body, start) as { start: number; bytes: Uint8Array } | undefined;
      const bytes = piece?.bytes.subarray(start - piece.start, end - piece.start);
      if (bytes === undefined || bytes.length === 0) throw new Error("the blob was deleted");
      start += bytes.length;
      yield bytes;
    }
  }
  const open: kit.ServedBlobs["open"] = async (key, announced) => {
    const row = find(key);
    return kit.openRecorded(row, announced, (range, signal) => read(row!, range, signal));
  };
  return {
    put: write,
    async get(key, { range, signal } = {}) {
      signal?.throwIfAborted();
      const row = find(key);
      if (row === undefined) throw new DocyardError("not_found", "No such blob");
      return { size: row.size, body: read(row, kit.checkRange(range, row.size), signal) };
    },
    stat: async (key) => find(key) ?? null,
    async digest(key, { signal } = {}) {
      const row = find(key);
      return row === undefined ? null : kit.digestOf(read(row, { start: 0, end: row.size }, signal));
    },
    async copy(from, to, expected) {
      const row = find(from) ?? find(to);
      const isSame = row?.size === expected.size && row.digest === expected.digest;
      if (isSame) change(to, row);
      return isSame;
    },
    delete: async (key) => change(key, null),
    async list(prefix, { after = "", limit }) {
      closing.signal.throwIfAborted();
      return page.all(after, prefix, `${prefix}~`, limit) as unknown as Row[];
    },
    ...kit.serveBlobs({ ...url, closing: closing.signal, blobs: { receive: write, open } }),
    ready: async () => void find("ready"),
    async close() {
      closing.abort(new Error("the blob store is closed"));
      if (db.isOpen) db.close();
    },
  };
}
