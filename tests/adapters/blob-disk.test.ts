/** The disk store beyond the port: what lies on disk, what rot and crashes do to it, and which calls it makes in which order. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import type { DiskBlobs } from "@docyard/adapters/blob/disk";
import { diskBlobs } from "@docyard/adapters/blob/disk";
import { writeBlobFile } from "../../packages/adapters/src/blob/disk-write.ts";
import { THREADED_BYTES_MIN } from "../../packages/adapters/src/blob/hashing.ts";
import { parseSidecar, printSidecar } from "../../packages/adapters/src/blob/sidecar.ts";
import { permissiveHost } from "@docyard/adapters/conformance/blob-store";
import type { DiskIo } from "../../packages/adapters/src/blob/disk-io.ts";
import { nodeDiskIo } from "../../packages/adapters/src/blob/disk-io.ts";
import type { BlobHost } from "@docyard/core";
import { isDocyardError } from "@docyard/core";
import * as fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { DiskFixture } from "./blob-harness.ts";
import { BASE_URL, filesBelow, openDisk, SECRET, strayFilesAndKeys } from "./blob-harness.ts";
import { bytesOfSize, chunksOf, digestOf, readAll, sha256 } from "./blob-bytes.ts";

const MIB = 1024 * 1024;
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function disk(options: Parameters<typeof openDisk>[0] = {}): Promise<DiskFixture> {
  const fixture = await openDisk(options);
  closers.push(() => fixture.close());
  return fixture;
}

const put = (blobs: DiskBlobs, key: string, bytes: Uint8Array) =>
  blobs.put(key, chunksOf(bytes), { sizeMax: bytes.byteLength });

async function getUrl(blobs: DiskBlobs, key: string, bytes: Uint8Array): Promise<string> {
  const { url } = await blobs.signGet(key, {
    expiresAt: Date.now() + 60_000,
    filename: "x.bin",
    contentType: "application/octet-stream",
    size: bytes.byteLength,
    digest: digestOf(bytes),
    artifactId: "art_1",
    principalId: "mc_1",
  });
  return url;
}

type Outcome =
  | { readonly kind: "complete"; readonly status: number; readonly bytes: Uint8Array }
  | { readonly kind: "refused" | "cut"; readonly code: string };

/** Downloads to the end, as far as it goes. */
async function download(
  blobs: DiskBlobs,
  url: string,
  host: BlobHost = permissiveHost(),
  headers: Record<string, string> = {},
): Promise<Outcome> {
  let response: Response;
  try {
    response = await blobs.serve.fetch(new Request(url, { headers }), host);
  } catch (error) {
    return { kind: "refused", code: isDocyardError(error) ? error.code : String(error) };
  }
  try {
    return { kind: "complete", status: response.status, bytes: new Uint8Array(await response.arrayBuffer()) };
  } catch (error) {
    return { kind: "cut", code: isDocyardError(error) ? error.code : String(error) };
  }
}

/** Changes one bit of a file in place, as rot does. */
async function flipBit(path: string, at: number, bit: number): Promise<void> {
  const handle = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    byte[0]! ^= 1 << bit;
    await handle.write(byte, 0, 1, at);
  } finally {
    await handle.close();
  }
}

describe("room", () => {
  test("is what the file system has free, less what uploads under way have announced, and asked for once a second", async () => {
    let asked = 0;
    let free = 1_000;
    let time = 1_000_000;
    const { blobs } = await disk({
      now: () => time,
      io: {
        ...nodeDiskIo,
        statfs: (async () => {
          asked++;
          return { bavail: free, bsize: 4_096 };
        }) as unknown as typeof nodeDiskIo.statfs,
      },
    });
    expect(await Promise.all([blobs.space(), blobs.space()])).toEqual([4_096_000, 4_096_000]);
    expect(asked).toBe(1);
    free = 10;
    expect(await blobs.space()).toBe(4_096_000);
    time += 1_001;
    expect(await blobs.space()).toBe(40_960);

    const { url } = await blobs.signPut("blob", {
      expiresAt: time + 60_000,
      sizeMax: 3_000,
      artifactId: "a",
    });
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const body = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          begin();
          await held;
          controller.enqueue(new Uint8Array(3_000));
          controller.close();
        },
      },
      // Pulled by the store's reading, and not before.
      { highWaterMark: 0 },
    );
    const request = new Request(url, {
      method: "PUT",
      body,
      duplex: "half",
      headers: { "Content-Length": "3000" },
    });
    const upload = blobs.serve.fetch(request, permissiveHost());
    await begun;
    expect(await blobs.space()).toBe(40_960 - 3_000);
    letGo();
    expect((await upload).status).toBe(200);
    expect(await blobs.space()).toBe(40_960);
  });

  test("of the real file system is some", async () => {
    const { blobs } = await disk();
    expect(await blobs.space()).toBeGreaterThan(0);
  });
});

