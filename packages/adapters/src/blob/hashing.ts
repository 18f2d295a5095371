/**
 * SHA-256 of bodies: of large ones on a thread beside the main one, which they share; of small ones, and where there is
 * no such thread, in line. Where bytes come from, and what follows from their digest, is left to callers.
 */

import { createHash } from "node:crypto";
import type { WorkerOptions } from "node:worker_threads";
import { Worker } from "node:worker_threads";
import { isThreadWorthwhile } from "../threads.ts";

/** Bytes of a body from which on it goes to the thread: for less, the trips there and back cost more than they give. */
export const THREADED_BYTES_MIN: number = 8 * 1024 * 1024;
/** Bodies on the thread at once. It has one processor full long before; those beyond are hashed in line, on another. */
export const THREADED_BODIES_MAX: number = 8;
/** Milliseconds without a body after which the thread is ended: it takes some 11 MB while it is there. */
const IDLE_MS = 10_000;
/** MiB of the thread's heap: hashes and the addresses of bytes, not the bytes. */
const HEAP_MIB = 16;

export interface Hashing {
  /** Whether bytes are held for a while rather than taken at once. */
  readonly isThreaded: boolean;
  /**
   * Takes bytes in, after those before. They must stay as they are until `taken` is called, which happens once. Those
   * in shared memory are read where they lie; copying others to the thread costs more than hashing them in line.
   */
  update(bytes: Uint8Array, taken: () => void): void;
  /**
   * Hexadecimal, of all bytes so far; nothing but `end` may follow.
   * @throws HashingLost
   */
  digest(): Promise<string>;
  /** Gives up; harmless after a digest. `taken` is called for all bytes that have not been. */
  end(): void;
}

export interface Hasher {
  /**
   * Begins a body; to be ended, whatever happens.
   * @param size its bytes; an estimate is enough
   */
  start(size: number): Hashing;
}

/** The thread died in the middle of a body; what it knew of it cannot be had again. */
export class HashingLost extends Error {
  override readonly name = "HashingLost";
}

export interface HasherOptions {
  /** Default: a thread of Node's. */
  readonly startThread?: (program: string, options: WorkerOptions) => Worker;
  /** Processors to run on; default: as many as there are. */
  readonly processors?: number;
  /** Milliseconds without a body after which the thread is ended; default 10,000. */
  readonly idleMs?: number;
}

/** The options are for tests. */
export function createHasher({
  startThread = (program, options) => new Worker(program, options),
  processors,
  idleMs = IDLE_MS,
}: HasherOptions = {}): Hasher {
  /** Undefined before there is one and after it was idle; null where none can be had, or has failed. */
  let thread: Thread | null | undefined = isThreadWorthwhile(processors) ? undefined : null;
  return {
    start(size) {
      if (size < THREADED_BYTES_MIN) return inLine();
      if (thread === undefined) {
        thread = createThread(startThread, idleMs, (hasFailed) => {
          thread = hasFailed ? null : undefined;
        });
      }
      return thread?.start() ?? inLine();
    },
  };
}

/** The one of this process. */
export const processHasher: Hasher = createHasher();

function inLine(): Hashing {
  const hash = createHash("sha256");
  return {
    isThreaded: false,
    update(bytes, taken) {
      hash.update(bytes);
      taken();
    },
    digest: async () => hash.digest("hex"),
    end: () => {},
  };
}

/** What the thread is told of a body: bytes, or what is wanted instead of more. */
type Order = readonly [body: number, what: Uint8Array | "digest" | "end"];
/** What the thread says of a body: that it has taken bytes in, or the digest. */
type Report = readonly [body: number, digest?: string];

/** What the thread runs. Text, because there is no file to point to in an executable, or in somebody else's bundle. */
const PROGRAM = `
const { createHash } = require("node:crypto");
const { parentPort } = require("node:worker_threads");
const hashes = new Map();
parentPort.on("message", ([body, what]) => {
  if (what === "end") return hashes.delete(body);
  if (!hashes.has(body)) hashes.set(body, createHash("sha256"));
  const hash = hashes.get(body);
  parentPort.postMessage(what === "digest" ? [body, hash.digest("hex")] : (hash.update(what), [body]));
});
`;

