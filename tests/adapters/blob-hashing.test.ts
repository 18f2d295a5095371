/** SHA-256 on a thread: what node:crypto says of any bytes in any pieces, and what becomes of bodies without it. */

import { execFile } from "node:child_process";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import * as fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { DiskFile } from "../../packages/adapters/src/blob/disk-io.ts";
import { nodeDiskIo } from "../../packages/adapters/src/blob/disk-io.ts";
import { readPieces } from "../../packages/adapters/src/blob/disk-read.ts";
import type { Hasher, HasherOptions, Hashing } from "../../packages/adapters/src/blob/hashing.ts";
import { createHasher, HashingLost, THREADED_BYTES_MIN } from "../../packages/adapters/src/blob/hashing.ts";
import { bytesOfSize, sha256 } from "./blob-bytes.ts";

const MIB = 1024 * 1024;
/** What a hasher is told so that it takes the thread; how many bytes then come is another matter. */
const LARGE = THREADED_BYTES_MIN;

const workers: Worker[] = [];
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.terminate();
});

/** A hasher on a machine with processors enough, and the threads that it has started. */
function threaded(options: Omit<HasherOptions, "processors"> & { readonly program?: string } = {}): {
  readonly hasher: Hasher;
  readonly threads: readonly Worker[];
} {
  const threads: Worker[] = [];
  const hasher = createHasher({
    processors: 2,
    startThread(program, how) {
      const worker = new Worker(options.program ?? program, how);
      threads.push(worker);
      workers.push(worker);
      return worker;
    },
    ...options,
  });
  return { hasher, threads };
}

/** A copy in memory of its own, or that threads share. */
function copied(bytes: Uint8Array, isShared: boolean): Uint8Array {
  const { byteLength } = bytes;
  const copy = new Uint8Array(isShared ? new SharedArrayBuffer(byteLength) : new ArrayBuffer(byteLength));
  copy.set(bytes);
  return copy;
}

/** Resolves once these bytes may be changed, and changes them. */
async function taking(hashing: Hashing, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve) => {
    hashing.update(bytes, resolve);
  });
  bytes.fill(0xee);
}

async function digested(hasher: Hasher, bytes: Uint8Array): Promise<string> {
  const hashing = hasher.start(LARGE);
  try {
    hashing.update(bytes, () => {});
    return await hashing.digest();
  } finally {
    hashing.end();
  }
}

const source = new Uint8Array(bytesOfSize(3 * MIB));

/** Resolves when a thread has ended, of itself or by an error. */
async function ended(thread: Worker): Promise<void> {
  await new Promise((resolve) => {
    thread.once("exit", resolve);
  });
}

test("any bytes in any pieces, of any number of bodies at once, given up or not: as node:crypto has it", async () => {
  const { hasher, threads } = threaded();
  const body = fc.record({
    size: fc.constantFrom(0, LARGE - 1, LARGE, 1024 * MIB),
    pieces: fc.array(fc.oneof(fc.nat(70), fc.nat(70_000), fc.nat(1.5 * MIB)), { maxLength: 6 }),
    isShared: fc.boolean(),
    /** Whether each piece has to be taken before the next is sent. */
    isPatient: fc.boolean(),
    isGivenUp: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(body, { maxLength: 6 }), async (bodies) => {
      await Promise.all(
        bodies.map(async ({ size, pieces, isShared, isPatient, isGivenUp }) => {
          const hashing = hasher.start(size);
          const taken: Promise<void>[] = [];
          let at = 0;
          for (const length of pieces) {
            const piece = copied(source.subarray(at, at + length), isShared);
            at += piece.byteLength;
            taken.push(taking(hashing, piece));
            if (isPatient) await taken.at(-1);
          }
          if (!isGivenUp) expect(await hashing.digest()).toBe(sha256(source.subarray(0, at)));
          hashing.end();
          hashing.end();
          await Promise.all(taken);
        }),
      );
    }),
    { numRuns: 60 },
  );
  expect(threads).toHaveLength(1);
});

test("each piece is taken once, in order, and all of them before the digest is there", async () => {
  const { hasher } = threaded();
  const hashing = hasher.start(LARGE);
  const taken: number[] = [];
  for (let i = 0; i < 20; i++) hashing.update(copied(source.subarray(0, MIB), true), () => taken.push(i));
  await hashing.digest();
  hashing.end();
  expect(taken).toEqual(Array.from({ length: 20 }, (_, i) => i));
});