describe("what lies on disk", () => {
  test("a blob is a raw file under its key, and nothing else but a sidecar above one MiB", async () => {
    const { blobs, root } = await disk();
    const small = bytesOfSize(MIB);
    const large = bytesOfSize(MIB + 1);
    await put(blobs, "docks/d/small", small);
    await put(blobs, "docks/d/large", large);
    expect(await filesBelow(root)).toEqual(["docks/d/large", "docks/d/large.crc", "docks/d/small"]);
    expect(sha256(await readFile(join(root, "docks/d/small")))).toBe(digestOf(small));
    expect(sha256(await readFile(join(root, "docks/d/large")))).toBe(digestOf(large));
  });

  test("a sidecar has a CRC-32 per MiB, and parses only as it was printed", async () => {
    const { blobs, root } = await disk();
    const bytes = bytesOfSize(2 * MIB + 5);
    await put(blobs, "blob", bytes);
    const text = await readFile(join(root, "blob.crc"), "utf8");
    const sidecar = parseSidecar(text);
    expect(sidecar).toMatchObject({ size: bytes.byteLength, digest: digestOf(bytes) });
    expect(sidecar?.crcs).toEqual([
      crc32(bytes.subarray(0, MIB)),
      crc32(bytes.subarray(MIB, 2 * MIB)),
      crc32(bytes.subarray(2 * MIB)),
    ]);
    expect(printSidecar(sidecar!)).toBe(text);
    for (const changed of [
      text.trimEnd(),
      ` ${text}`,
      text.replace("1", "2"),
      `${text}\n`,
      "",
      "null",
      "[]",
      "{}",
    ]) {
      expect(parseSidecar(changed)).toBeNull();
    }
  });

  test("no single bit changed in a sidecar goes unnoticed", () => {
    const text = printSidecar({
      size: 2 * MIB,
      digest: "ab".repeat(32),
      crcs: [1, 0xffffffff],
      file: { inode: "12", modified: "1234567890123456789" },
    });
    const bytes = Buffer.from(text);
    const unnoticed: number[] = [];
    for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      if (parseSidecar(changed.toString("utf8")) !== null) unnoticed.push(bit);
    }
    expect(unnoticed).toEqual([]);
  });

  test("put then get is the identity, for random sizes around every boundary", async () => {
    const { blobs } = await disk();
    const size = fc.oneof(
      ...[0, 1, 65_536, MIB, 2 * MIB, 3 * MIB].map((edge) =>
        fc.integer({ min: Math.max(0, edge - 3), max: edge + 7 }),
      ),
      fc.nat(400_000),
    );
    await fc.assert(
      fc.asyncProperty(
        size,
        fc.integer({ min: 1, max: 300_000 }),
        fc.nat(1_000),
        async (size, chunk, seed) => {
          const bytes = bytesOfSize(size, seed);
          const { digest } = await blobs.put("blob", chunksOf(bytes, Math.max(chunk, size / 500)), {
            sizeMax: size,
          });
          expect(digest).toBe(digestOf(bytes));
          expect(sha256(await readAll((await blobs.get("blob")).body))).toBe(digest);
          expect(await blobs.stat("blob")).toEqual({ size, digest });
        },
      ),
      { numRuns: 60 },
    );
  });

  test("the memory of what is written goes at once where it is given, and nobody else's is touched", async () => {
    const { root } = await disk();
    const memory = fc.constantFrom("lent" as const, "shared" as const, "given" as const);
    // Alone in its memory, or a part of what others use as well.
    const chunks = fc.array(fc.record({ size: fc.nat(100_000), isAlone: fc.boolean() }), { maxLength: 40 });
    let files = 0;
    await fc.assert(
      fc.asyncProperty(memory, chunks, async (kind, wanted) => {
        const parts = wanted.map(({ size, isAlone }, i) => {
          const bytes = bytesOfSize(size, i);
          return isAlone ? new Uint8Array(bytes) : new Uint8Array([0, ...bytes]).subarray(1);
        });
        const whole = Buffer.concat(parts);
        const path = join(root, `written-${++files}`);
        const sums = await writeBlobFile(nodeDiskIo, path, ReadableStream.from(parts), {
          sizeMax: whole.byteLength,
          memory: kind,
        });
        expect([sums.digest, sha256(await readFile(path))]).toEqual([sha256(whole), sha256(whole)]);
        expect(parts.map(({ byteLength }) => byteLength)).toEqual(
          wanted.map(({ size, isAlone }) => (kind === "given" && isAlone ? 0 : size)),
        );
        if (kind !== "given") expect(sha256(Buffer.concat(parts))).toBe(sha256(whole));
      }),
      { numRuns: 60 },
    );
  });

  test("every range of a download agrees with slice, in every mode", async () => {
    for (const verifyReads of ["full", "chunks", "off"] as const) {
      const { blobs } = await disk({ verifyReads });
      const bytes = bytesOfSize(2 * MIB + 77);
      await put(blobs, "blob", bytes);
      const url = await getUrl(blobs, "blob", bytes);
      const edge = fc.oneof(
        fc.nat(bytes.byteLength - 1),
        ...[0, MIB, 2 * MIB].map((at) => fc.integer({ min: Math.max(0, at - 2), max: at + 2 })),
      );
      await fc.assert(
        fc.asyncProperty(edge, edge, async (a, b) => {
          const [first, last] = a < b ? [a, b] : [b, a];
          const got = await download(blobs, url, permissiveHost(), { range: `bytes=${first}-${last}` });
          expect(got.kind).toBe("complete");
          const sent = (got as Extract<Outcome, { kind: "complete" }>).bytes;
          expect(Buffer.compare(sent, bytes.subarray(first, last + 1))).toBe(0);
        }),
        { numRuns: 40 },
      );
    }
  });

  test("others on the machine see neither bytes nor names, which tell digests", async () => {
    const { root } = await disk();
    const { blobs } = await openDisk({ root: join(root, "made") });
    await put(blobs, "docks/a/b", bytesOfSize(2 ** 21));
    const names = await readdir(root, { recursive: true });
    expect(names).toContain("made/docks/a/b");
    for (const name of names) expect([name, (await stat(join(root, name))).mode & 0o007]).toEqual([name, 0]);
  });

  test("links are not followed: a key cannot be pointed elsewhere", async () => {
    const { blobs, root } = await disk();
    await writeFile(join(root, "secret"), "outside");
    await mkdir(join(root, "docks"));
    await symlink(join(root, "secret"), join(root, "docks/link"));
    expect(await blobs.stat("docks/link")).toBeNull();
    expect(await blobs.digest("docks/link").catch((error: NodeJS.ErrnoException) => error.code)).toBe(
      "ELOOP",
    );
    expect((await blobs.list("docks/", { limit: 10 })).map(({ key }) => key)).toEqual([]);
  });

  test("what is no file is nobody's blob, and nobody waits for it", async () => {
    const { blobs, root } = await disk();
    await mkdir(join(root, "docks"));
    // Without a writer a reader that opens it waits.
    execFileSync("mkfifo", [join(root, "docks/pipe")]);
    expect(await blobs.digest("docks/pipe")).toBeNull();
    const url = await getUrl(blobs, "docks/pipe", bytesOfSize(10));
    await expect(blobs.serve.fetch(new Request(url), permissiveHost())).rejects.toMatchObject({
      code: "not_found",
    });
  });

  test("the root itself may be a link: that is the operator's choice", async () => {
    const { root } = await disk();
    const link = `${root}-link`;
    await symlink(root, link);
    const { blobs } = await openDisk({ root: link });
    await put(blobs, "top", bytesOfSize(10));
    await put(blobs, "docks/a", bytesOfSize(20));
    await blobs.delete("top");
    expect((await blobs.list("", { limit: 10 })).map(({ key }) => key)).toEqual(["docks/a"]);
    await blobs.close();
    await rm(link);
  });

  test("what is no blob is not listed", async () => {
    const { blobs, root } = await disk();
    await put(blobs, "docks/a", bytesOfSize(MIB + 1));
    await mkdir(join(root, "lost+found"));
    await writeFile(join(root, "lost+found/x"), "x");
    await writeFile(join(root, ".hidden"), "x");
    await writeFile(join(root, "docks/with space"), "x");
    await writeFile(join(root, ".tmp/1-leftover"), "x");
    expect((await blobs.list("", { limit: 10 })).map(({ key }) => key)).toEqual(["docks/a"]);
  });
});

