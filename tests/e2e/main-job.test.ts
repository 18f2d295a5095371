/**
 * The main job through the executable, with real files: register, send, complete, list, fetch, and get the same bytes.
 * What single routes answer is proven in tests/http; here everything is real and nothing is told what it should be.
 */

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Body, download, machineClient, type MachineClient } from "./client.ts";
import { blocksOf, digestOfBlocks, mp4, pdf, png, sha256 } from "./files.ts";
import { build, type Server, startServer, tempFolder } from "./program.ts";

const MIB = 1024 ** 2;

let folder: Awaited<ReturnType<typeof tempFolder>>;
let server: Server;
let client: MachineClient;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  server = await startServer(["--limit-list", "0"], { cwd: folder.path });
  client = machineClient(server.url, server.firstRun!.client, server.firstRun!.dock.id);
});

afterAll(async () => {
  await server?.kill();
  await folder?.remove();
});

interface Sample {
  readonly filename: string;
  readonly contentType?: string;
  readonly size: number;
  readonly digest: string;
  readonly bytes: () => Body;
}

function whole(filename: string, bytes: Buffer, contentType?: string): Sample {
  return {
    filename,
    ...(contentType === undefined ? {} : { contentType }),
    size: bytes.length,
    digest: sha256(bytes),
    bytes: () => bytes,
  };
}

function streamed(filename: string, size: number): Sample {
  return { filename, size, digest: digestOfBlocks(filename, size), bytes: () => blocksOf(filename, size) };
}

const SAMPLES: readonly Sample[] = [
  whole("empty.bin", Buffer.alloc(0)),
  whole("one byte", Buffer.of(0)),
  whole("discharge-summary-12345.pdf", pdf("Discharge summary (12345)"), "application/pdf"),
  whole("scan.png", png("scan", 320, 200), "image/png"),
  whole("interview.mp4", mp4("interview", 3), "video/mp4"),
  streamed("exactly one MiB", MIB),
  streamed("a byte more than a MiB", MIB + 1),
  streamed("large.bin", 100 * MIB),
];

test.each(SAMPLES)("$filename comes back byte for byte", async (sample) => {
  const { filename, contentType, size, digest, bytes } = sample;
  const metadata = { sample: filename, size };
  const stored = await client.send(
    { filename, metadata, ...(contentType === undefined ? {} : { contentType }) },
    bytes,
  );
  expect(stored).toMatchObject({ filename, size, hash: `sha256:${digest}`, isDuplicate: false, metadata });
  expect(stored.contentType).toBe(contentType ?? "application/octet-stream");

  const { data, meta } = await client.list({ metadata: JSON.stringify({ sample: filename }) });
  expect(meta).toMatchObject({ total: 1, hasMore: false });
  expect(data[0]).toMatchObject({ id: stored.id, size, hash: `sha256:${digest}` });
  expect(await download(data[0]!.downloadUrl)).toEqual({ status: 200, size, digest });
});

/** Names that have broken other systems; every one is legal here and stays as it is. */
const NAMES: readonly string[] = [
  "Größe übermäßig.pdf",
  "患者記録 2024年.pdf",
  "تقرير.pdf",
  "👩‍⚕️ summary.pdf",
  "e\u0301 is not é.pdf",
  "  spaces  around  ",
  "...hidden",
  "-rf",
  "CON",
  'quote".pdf',
  "semi;colon, comma=equals.pdf",
  "100%25 %2e%2e%2f.pdf",
  "$(reboot) `id` && echo.sh",
  "<img src=x onerror=alert(1)>.html",
  "'; drop table artifact; --",
  "a".repeat(200),
];

test("unicode and hostile names stay as they are and harm nobody", async () => {
  for (const [index, filename] of NAMES.entries()) {
    const bytes = Buffer.from(`contents of ${index}`);
    const stored = await client.send({ filename, metadata: { name: index } }, () => bytes);
    expect(stored.filename).toBe(filename);
    const { data } = await client.list({ metadata: JSON.stringify({ name: index }) });
    expect(data.map((one) => one.filename)).toEqual([filename]);
    expect(await download(data[0]!.downloadUrl)).toEqual({
      status: 200,
      size: bytes.length,
      digest: sha256(bytes),
    });
  }
});

test.each(["", ".", "..", "a/b", "a\\b", "../../etc/passwd", "nul\0", "line\nbreak"])(
  "the name %j is refused",
  async (filename) => {
    await expect(client.create({ filename })).rejects.toMatchObject({ status: 400 });
  },
);

test("stored files are the bytes that were sent, under names that no client chose", async () => {
  const root = join(folder.path, "data", "docks");
  const found = new Map<string, number>();
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.endsWith(".crc")) continue;
    expect(entry.name).toMatch(/^[0-9a-z]+-[0-9a-f]{64}$/);
    found.set(entry.name.slice(-64), (await stat(join(entry.parentPath, entry.name))).size);
  }
  for (const { digest, size } of SAMPLES) expect(found.get(digest)).toBe(size);
});

test("sending the same bytes again makes nothing new, with and without a declared hash", async () => {
  const sample = SAMPLES.find(({ filename }) => filename === "scan.png")!;
  const first = (await client.list({ search: "scan.png" })).data[0]!;
  const declared = await client.create({ filename: "again.png", hash: sample.digest });
  expect(declared).toMatchObject({ id: first.id, isDuplicate: true, filename: "scan.png" });
  expect(declared.uploadUrl).toBeUndefined();
  const sent = await client.send({ filename: "again.png" }, sample.bytes);
  expect(sent).toMatchObject({ id: first.id, isDuplicate: true, createdAt: first.createdAt });
});

test("the list walks all of it once, by cursor and by offset", async () => {
  const all = await client.listAll();
  expect(all).toHaveLength(SAMPLES.length + NAMES.length);
  const byOffset: string[] = [];
  for (let offset = 0; ; offset += 7) {
    const { data, meta } = await client.list({ limit: "7", offset: String(offset) });
    byOffset.push(...data.map(({ id }) => id));
    if (!meta.hasMore) break;
  }
  expect(byOffset).toEqual(all.map(({ id }) => id));
});