test("so many large bodies are on the thread at once; it can be seen which", async () => {
  const { hasher } = threaded();
  const start = (count: number, size: number) => Array.from({ length: count }, () => hasher.start(size));
  const seen = (bodies: readonly Hashing[]) => bodies.map(({ isThreaded }) => isThreaded);
  const small = start(2, LARGE - 1);
  const bodies = start(11, LARGE);
  expect(seen([...small, ...bodies])).toEqual(Array.from({ length: 13 }, (_, i) => 2 <= i && i < 10));
  for (const body of bodies) {
    await taking(body, source.slice(0, 9));
    expect(await body.digest()).toBe(sha256(source.subarray(0, 9)));
  }
  for (const body of bodies.slice(0, 3)) body.end();
  expect(seen(start(4, LARGE))).toEqual([true, true, true, false]);
});

test("a small body, and one processor alone, are no reason for a thread", async () => {
  const startThread = (): Worker => expect.unreachable("a thread was started");
  const small = createHasher({ processors: 8, startThread }).start(LARGE - 1);
  await taking(small, source.slice(0, 9));
  expect(await small.digest()).toBe(sha256(source.subarray(0, 9)));
  small.end();
  expect(await digested(createHasher({ processors: 1, startThread }), source)).toBe(sha256(source));
});

test("the thread ends when it has had no body for a while; the next body gets another", async () => {
  const { hasher, threads } = threaded({ idleMs: 1 });
  for (let i = 1; i <= 3; i++) {
    expect(await digested(hasher, source)).toBe(sha256(source));
    expect(threads).toHaveLength(i);
    await ended(threads[i - 1]!);
  }
});

describe("without the thread", () => {
  test("where it may not be started, bodies are hashed in line, and nobody asks again", async () => {
    let asked = 0;
    const hasher = createHasher({
      processors: 2,
      startThread() {
        asked++;
        throw new Error("no threads here");
      },
    });
    for (let i = 0; i < 3; i++) expect(await digested(hasher, source)).toBe(sha256(source));
    expect(asked).toBe(1);
  });

  test.for([
    ["throws", "throw new Error('broken')"],
    ["ends at once", "process.exit(0)"],
    ["has not the language", "const require = 1; import"],
  ])("one that %s has cost nothing: what it was sent is hashed in line", async ([, program]) => {
    const { hasher, threads } = threaded({ program: program! });
    const bodies = [hasher.start(LARGE), hasher.start(LARGE), hasher.start(LARGE)] as const;
    const taken = Promise.all(
      bodies.flatMap((body) => [taking(body, source.slice(0, MIB)), taking(body, source.slice(MIB))]),
    );
    const early = bodies[0].digest(); // asked for before the thread is known to be lost
    bodies[1].end();
    await ended(threads[0]!);
    await taken;
    await taking(bodies[2], source.slice(0, 5));
    expect(await early).toBe(sha256(source));
    expect(await bodies[2].digest()).toBe(sha256(Buffer.concat([source, source.subarray(0, 5)])));
    for (const body of bodies) body.end();
    expect(await digested(hasher, source)).toBe(sha256(source));
    expect(threads).toHaveLength(1);
  });

  test("one that breaks behind a word of thanks loses a body or not, but never has a wrong digest for it", async () => {
    const { hasher, threads } = threaded({
      program: `const { parentPort } = require("node:worker_threads");
        parentPort.on("message", ([body]) => {
          parentPort.postMessage([body]);
          throw new Error("broken");
        });`,
    });
    const taken = [0, 0, 0];
    const bodies = taken.map((_, i) => {
      const hashing = hasher.start(LARGE);
      hashing.update(source, () => taken[i]!++);
      return hashing;
    });
    const outcomes = bodies.map((hashing) => hashing.digest().catch((error: unknown) => error));
    await ended(threads[0]!);
    for (const outcome of await Promise.all(outcomes)) {
      if (!(outcome instanceof HashingLost)) expect(outcome).toBe(sha256(source));
    }
    for (const hashing of bodies) hashing.end();
    expect(taken).toEqual([1, 1, 1]);
  });

  test("one that dies loses the bodies it has begun, says so, and lets go of their bytes; others go on", async () => {
    const { hasher, threads } = threaded();
    const [begun, asked, fresh] = [hasher.start(LARGE), hasher.start(LARGE), hasher.start(LARGE)] as const;
    await taking(begun, source.slice());
    await taking(asked, source.slice());
    const held = Promise.all([taking(begun, source.slice()), taking(asked, source.slice())]);
    const wanted = asked.digest().catch((error: unknown) => error);
    const gone = ended(threads[0]!);
    // Whatever it manages to do before it ends, nobody hears of it: a digest that is not the body's cannot come of it.
    threads[0]!.removeAllListeners("message");
    void threads[0]!.terminate();
    await gone;
    expect(await wanted).toBeInstanceOf(HashingLost);
    await held;
    await taking(begun, source.slice());
    await expect(begun.digest()).rejects.toThrow(HashingLost);
    await taking(fresh, source.slice());
    expect(await fresh.digest()).toBe(sha256(source));
    for (const body of [begun, asked, fresh]) body.end();
    expect(await digested(hasher, source)).toBe(sha256(source));
    expect(threads).toHaveLength(1);
  });
});