describe("rot", () => {
  const SIZES = [5, 1_000, 65_537, MIB, MIB + 1, 3 * MIB];

  test("one flipped bit anywhere never makes a complete wrong download (320 runs)", async () => {
    const { blobs, root } = await disk();
    const contents = new Map(SIZES.map((size) => [`blob-${size}`, bytesOfSize(size, size)]));
    const urls = new Map<string, string>();
    for (const [key, bytes] of contents) {
      await put(blobs, key, bytes);
      urls.set(key, await getUrl(blobs, key, bytes));
    }
    const hurtFile = fc.constantFrom(
      ...contents.keys(),
      ...SIZES.filter((size) => size > MIB).map((size) => `blob-${size}.crc`),
    );
    await fc.assert(
      fc.asyncProperty(
        hurtFile,
        fc.double({ min: 0, max: 0.999_999, noNaN: true }),
        fc.nat(7),
        async (file, part, bit) => {
          const path = join(root, file);
          const at = Math.floor((await stat(path)).size * part);
          await flipBit(path, at, bit);
          const isSidecar = file.endsWith(".crc");
          const key = isSidecar ? file.slice(0, -4) : file;
          const bytes = contents.get(key)!;
          const host = permissiveHost();
          const got = await download(blobs, urls.get(key)!, host);
          const again = await download(blobs, urls.get(key)!, host, { range: "bytes=1-3" });
          // Rot in the blob is refused or cut off and reported; in the sidecar it is healed, and nobody notices.
          const firstMib = at < MIB;
          const expected = isSidecar ? "complete" : bytes.byteLength <= MIB || firstMib ? "refused" : "cut";
          expect([file, at, got.kind]).toEqual([file, at, expected]);
          expect(got.kind === "complete" ? sha256(got.bytes) : got.code).toBe(
            isSidecar ? digestOf(bytes) : "data_loss",
          );
          expect(again.kind).toBe(isSidecar || !firstMib ? "complete" : "refused");
          expect(host.corrupted.length > 0).toBe(!isSidecar);
          if (!isSidecar) await flipBit(path, at, bit);
        },
      ),
      { numRuns: 320 },
    );
    expect(await strayFilesAndKeys(root)).toEqual([...contents.keys()].sort());
  });

  test("ranges are checked too: only those that touch the hurt MiB are refused", async () => {
    for (const verifyReads of ["full", "chunks"] as const) {
      const { blobs, root } = await disk({ verifyReads });
      const bytes = bytesOfSize(3 * MIB);
      await put(blobs, "blob", bytes);
      const url = await getUrl(blobs, "blob", bytes);
      await flipBit(join(root, "blob"), MIB + 500, 3);
      for (const [range, kind] of [
        ["bytes=0-99", "complete"],
        [`bytes=0-${MIB - 1}`, "complete"],
        [`bytes=${2 * MIB}-`, "complete"],
        [`bytes=${MIB}-${MIB}`, "refused"],
        [`bytes=${2 * MIB - 1}-${2 * MIB + 1}`, "refused"],
        [`bytes=${MIB - 1}-${MIB}`, "cut"],
      ] as const) {
        const got = await download(blobs, url, permissiveHost(), { range });
        expect([range, got.kind]).toEqual([range, kind]);
      }
    }
  });

  // The larger one is hashed on a thread, while its bytes are sent.
  test.for([2, THREADED_BYTES_MIN / MIB])(
    "the tail of a whole body of %i MiB and ten bytes is withheld until its SHA-256 matches",
    async (mib) => {
      const { blobs, root } = await disk();
      const bytes = bytesOfSize(mib * MIB + 10);
      await put(blobs, "blob", bytes);
      // Rot that the sidecar's CRC-32 does not see: both are wrong in the same way.
      await flipBit(join(root, "blob"), 5, 1);
      const changed = await readFile(join(root, "blob"));
      const sidecar = parseSidecar(await readFile(join(root, "blob.crc"), "utf8"))!;
      const crcs = [crc32(changed.subarray(0, MIB)), ...sidecar.crcs.slice(1)];
      await writeFile(join(root, "blob.crc"), printSidecar({ ...sidecar, crcs }));
      const host = permissiveHost();
      const response = await blobs.serve.fetch(new Request(await getUrl(blobs, "blob", bytes)), host);
      const sent: number[] = [];
      const reading = (async () => {
        for await (const chunk of response.body!) sent.push(chunk.byteLength);
      })();
      await expect(reading).rejects.toMatchObject({ code: "data_loss" });
      expect(sent).toEqual(Array.from({ length: mib }, () => MIB));
      expect(host.corrupted.map(({ reason }) => reason)).toEqual(["SHA-256 does not match"]);
    },
  );

  test.for([
    ["shorter by a byte", (size: number) => size - 1],
    ["empty", () => 0],
    ["longer by a byte", (size: number) => size + 1],
  ] as const)("a file that is %s is refused in every mode", async ([, newSize]) => {
    for (const verifyReads of ["full", "chunks", "off"] as const) {
      for (const size of [10, MIB, 2 * MIB]) {
        const { blobs, root } = await disk({ verifyReads });
        const bytes = bytesOfSize(size);
        await put(blobs, "blob", bytes);
        await truncate(join(root, "blob"), newSize(size));
        const host = permissiveHost();
        expect(await download(blobs, await getUrl(blobs, "blob", bytes), host)).toEqual({
          kind: "refused",
          code: "data_loss",
        });
        expect(host.corrupted).toHaveLength(1);
      }
    }
  });

  test("`off` trusts the disk: only the length is checked", async () => {
    const { blobs, root } = await disk({ verifyReads: "off" });
    const bytes = bytesOfSize(2 * MIB);
    await put(blobs, "blob", bytes);
    await flipBit(join(root, "blob"), 7, 0);
    expect((await download(blobs, await getUrl(blobs, "blob", bytes))).kind).toBe("complete");
  });

  test("reading through the port notices rot in a large blob as well", async () => {
    const { blobs, root } = await disk();
    const bytes = bytesOfSize(2 * MIB);
    await put(blobs, "blob", bytes);
    const { mtime, atime } = await stat(join(root, "blob"));
    await flipBit(join(root, "blob"), MIB + 7, 0);
    // Real rot leaves the times alone.
    await utimes(join(root, "blob"), atime, mtime);
    const times = await stat(join(root, "blob"), { bigint: true });
    const sidecar = parseSidecar(await readFile(join(root, "blob.crc"), "utf8"))!;
    const file = { ...sidecar.file, modified: `${times.mtimeNs}` };
    await writeFile(join(root, "blob.crc"), printSidecar({ ...sidecar, file }));
    const { body } = await blobs.get("blob");
    await expect(readAll(body)).rejects.toMatchObject({ code: "data_loss" });
  });

  test("digest says what is really there, whatever the sidecar says", async () => {
    const { blobs, root } = await disk();
    const bytes = bytesOfSize(2 * MIB);
    await put(blobs, "blob", bytes);
    await flipBit(join(root, "blob"), 9, 0);
    expect(await blobs.digest("blob")).toEqual({
      size: bytes.byteLength,
      digest: sha256(await readFile(join(root, "blob"))),
    });
    expect((await blobs.digest("blob"))?.digest).not.toBe(digestOf(bytes));
  });
});

