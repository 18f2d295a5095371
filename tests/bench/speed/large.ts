/**
 * Large bodies, one at a time: a client that sends what it has in memory and throws away what it gets, against docyard,
 * the composite's loop, nginx and @tus/server. Rates in MiB a second; the client is curl where there is one for both.
 */

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, open, stat, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../services/workspace.ts";
import { openConnection } from "./connection.ts";
import { program, type Subject } from "./subjects.ts";

const MIB = 1024 ** 2;
const CHUNK = randomBytes(4 * MIB);

/** Sends so many MiB in chunks, as fast as they are taken; resolves when the answer is there. */
export async function send(
  method: string,
  url: string,
  mib: number,
  headers: Readonly<Record<string, string>> = {},
): Promise<number> {
  const from = performance.now();
  const outgoing = request(url, { method, headers: { "Content-Length": mib * MIB, ...headers } });
  const answered = once(outgoing, "response");
  for (let sent = 0; sent < mib; sent += CHUNK.length / MIB) {
    // Bytes that differ from those sent before: the same chunk, turned.
    if (!outgoing.write(CHUNK)) await once(outgoing, "drain");
  }
  outgoing.end();
  const [response] = (await answered) as [IncomingMessage];
  response.resume();
  await once(response, "close");
  if (response.statusCode! >= 300) throw new Error(`the upload was answered with ${response.statusCode}`);
  return (mib * 1_000) / (performance.now() - from);
}

/** Lets the disk catch up: some leave what they wrote in memory, and whoever syncs next would wait for it. */
export async function settle(): Promise<void> {
  await once(spawn("sync", { stdio: "ignore" }), "exit");
}

/** By curl, into nothing: its rate for the whole body. */
export async function receive(url: string, mib: number): Promise<number> {
  const from = performance.now();
  const child = spawn("curl", ["-s", "-f", "-o", "/dev/null", url], { stdio: "ignore" });
  const [code] = (await once(child, "exit")) as [number];
  if (code !== 0) throw new Error(`curl ended with ${code}`);
  return (mib * 1_000) / (performance.now() - from);
}

/** Create and PUT; complete is not counted, since it moves no bytes. Resolves to the rate and to a download URL. */
export async function uploadLarge(
  subject: Subject,
  mib: number,
): Promise<{ readonly rate: number; readonly download: string }> {
  const before = await openConnection(subject.url);
  const begun = await subject.create(before, Date.now(), mib * MIB);
  before.close();
  const url = new URL(begun.uploadUrl, subject.url).href;
  CHUNK.writeDoubleLE(performance.now(), 0);
  const rate = await send("PUT", url, mib);
  // Another connection: a server closes one on which nothing moves for as long as a large body takes.
  const after = await openConnection(subject.url);
  await subject.complete(after, begun);
  const { data } = await subject.list(after, { limit: 1 });
  after.close();
  return { rate, download: new URL(data[0]!.downloadUrl, subject.url).href };
}

export interface Peer {
  readonly name: string;
  upload(mib: number): Promise<number>;
  /** Absent where it does not serve files well enough to be asked. */
  download?(mib: number): Promise<number>;
  stop(): Promise<void>;
}

/** nginx with sendfile and DAV, as Debian ships it; null where it is not installed. */
export async function nginx(folder: string): Promise<Peer | null> {
  const program = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
  const found = (
    await Promise.all(
      program.map((path) =>
        stat(path).then(
          () => path,
          () => null,
        ),
      ),
    )
  ).find(Boolean);
  if (found == null) return null;
  const port = await freePort();
  const root = join(folder, "nginx");
  await mkdir(join(root, "files"), { recursive: true });
  const config = join(root, "nginx.conf");
  await writeFile(
    config,
    `daemon off; pid ${root}/pid; error_log stderr error; worker_processes 1; user root;
    events { worker_connections 256; }
    http { access_log off; sendfile on; tcp_nopush on; client_max_body_size 0;
      client_body_temp_path ${root}/body; proxy_temp_path ${root}/p; fastcgi_temp_path ${root}/f;
      uwsgi_temp_path ${root}/u; scgi_temp_path ${root}/s;
      server { listen 127.0.0.1:${port}; root ${root}/files; location / { dav_methods PUT; } } }`,
  );
  const child = spawn(found, ["-p", root, "-c", config], { stdio: "ignore" });
  await answering(port);
  const url = `http://127.0.0.1:${port}/large`;
  return {
    name: "nginx",
    upload: (mib) => send("PUT", url, mib),
    download: (mib) => receive(url, mib),
    async stop() {
      child.kill("SIGTERM");
      await once(child, "exit");
    },
  };
}

/** @tus/server on files. */
export async function tus(folder: string): Promise<Peer> {
  const directory = join(folder, "tus");
  await mkdir(directory, { recursive: true });
  const { child, port } = await program(fileURLToPath(new URL("tus-server.ts", import.meta.url)), [
    directory,
  ]);
  const version = { "Tus-Resumable": "1.0.0" };
  return {
    name: "@tus/server",
    async upload(mib) {
      const made = await fetch(`http://127.0.0.1:${port}/files`, {
        method: "POST",
        headers: { ...version, "Upload-Length": String(mib * MIB) },
      });
      return send("PATCH", made.headers.get("location")!, mib, {
        ...version,
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
      });
    },
    async stop() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Files that are read once are in the page cache: what is measured then is the server, not the disk. */
export async function warm(path: string): Promise<void> {
  const file = await open(path);
  const buffer = Buffer.alloc(4 * MIB);
  while ((await file.read(buffer)).bytesRead > 0);
  await file.close();
}

async function answering(port: number): Promise<void> {
  for (let i = 0; ; i++) {
    try {
      await fetch(`http://127.0.0.1:${port}/`);
      return;
    } catch (error) {
      if (i === 100) throw error;
      await new Promise((resolve) => {
        setTimeout(resolve, 50);
      });
    }
  }
}
