/** The disk store in a process of its own: killed at any moment, flooded with aborts, and carrying large bodies. */

import type { ChildProcess } from "node:child_process";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { request } from "node:http";
import type { Socket } from "node:net";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { NODE_ARGS } from "../sources.ts";
import { bytesOfSize, digestOf, readAll, sha256 } from "./blob-bytes.ts";
import type { Ask, Stats, Told } from "./blob-child.ts";
import { filesBelow, openDisk, strayFilesAndKeys } from "./blob-harness.ts";

const MIB = 1024 * 1024;
const CHILD = fileURLToPath(new URL("./blob-child.ts", import.meta.url));
const children: ChildProcess[] = [];
const roots: string[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  for (const root of roots.splice(0)) await rm(root, { recursive: true, force: true });
});

async function newRoot(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "docyard-blobs-"));
  roots.push(root);
  return root;
}

async function start(mode: "serve" | "write", root: string): Promise<ChildProcess> {
  const child = fork(CHILD, [mode, root], {
    // A small young generation: else what is measured is garbage that V8 has not looked at yet, some 100 MiB of it even
    // in a server that throws every byte away.
    execArgv: [...NODE_ARGS, "--max-semi-space-size=1"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.push(child);
  const [first] = await Promise.race([
    once(child, "message"),
    once(child, "exit").then(() => Promise.reject(new Error("the child died"))),
  ]);
  if (first !== "ready") throw new Error(`expected "ready", got ${JSON.stringify(first)}`);
  return child;
}

let asked = 0;

async function ask<T>(child: ChildProcess, message: Ask): Promise<T> {
  const id = ++asked;
  const { promise, resolve } = Promise.withResolvers<T>();
  const onMessage = (reply: { readonly id: number; readonly value: T }): void => {
    if (reply.id === id) resolve(reply.value);
  };
  child.on("message", onMessage);
  try {
    child.send({ id, ...message });
    return await promise;
  } finally {
    child.off("message", onMessage);
  }
}

/** Numbers that look random and are the same in every run. */
function randomly(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe("killed at any moment", () => {
  const kills = process.env["DOCYARD_TEST_FULL"] === "1" ? 200 : 14;
  test(`what was acknowledged is there, what is there is whole, and the next start tidies up (${kills} kills)`, async () => {
    const root = await newRoot();
    const random = randomly(11);
    const copied = new Map<string, string>();
    const faults: string[] = [];
    let acknowledged = 0;
    for (let round = 0; round < kills; round++) {
      const child = await start("write", root);
      child.on("message", (message: Told) => {
        if (message.told === "copied") copied.set(message.key, message.digest);
        if (message.told === "failed") faults.push(`${round}: the writer stopped: ${message.why}`);
      });
      await new Promise((resolve) => {
        setTimeout(resolve, 20 + random(250));
      });
      child.kill("SIGKILL");
      await once(child, "exit");

      const { blobs } = await openDisk({ root });
      for (const { key } of await blobs.list("", { limit: 100_000 })) {
        const [info, real] = [await blobs.stat(key), await blobs.digest(key)];
        // A sidecar whose blob never got its name: listed, so that it is found and deleted, and nothing else.
        if (real === null) {
          if (info !== null) faults.push(`${round}: ${key} is known and not there`);
          continue;
        }
        if (info?.digest !== null && info?.digest !== real.digest) {
          faults.push(`${round}: stat attests ${info?.digest} for ${key}, which is ${real.digest}`);
        }
        // A final key names its content: whatever is there under it is whole and right.
        if (key.startsWith("docks/") && !key.endsWith(`-${real.digest}`))
          faults.push(`${round}: ${key} is torn`);
        if (key.startsWith("incoming/")) {
          // The same work, repeated after the crash, succeeds.
          if (!(await blobs.copy(key, `again/${real.digest}`, real)))
            faults.push(`${round}: ${key} cannot be copied`);
        }
      }
      for (const [key, digest] of copied) {
        if ((await blobs.digest(key))?.digest !== digest)
          faults.push(`${round}: ${key} was acknowledged and is not there`);
      }
      acknowledged += copied.size;
      // Later rounds need not read it all again.
      for (const { key } of await blobs.list("docks/", { limit: 100_000 })) await blobs.delete(key);
      for (const { key } of await blobs.list("again/", { limit: 100_000 })) await blobs.delete(key);
      copied.clear();
      await blobs.close();
    }
    expect(faults).toEqual([]);
    expect(acknowledged).toBeGreaterThan(kills);
    const tidied = await openDisk({ root, now: () => Date.now() + 25 * 3_600_000 });
    for (const { key } of await tidied.blobs.list("", { limit: 100 })) await tidied.blobs.delete(key);
    expect(await filesBelow(root)).toEqual([]);
    await tidied.blobs.close();
  }, 900_000);
});

/** One raw HTTP exchange that is destroyed after so many bytes sent or received. */
async function abortAfter(
  url: URL,
  head: string,
  body: Buffer,
  sent: number,
  received: number,
): Promise<void> {
  const socket: Socket = connect(Number(url.port), url.hostname);
  socket.on("error", () => {}); // resets are what this is about
  let got = 0;
  socket.on("data", (chunk) => {
    got += chunk.byteLength;
    if (got >= received) socket.destroy();
  });
  await once(socket, "connect");
  const all = Buffer.concat([Buffer.from(head), body]);
  const closed = once(socket, "close");
  socket.write(all.subarray(0, sent), () => {
    if (received === 0) socket.destroy();
  });
  await closed;
}

/** Until nobody is connected any more; the child's own cleaning up follows within the same turns. */
async function quiet(child: ChildProcess, descriptors: number): Promise<Stats> {
  for (let i = 0; ; i++) {
    const stats = await ask<Stats>(child, { ask: "stats" });
    if ((stats.connections === 0 && stats.descriptors <= descriptors) || i === 100) return stats;
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
}

describe("a storm of aborts", () => {
  test("260 uploads and 260 downloads cut at random bytes leave no descriptor, file or complaint", async () => {
    const root = await newRoot();
    const child = await start("serve", root);
    const random = randomly(7);
    const body = bytesOfSize(3 * MIB);
    const putUrl = new URL(await ask<string>(child, { ask: "put-url", key: "blob" }));
    await upload(putUrl.href, body);
    const getUrl = new URL(await ask<string>(child, { ask: "get-url", key: "blob" }));
    await readAll(await download(getUrl.href));
    const before = await quiet(child, Number.POSITIVE_INFINITY);
    const headOf = (method: string, url: URL, more: string): string =>
      `${method} ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\n${more}\r\n`;
    const storm = async (n: number): Promise<void> => {
      for (let i = 0; i < n; i++) {
        const head = headOf("PUT", putUrl, `Content-Length: ${body.byteLength}\r\n`);
        await abortAfter(
          putUrl,
          head,
          body,
          random(2) === 0 ? head.length + random(body.byteLength) : random(head.length),
          0,
        );
        const range = random(3) === 0 ? "Range: bytes=1000-2500000\r\n" : "";
        const get = headOf("GET", getUrl, range);
        await abortAfter(getUrl, get, Buffer.alloc(0), get.length, 1 + random(2 * MIB));
      }
    };
    await Promise.all(Array.from({ length: 13 }, () => storm(20)));
    const after = await quiet(child, before.descriptors);
    expect(after.troubles).toEqual([]);
    expect(after.descriptors).toBeLessThanOrEqual(before.descriptors);
    expect(await strayFilesAndKeys(root)).toEqual(["blob"]);
    // And it still works.
    expect(sha256(await readAll(await download(getUrl.href)))).toBe(digestOf(body));
  }, 180_000);
});

/** Sends a body by node:http, with its back-pressure; resolves to the status. */
async function upload(url: string, body: Buffer, times = 1): Promise<number> {
  const sending = request(url, {
    method: "PUT",
    headers: { "content-length": `${body.byteLength * times}` },
  });
  const answered = once(sending, "response");
  for (let i = 0; i < times; i++) {
    if (!sending.write(body)) await once(sending, "drain");
  }
  sending.end();
  const [response] = (await answered) as [IncomingMessage];
  response.resume();
  await once(response, "end");
  return response.statusCode!;
}

async function download(url: string): Promise<IncomingMessage> {
  const [response] = (await once(request(url).end(), "response")) as [IncomingMessage];
  return response;
}

/** The most memory the child was seen to use until the work was done. */
async function peakRss(child: ChildProcess, work: Promise<unknown>): Promise<number> {
  const ended = work.then(() => true);
  for (let most = 0; ;) {
    most = Math.max(most, (await ask<Stats>(child, { ask: "stats" })).rss);
    const pause = new Promise<boolean>((resolve) => {
      setTimeout(resolve, 100, false);
    });
    if (await Promise.race([ended, pause])) return most;
  }
}

describe("eight large bodies at once", () => {
  test("256 MiB up and down each: memory grows by less than 64 MiB", async () => {
    const root = await newRoot();
    const child = await start("serve", root);
    const piece = bytesOfSize(MIB);
    const keys = Array.from({ length: 8 }, (_, i) => `blob-${i}`);
    const urls = await Promise.all(keys.map((key) => ask<string>(child, { ask: "put-url", key })));
    await upload(urls[0]!, piece, 2); // so that the code is loaded and warm before the first look
    const { rss: before } = await ask<Stats>(child, { ask: "stats" });
    const uploading = Promise.all(urls.map((url) => upload(url, piece, 256)));
    const uploadPeak = await peakRss(child, uploading);
    expect(await uploading).toEqual(keys.map(() => 200));

    const gets: string[] = [];
    for (const key of keys) gets.push(await ask<string>(child, { ask: "get-url", key }));
    const downloading = Promise.all(
      gets.map(async (url) => {
        let size = 0;
        for await (const chunk of await download(url)) size += (chunk as Buffer).byteLength;
        return size;
      }),
    );
    const downloadPeak = await peakRss(child, downloading);
    expect(await downloading).toEqual(keys.map(() => 256 * MIB));
    const { troubles } = await ask<Stats>(child, { ask: "stats" });
    expect(troubles).toEqual([]);
    expect((uploadPeak - before) / MIB).toBeLessThan(64);
    expect((downloadPeak - before) / MIB).toBeLessThan(64);
  }, 240_000);
});