describe("sidecars that are lost or not theirs", () => {
  const bytes = bytesOfSize(3 * MIB + 7);
  const damages: Record<string, (path: string) => Promise<void>> = {
    missing: (path) => rm(path),
    empty: (path) => truncate(path, 0),
    cut: (path) => truncate(path, 100),
    garbage: (path) => writeFile(path, "\0".repeat(300)),
    huge: (path) => writeFile(path, " ".repeat(100_000)),
    "of another blob": async (path) => {
      const other = parseSidecar(await readFile(path, "utf8"))!;
      await writeFile(path, printSidecar({ ...other, digest: "00".repeat(32) }));
    },
    "a folder": async (path) => {
      await rm(path);
      await mkdir(path);
    },
  };

  test.for(Object.keys(damages))(
    "%s: the download is whole, and a new one is made if that can be",
    async (name) => {
      const { blobs, root } = await disk();
      await put(blobs, "blob", bytes);
      const path = join(root, "blob.crc");
      const before = await readFile(path, "utf8");
      await damages[name]!(path);
      const url = await getUrl(blobs, "blob", bytes);
      const all = await Promise.all(
        [{}, { range: "bytes=5-1500000" }, {}].map((headers) =>
          download(blobs, url, permissiveHost(), headers as Record<string, string>),
        ),
      );
      expect(all.map((got) => (got.kind === "complete" ? sha256(got.bytes) : got.code))).toEqual([
        digestOf(bytes),
        digestOf(bytes.subarray(5, 1_500_001)),
        digestOf(bytes),
      ]);
      const healed = name === "a folder" ? null : await readFile(path, "utf8");
      expect(healed).toBe(name === "a folder" ? null : before);
    },
  );

  test("lost, and the blob is not what it was: refused, and no sidecar vouches for it", async () => {
    const { blobs, root } = await disk();
    await put(blobs, "blob", bytes);
    await rm(join(root, "blob.crc"));
    await flipBit(join(root, "blob"), 2 * MIB, 2);
    const host = permissiveHost();
    expect(await download(blobs, await getUrl(blobs, "blob", bytes), host)).toEqual({
      kind: "refused",
      code: "data_loss",
    });
    expect(host.corrupted).toHaveLength(1);
    expect(await filesBelow(root)).toEqual(["blob"]);
  });

  test("left without its blob by a crash: listed with no bytes, no blob, and deleting the key takes it away", async () => {
    const { blobs, root } = await disk();
    await put(blobs, "docks/d/whole", bytes);
    await put(blobs, "docks/d/torn", bytes);
    await rm(join(root, "docks/d/torn"));
    const listed = await blobs.list("docks/", { limit: 10 });
    expect(listed.map(({ key, size }) => [key, size])).toEqual([
      ["docks/d/torn", 0],
      ["docks/d/whole", bytes.length],
    ]);
    expect(await blobs.stat("docks/d/torn")).toBeNull();
    await blobs.delete("docks/d/torn");
    expect(await filesBelow(root)).toEqual(["docks/d/whole", "docks/d/whole.crc"]);
  });

  test("stat attests only what a sidecar was made for: another file, or a touched one, it does not", async () => {
    const first = await disk();
    await put(first.blobs, "blob", bytes);
    await first.blobs.close();
    const reopen = () => openDisk({ root: first.root });
    const fresh = await reopen();
    expect(await fresh.blobs.stat("blob")).toEqual({ size: bytes.byteLength, digest: digestOf(bytes) });
    // What a crash between the two renames of a put leaves: old bytes of the same size beside the new sidecar.
    await copyFile(join(first.root, "blob"), join(first.root, "other"));
    await flipBit(join(first.root, "other"), 0, 0);
    await rename(join(first.root, "other"), join(first.root, "blob"));
    const again = await reopen();
    expect(await again.blobs.stat("blob")).toEqual({ size: bytes.byteLength, digest: null });
    expect(await fresh.blobs.stat("blob")).toEqual({ size: bytes.byteLength, digest: null });
    const wrong = { size: bytes.byteLength, digest: digestOf(bytes) };
    expect(await again.blobs.copy("blob", "to", wrong)).toBe(false);
    const real = (await again.blobs.digest("blob"))!;
    expect(await again.blobs.copy("blob", "to", real)).toBe(true);
    expect(await again.blobs.stat("to")).toEqual(real);
    await fresh.blobs.close();
    await again.close();
  });

  test("a restored copy is downloaded without reading it twice, and heals nothing away", async () => {
    const { blobs, root } = await disk();
    await put(blobs, "blob", bytes);
    const before = await readFile(join(root, "blob.crc"), "utf8");
    for (const file of ["blob", "blob.crc"]) {
      await copyFile(join(root, file), join(root, `${file}.restored`));
      await rename(join(root, `${file}.restored`), join(root, file));
    }
    const got = await download(blobs, await getUrl(blobs, "blob", bytes));
    expect(got.kind === "complete" && sha256(got.bytes)).toBe(digestOf(bytes));
    expect(await readFile(join(root, "blob.crc"), "utf8")).toBe(before);
  });

  test("small blobs are known by their bytes after a restart", async () => {
    const first = await disk();
    const small = bytesOfSize(1_000);
    await put(first.blobs, "blob", small);
    await first.blobs.close();
    const again = await openDisk({ root: first.root });
    expect(await again.blobs.stat("blob")).toEqual({ size: 1_000, digest: digestOf(small) });
    // Changed behind its back: the memory of it must not answer.
    await writeFile(join(first.root, "blob"), bytesOfSize(1_000, 2));
    expect(await again.blobs.stat("blob")).toEqual({ size: 1_000, digest: digestOf(bytesOfSize(1_000, 2)) });
    await again.blobs.close();
  });
});