describe("a process", () => {
  const MODULE = fileURLToPath(new URL("../../packages/adapters/src/blob/hashing.ts", import.meta.url));
  const SCRIPT = `
    import { createHasher } from ${JSON.stringify(MODULE)};
    const hashing = createHasher({ processors: 2, idleMs: 3_600_000 }).start(2 ** 30);
    hashing.update(new Uint8Array(new SharedArrayBuffer(1_000)), () => {});
    console.log(await hashing.digest());
    hashing.end();
  `;
  test.for([
    ["like any other", []],
    ["that may start no threads", ["--permission", "--allow-fs-read=*"]],
    ["that makes no code of text", ["--disallow-code-generation-from-strings"]],
  ] as const)("%s gets its digest, and is not kept from ending", async ([, flags]) => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      "--no-warnings",
      ...flags,
      "--input-type=module",
      "--eval",
      SCRIPT,
    ]);
    expect(stdout.trim()).toBe(sha256(new Uint8Array(1_000)));
  });
});

describe("a download", () => {
  const SIZE = LARGE + 3 * MIB + 5;
  const bytes = bytesOfSize(SIZE);
  let folder: string;
  const handles: DiskFile[] = [];
  afterEach(async () => {
    for (const handle of handles.splice(0)) await handle.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function stored(): Promise<DiskFile> {
    folder = await mkdtemp(join(tmpdir(), "docyard-hashing-"));
    const path = join(folder, "blob");
    const file = await open(path, "w");
    await file.writeFile(bytes);
    await file.close();
    const handle = await nodeDiskIo.openFile(path);
    handles.push(handle);
    return handle;
  }
  const job = (handle: DiskFile, hasher: Hasher) => ({
    handle,
    size: SIZE,
    range: { start: 0, end: SIZE },
    crcs: null,
    digest: sha256(bytes),
    mayShare: true,
    hasher,
  });

  test("whose thread dies ends before its last piece", async () => {
    const { hasher, threads } = threaded();
    let got = 0;
    const reading = (async () => {
      for await (const piece of readPieces(job(await stored(), hasher))) {
        // By now the thread has taken the first piece: there are fewer buffers than that.
        if (got === 8 * MIB) {
          const gone = ended(threads[0]!);
          void threads[0]!.terminate();
          await gone;
        }
        got += piece.bytes.byteLength;
        piece.release();
      }
    })();
    await expect(reading).rejects.toThrow(HashingLost);
    expect(got).toBe(SIZE - 5);
  });

  test("is whole where the thread does not come up", async () => {
    const { hasher } = threaded({ program: "process.exit(1)" });
    const pieces: Buffer[] = [];
    for await (const piece of readPieces(job(await stored(), hasher))) {
      pieces.push(Buffer.from(piece.bytes));
      piece.release();
    }
    expect(Buffer.compare(Buffer.concat(pieces), bytes)).toBe(0);
  });

  test("that is left at any piece gives its buffers back: the next ones are whole", async () => {
    const { hasher } = threaded();
    const handle = await stored();
    for (let left = 0; left < 12; left++) {
      let count = 0;
      for await (const piece of readPieces(job(handle, hasher))) {
        if (count++ === left) break;
        piece.release();
      }
      const reads = [0, 1].map(async () => {
        let at = 0;
        for await (const piece of readPieces(job(handle, hasher))) {
          expect(Buffer.compare(piece.bytes, bytes.subarray(at, at + piece.bytes.byteLength))).toBe(0);
          at += piece.bytes.byteLength;
          piece.release();
        }
        expect(at).toBe(SIZE);
      });
      await Promise.all(reads);
    }
  });
});
