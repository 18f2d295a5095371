/**
 * Keeps the memory of large uploads small. Node copies every piece of a request body into a buffer of its own, and V8
 * lets about 64 MiB of dead ones pile up before it looks; while bodies arrive, this makes it look earlier.
 */

import type { IncomingMessage, Server } from "node:http";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Bytes of buffers, dead or alive, from which it is worth looking; eight uploads at once hold about that much. */
const BUFFERS_MAX_BYTES = 24 * 1024 * 1024;
/** Milliseconds: at a gigabyte a second, 20 MiB arrive in between. */
const LOOK_EVERY_MS = 20;

type Collect = (options: { readonly type: "minor" }) => void;

/** Watches a server's PUT requests; without any it does nothing at all. */
export function collectWhileReceiving(server: Server): void {
  let collect: Collect | null = null;
  let receiving = 0;
  let timer: NodeJS.Timeout | undefined;

  const look = (): void => {
    if (process.memoryUsage().arrayBuffers < BUFFERS_MAX_BYTES) return;
    collect ??= minorCollection();
    collect({ type: "minor" });
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
    });
  });
}

/** A collection of the young generation only, which takes about a millisecond; reached without a flag at the start. */
function minorCollection(): Collect {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as Collect;
  setFlagsFromString("--no-expose-gc");
  return collect;
}
