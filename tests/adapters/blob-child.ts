/**
 * A process of its own for tests that kill it or look at its memory and descriptors: serves a disk store over node:http,
 * or writes until it is killed. Spoken to over IPC; what is expected of it is left to the tests.
 */

import { readdirSync } from "node:fs";
import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { isDocyardError } from "@docyard/core";
import { bytesOfSize, chunksOf } from "./blob-bytes.ts";

/** What the parent asks for. */
export type Ask =
  | { readonly ask: "stats" }
  | { readonly ask: "put-url"; readonly key: string }
  | { readonly ask: "get-url"; readonly key: string };

export interface Stats {
  readonly rss: number;
  readonly descriptors: number;
  readonly connections: number;
  /** Warnings, unhandled rejections and uncaught exceptions since the start. */
  readonly troubles: readonly string[];
}

/** What the writer tells: `staged` and `copied` only after the store has resolved; `failed` when it had to stop. */
export type Told =
  | { readonly told: "staged" | "copied"; readonly key: string; readonly digest: string }
  | { readonly told: "failed"; readonly why: string };

const [mode, root] = process.argv.slice(2) as ["serve" | "write", string];
const SECRET = new Uint8Array(32).fill(7);
const troubles: string[] = [];
process.on("warning", (warning) => troubles.push(`warning ${warning.stack ?? warning.message}`));
process.on("unhandledRejection", (reason) =>
  troubles.push(`unhandled ${String((reason as Error).stack ?? reason)}`),
);
process.on("uncaughtException", (error) => troubles.push(`uncaught ${error.stack ?? error.message}`));
process.on("disconnect", () => process.exit(0));

let origin = "http://127.0.0.1";
const blobs = await diskBlobs({ root, baseUrl: () => origin, secret: SECRET });
const host = { admit: async () => {}, corrupt: async () => {} };
const STATUS: Readonly<Record<string, number>> = { permission_denied: 403, not_found: 404, too_large: 409 };

if (mode === "serve") await serve();
else
  await write().catch((error: unknown) =>
    process.send!({ told: "failed", why: String(error) } satisfies Told),
  );

async function serve(): Promise<void> {
  const server: Server = createServer({ requestTimeout: 0 }, (incoming, outgoing) => {
    blobs.serve.node({ incoming, outgoing }, host).catch((error: unknown) => {
      outgoing.statusCode = isDocyardError(error) ? (STATUS[error.code] ?? 500) : 500;
      outgoing.end((error as Error).message);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  process.on("message", (ask: Ask & { readonly id: number }) => {
    answer(server, ask).then(
      (value) => process.send!({ id: ask.id, value }),
      (error: unknown) => troubles.push(String(error)),
    );
  });
  process.send!("ready");
}

async function answer(server: Server, ask: Ask): Promise<unknown> {
  const expiresAt = Date.now() + 600_000;
  switch (ask.ask) {
    case "stats": {
      const connections = await new Promise<number>((resolve, reject) => {
        server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
      });
      return {
        rss: process.memoryUsage.rss(),
        descriptors: readdirSync("/proc/self/fd").length,
        connections,
        troubles,
      } satisfies Stats;
    }
    case "put-url":
      return (await blobs.signPut(ask.key, { expiresAt, sizeMax: 1024 ** 3, artifactId: "art_1" })).url;
    case "get-url": {
      const { size, digest } = (await blobs.stat(ask.key))!;
      const facts = { filename: "x.bin", contentType: "application/octet-stream", artifactId: "art_1" };
      return (
        await blobs.signGet(ask.key, { expiresAt, ...facts, size, digest: digest!, principalId: "mc_1" })
      ).url;
    }
  }
}

/** Four loops that stage, stat and copy without end, each over a few keys, so that a kill finds every step under way. */
async function write(): Promise<void> {
  const sizes = [0, 700, 65_536, 1_048_576, 1_048_577, 2_500_000];
  const tell = (told: Told): void => void process.send!(told);
  let seed = process.pid;
  process.send!("ready");
  const loop = async (name: string): Promise<void> => {
    for (;;) {
      const bytes = bytesOfSize(sizes[seed % sizes.length]!, ++seed);
      const staged = `incoming/${name}-${seed % 3}`;
      const { url } = await blobs.signPut(staged, {
        expiresAt: Date.now() + 600_000,
        sizeMax: bytes.byteLength,
        artifactId: "art_1",
      });
      if (seed % 2 === 0) await blobs.put(staged, chunksOf(bytes), { sizeMax: bytes.byteLength });
      else await blobs.serve.fetch(new Request(url, { method: "PUT", body: bytes }), host);
      const info = (await blobs.stat(staged))!;
      tell({ told: "staged", key: staged, digest: info.digest! });
      const to = `docks/d/${name}-${seed}-${info.digest}`;
      if (await blobs.copy(staged, to, { size: info.size, digest: info.digest! })) {
        tell({ told: "copied", key: to, digest: info.digest! });
      }
      if (seed % 5 === 0) await blobs.delete(staged);
    }
  };
  await Promise.all(["a", "b", "c", "d"].map(loop));
}
