/** The drivers of one folder, opened together: what one life of the program leaves, the next finds, URLs included. */

import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LocalDocyard, LocalDocyardOptions } from "@docyard/adapters/local";
import { localDocyard } from "@docyard/adapters/local";
import type { BlobHost, Principal } from "@docyard/core";
import { FIRST_DOCK_ID, FIRST_ORGANIZATION_ID } from "@docyard/core";
import { afterEach, beforeEach, expect, test } from "vitest";

let folder: string;
const open: LocalDocyard[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "docyard-local-"));
});
afterEach(async () => {
  for (const yard of open.splice(0)) await yard.close();
  await rm(folder, { recursive: true, force: true });
});

async function opened(options: Partial<LocalDocyardOptions> = {}): Promise<LocalDocyard> {
  const yard = await localDocyard({
    folder: join(folder, "deep/yard"),
    publicUrl: "http://files.test/x",
    ...options,
  });
  open.push(yard);
  return yard;
}

const me: Principal = {
  id: "user_1",
  organizationId: FIRST_ORGANIZATION_ID,
  dockId: FIRST_DOCK_ID,
  scopes: ["artifacts:read", "artifacts:write"],
};

/** The URL of a new upload. */
async function uploadUrl(yard: LocalDocyard): Promise<string> {
  const dock = await yard.docyard.open(me, FIRST_DOCK_ID, "artifacts:write");
  return (await dock.create({ filename: "a.txt" })).upload!.url;
}

async function put({ blobs }: LocalDocyard, host: BlobHost, url: string): Promise<number> {
  const request = new Request(url, { method: "PUT", body: "Blood count: fine." });
  return (await blobs.serve!.fetch(request, host)).status;
}

test("a folder is made with what a server would have there, and a second life honours the first one's URLs", async () => {
  const first = await opened();
  expect(await first.provisioning.firstRun()).not.toBeNull();
  const url = await uploadUrl(first);
  expect(url).toMatch(/^http:\/\/files\.test\/x\/v1\/blobs\//);
  expect(await readdir(join(folder, "deep/yard"))).toEqual(expect.arrayContaining(["data", "docyard.db"]));
  await first.close();

  const second = await opened();
  expect(await second.provisioning.firstRun()).toBeNull();
  expect(await put(second, second.docyard.blobHost, url)).toBe(200);
  await second.docyard.ready();
});

test("the public URL may be known late, and what is set reaches core", async () => {
  let port = 0;
  const yard = await opened({
    publicUrl: () => `http://127.0.0.1:${port}`,
    settings: { sizeMax: 10, limits: { list: { max: 1, windowMs: 60_000 } } },
  });
  await yard.provisioning.firstRun();
  port = 4711;
  expect(yard.publicUrl()).toBe("http://127.0.0.1:4711");
  const url = await uploadUrl(yard);
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:4711\//);
  await expect(put(yard, yard.docyard.blobHost, url)).rejects.toMatchObject({ code: "too_large" });
  const reader = await yard.docyard.open(me, FIRST_DOCK_ID, "artifacts:read");
  await reader.list({});
  await expect(reader.list({})).rejects.toMatchObject({ code: "resource_exhausted" });
});

test("without ports to ingest with, nobody ingests", async () => {
  const { docyard } = await opened();
  await expect(docyard.ingest("art_1")).rejects.toThrow("createDocyard was given no ingest ports");
});

test("what cannot be opened leaves nothing open, and may be tried again", async () => {
  const yard = join(folder, "deep/yard");
  await (await opened()).close();
  await rm(join(yard, "data"), { recursive: true });
  await writeFile(join(yard, "data"), "in the way");
  await expect(opened()).rejects.toThrow(/data/);
  await rm(join(yard, "data"));
  // Somebody else's hand on the database would be in the way of this.
  await (await opened()).docyard.ready();
});

test("ends by itself, once, and is closed then", async () => {
  let kept: LocalDocyard;
  {
    await using yard = await localDocyard({ folder, publicUrl: "http://files.test" });
    kept = yard;
    await yard.docyard.ready();
  }
  await expect(kept.docyard.ready()).rejects.toThrow(/clos|not open/);
  await expect(kept.close()).resolves.toBeUndefined();
});

test.each([
  ["no URL", { publicUrl: undefined as unknown as string }, "publicUrl must be"],
  ["a URL without its scheme", { publicUrl: "files.example.com" }, "publicUrl must be"],
  ["a host and a port", { publicUrl: "localhost:3000" }, "publicUrl must be"],
  ["a size that is no number", { settings: { sizeMax: Number.NaN } }, "settings.sizeMax must be"],
])("%s is refused at once, and the folder is free again", async (_name, wrong, message) => {
  await expect(opened(wrong)).rejects.toThrow(message);
  expect(await (await opened()).provisioning.firstRun()).not.toBeNull();
});