/** What the thread is like, whoever starts it: of this process's flags and environment it needs nothing. */
const THREAD_OPTIONS: WorkerOptions = {
  eval: true,
  execArgv: [],
  env: {},
  name: "docyard-hash",
  resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB, maxYoungGenerationSizeMb: 1 },
};

interface Thread {
  /** Null while it has bodies enough. */
  start(): Hashing | null;
}

/** A body as the thread's keeper sees it. */
interface Threaded {
  readonly hashing: Hashing;
  /** The thread has taken bytes in. */
  onTaken(): void;
  onDigest(digest: string): void;
  onLost(lost: HashingLost): void;
}

/**
 * Starts the thread; null where that is forbidden or fails at once. It keeps the process from ending only while there
 * are bodies. `onGone` is called once it takes no more of them, because it was idle or has failed.
 */
function createThread(
  startThread: NonNullable<HasherOptions["startThread"]>,
  idleMs: number,
  onGone: (hasFailed: boolean) => void,
): Thread | null {
  let worker: Worker;
  try {
    worker = startThread(PROGRAM, THREAD_OPTIONS);
  } catch {
    return null;
  }
  const bodies = new Map<number, Threaded>();
  let started = 0;
  let idle: NodeJS.Timeout | undefined;
  let isGone = false;

  const leave = (hasFailed: boolean): void => {
    isGone = true;
    clearTimeout(idle);
    onGone(hasFailed);
    void worker.terminate();
  };
  const fail = (reason: unknown): void => {
    if (isGone) return;
    leave(true);
    const lost = new HashingLost("the thread that hashes has ended", { cause: reason });
    for (const body of bodies.values()) body.onLost(lost);
  };
  worker.on("message", ([body, digest]: Report) => {
    // What is still on its way when the thread has failed is of bodies that go on without it.
    if (isGone) return;
    if (digest === undefined) bodies.get(body)?.onTaken();
    else bodies.get(body)?.onDigest(digest);
  });
  worker.on("error", fail);
  worker.on("exit", (code) => fail(new Error(`it ended with ${code}`)));
  worker.unref();

  return {
    start() {
      if (bodies.size === THREADED_BODIES_MAX) return null;
      const id = ++started;
      const body = threaded(
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
        (what) => worker.postMessage([id, what] satisfies Order),
        () => {
          bodies.delete(id);
          if (bodies.size > 0 || isGone) return;
          worker.unref();
          idle = setTimeout(leave, idleMs, false).unref();
        },
      );
      bodies.set(id, body);
      clearTimeout(idle);
      worker.ref();
      return body.hashing;
    },
  };
}

/**
 * One body on the thread. Until the thread has taken any of it in, all that it was sent is still there: a thread that
 * does not come up costs nothing but going on in line.
 */
function threaded(send: (what: Order[1]) => void, onEnd: () => void): Threaded {
  const sent: { readonly bytes: Uint8Array; readonly taken: () => void }[] = [];
  let wanted: PromiseWithResolvers<string> | null = null;
  let isBegun = false;
  let isEnded = false;
  /** What goes on without the thread. */
  let instead: Pick<Hashing, "update" | "digest"> | null = null;
  return {
    hashing: {
      isThreaded: true,
      update(bytes, taken) {
        if (instead !== null) return instead.update(bytes, taken);
        sent.push({ bytes, taken });
        send(bytes);
      },
      digest() {
        if (instead !== null) return instead.digest();
        wanted = Promise.withResolvers();
        send("digest");
        return wanted.promise;
      },
      end() {
        if (isEnded) return;
        isEnded = true;
        send("end");
        onEnd();
        // The thread may still read them, whatever they become: nobody will ask what it made of them.
        for (const { taken } of sent.splice(0)) taken();
      },
    },
    onTaken() {
      isBegun = true;
      sent.shift()!.taken();
    },
    onDigest: (digest) => wanted!.resolve(digest),
    onLost(lost) {
      instead = isBegun ? failed(lost) : inLine();
      for (const { bytes, taken } of sent.splice(0)) instead.update(bytes, taken);
      if (wanted !== null) instead.digest().then(wanted.resolve, wanted.reject);
    },
  };
}

function failed(lost: HashingLost): Pick<Hashing, "update" | "digest"> {
  return { update: (_, taken) => taken(), digest: () => Promise.reject(lost) };
}