describe("opening", () => {
  const options = { baseUrl: BASE_URL, secret: SECRET };

  test("the root is made if missing, with all folders above it", async () => {
    const { root } = await disk();
    const deep = join(root, "a/b/c");
    const blobs = await diskBlobs({ root: deep, ...options });
    await put(blobs, "blob", bytesOfSize(1));
    expect(await filesBelow(deep)).toEqual(["blob"]);
    await blobs.close();
  });

  test.for([
    [
      "a file",
      async (root: string) => {
        await writeFile(join(root, "file"), "");
        return join(root, "file");
      },
      "it is no folder",
    ],
    [
      "below a file",
      async (root: string) => {
        await writeFile(join(root, "file"), "");
        return join(root, "file/x");
      },
      "it is no folder",
    ],
    ["in a file system that takes no files", async () => "/proc/docyard", ""],
  ] as const)("a root that is %s is refused in one clear line", async ([, make, why]) => {
    const { root } = await disk();
    const bad = await make(root);
    const opening = diskBlobs({ root: bad, ...options });
    await expect(opening).rejects.toThrow(`cannot use ${bad} for blobs: ${why}`);
    const message = await opening.catch((error: Error) => error.message);
    expect(message).not.toContain("\n");
  });

  test("temporary files of dead processes go after a day, and not before", async () => {
    const { root, blobs } = await disk();
    await blobs.close();
    await writeFile(join(root, ".tmp/999999-abandoned"), "half a file");
    const soon = await openDisk({ root, now: () => Date.now() + 23 * 3_600_000 });
    expect(await filesBelow(root)).toEqual([".tmp/999999-abandoned"]);
    await soon.blobs.close();
    const later = await openDisk({ root, now: () => Date.now() + 25 * 3_600_000 });
    expect(await filesBelow(root)).toEqual([]);
    await later.blobs.close();
  });

  test("temporary files of dead processes go while the store is open, too", async () => {
    const { root, blobs } = await disk();
    await put(blobs, "blob", bytesOfSize(7));
    await writeFile(join(root, ".tmp/999999-abandoned"), "half a file");
    expect(await blobs.dropUnfinished(Date.now() - 3_600_000)).toBe(0);
    // Its own are in use, however far the clock has gone meanwhile.
    const body = async function* () {
      yield bytesOfSize(7);
      expect(await blobs.dropUnfinished(Date.now() + 3_600_000)).toBe(1);
    };
    await blobs.put("blob", body(), { sizeMax: 7 });
    expect(await filesBelow(root)).toEqual(["blob"]);
    await rm(join(root, ".tmp"), { recursive: true });
    expect(await blobs.dropUnfinished(Date.now())).toBe(0);
  });

  test("folders go with their last blob, and come back while others put and delete in them", async () => {
    const { blobs, root } = await disk();
    const folders = async (): Promise<string[]> =>
      (await readdir(root, { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
        .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
        .toSorted();
    const key = (i: number): string => `docks/d/a/${i % 3}/${i}`;
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        await put(blobs, key(i), bytesOfSize(10));
        if (i !== 7) await blobs.delete(key(i));
      }),
    );
    expect(await folders()).toEqual(["docks", "docks/d", "docks/d/a", "docks/d/a/1"]);
    await blobs.delete(key(7));
    expect(await folders()).toEqual(["docks"]);
    await put(blobs, key(7), bytesOfSize(10));
    expect(await blobs.stat(key(7))).not.toBeNull();
  });

  test("a folder is made in one that a delete prunes at that moment, again and again", async () => {
    // What a delete does between the look at a folder and the making of one in it.
    let prunes = 0;
    const io: DiskIo = {
      ...nodeDiskIo,
      mkdir: (async (path: string) => {
        if (path.endsWith("/19") && prunes++ < 3) await nodeDiskIo.rmdir(dirname(path));
        return nodeDiskIo.mkdir(path);
      }) as DiskIo["mkdir"],
    };
    const { blobs, root } = await disk({ io });
    const bytes = bytesOfSize(7);
    await put(blobs, "staged/blob", bytes);
    await blobs.copy("staged/blob", "final/19/blob", { size: 7, digest: digestOf(bytes) });
    prunes = 0;
    await put(blobs, "other/19/blob", bytes);
    expect(await filesBelow(root)).toEqual(["final/19/blob", "other/19/blob", "staged/blob"]);
  });

  test("a folder removed under the running store is made again", async () => {
    const { root, blobs } = await disk();
    for (const size of [10, MIB + 1]) {
      await put(blobs, "a/b/one", bytesOfSize(size));
      await rm(join(root, "a"), { recursive: true });
      await put(blobs, "a/b/two", bytesOfSize(size));
      expect((await blobs.stat("a/b/two"))?.size).toBe(size);
      await rm(join(root, "a"), { recursive: true });
    }
    expect(await filesBelow(root)).toEqual([]);
  });

  test("ready says when the disk no longer takes files", async () => {
    const { root, blobs } = await disk();
    await rm(join(root, ".tmp"), { recursive: true });
    await expect(blobs.ready()).rejects.toThrow("ENOENT");
  });

  test("close ends uploads and downloads under way and leaves nothing open", async () => {
    const { blobs, root } = await disk();
    const bytes = bytesOfSize(8 * MIB);
    await put(blobs, "blob", bytes);
    const response = await blobs.serve.fetch(
      new Request(await getUrl(blobs, "blob", bytes)),
      permissiveHost(),
    );
    const putting = blobs.put(
      "never",
      (async function* () {
        yield bytesOfSize(10);
        await new Promise(() => {}); // silent for ever
      })(),
      { sizeMax: 100 },
    );
    const [outcome] = await Promise.allSettled([putting, blobs.close()]);
    expect(outcome).toMatchObject({ status: "rejected", reason: { message: "the blob store is closed" } });
    await expect(response.arrayBuffer()).rejects.toThrow("the blob store is closed");
    expect(await strayFilesAndKeys(root)).toEqual(["blob"]);
  });
});

describe("an upload that goes quiet", () => {
  test("is given up after the idle time, and leaves nothing", async () => {
    const { blobs, root } = await disk({ idleTimeoutMs: 30 });
    const { url } = await blobs.signPut("blob", {
      expiresAt: Date.now() + 60_000,
      sizeMax: MIB,
      artifactId: "art_1",
    });
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => controller.enqueue(bytesOfSize(100)),
    });
    const request = new Request(url, { method: "PUT", body, duplex: "half" });
    await expect(blobs.serve.fetch(request, permissiveHost())).rejects.toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining("No bytes arrived") as string,
    });
    expect(await filesBelow(root)).toEqual([]);
  });
});

test("hashes here are not the store's own", () => {
  expect(sha256(Buffer.from("abc"))).toBe(createHash("sha256").update("abc").digest("hex"));
  expect(sha256(Buffer.from("abc"))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});
