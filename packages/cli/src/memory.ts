/**
 * Keeps the process small while large bodies pass through it, by two settings of V8 that are meant for programs which
 * keep what they allocate: ours are done with each piece of a body at once.
 */

import type { IncomingMessage, Server } from "node:http";
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Bytes of buffers, dead or alive, from which it is worth looking; eight uploads at once hold about that much. */
const BUFFERS_MAX_BYTES = 24 * 1024 * 1024;
/** Milliseconds: at a gigabyte a second, 20 MiB arrive in between. */
const LOOK_EVERY_MS = 20;

/** Buffers that a slow disk keeps waiting grow old, and the old ones are let go of by a whole collection only. */
const OLD_GROWTH = 1.5;
/** Milliseconds between two of those: each takes some ten. */
const WHOLE_EVERY_MS = 250;

type Collect = (options: { readonly type: "minor" | "major" }) => void;

/**
 * From now on the young generation keeps the size it has grown to. Left to itself it doubles up to 64 MiB under steady
 * traffic of any kind, although hardly anything in it survives.
 */
export function holdYoungGeneration(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

/**
 * While bodies arrive, dead buffers are looked for early: Node copies every piece into a buffer of its own, and V8 lets
 * about 64 MiB of them pile up before it looks. Watches PUT requests; without any it does nothing at all.
 */
export function collectWhileReceiving(server: Server): void {
  let collect: Collect | null = null;
  let receiving = 0;
  let timer: NodeJS.Timeout | undefined;

  /** Bytes of buffers that the last whole collection left: they are in use. */
  let inUse = BUFFERS_MAX_BYTES;
  let wholeAt = Number.NEGATIVE_INFINITY;

  // Not `process.memoryUsage`, which throws where there is no `/proc`.
  const buffers = (): number => getHeapStatistics().external_memory;

  const look = (): void => {
    if (buffers() < BUFFERS_MAX_BYTES) return;
    collect ??= collection();
    collect({ type: "minor" });
    const now = performance.now();
    if (buffers() < inUse * OLD_GROWTH || now - wholeAt < WHOLE_EVERY_MS) return;
    collect({ type: "major" });
    wholeAt = now;
    inUse = Math.max(BUFFERS_MAX_BYTES, buffers());
  };

  server.on("request", (incoming: IncomingMessage) => {
    if (incoming.method !== "PUT") return;
    receiving++;
    timer ??= setInterval(look, LOOK_EVERY_MS);
    incoming.once("close", () => {
      receiving--;
      if (receiving > 0) return;
      clearInterval(timer);
      timer = undefined;
      inUse = BUFFERS_MAX_BYTES;
    });
  });
}

/** A collection, of the young generation only (about a millisecond) or whole; reached without a flag at the start. */
function collection(): Collect {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as Collect;
  setFlagsFromString("--no-expose-gc");
  return collect;
}
