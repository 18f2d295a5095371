/**
 * The worker thread of the mediabunny driver: parses and joins where a hostile file can block or exhaust nothing but
 * itself. Gets bytes by asking its parent for them; one job at a time.
 *
 * Imports no other package than mediabunny, so that it bundles into one source for a single executable.
 */

import type { MediaFacts } from "@docyard/core";
import { LogLevel, Logging } from "mediabunny";
import { parentPort } from "node:worker_threads";
import { JoinRefused, join } from "./mediabunny-join.ts";
import type { OpenInput } from "./mediabunny-read.ts";
import { openInput, readMedia, typeOf } from "./mediabunny-read.ts";
import type { Job, JoinJob, Report, Request } from "./protocol.ts";

const port = parentPort;
if (port === null) throw new Error("the media worker runs in a worker thread");

// What is wrong with a client's file is no line in the operator's log.
Logging.level = LogLevel.Silent;

const send = (report: Report): void => port.postMessage(report);

const waiting = new Map<number, (bytes: Uint8Array) => void>();
let lastRead = 0;

/** Asks the parent for bytes; a read that fails ends this thread from outside, so there is no answer for that. */
function read(input: number, start: number, end: number): Promise<Uint8Array> {
  lastRead += 1;
  const id = lastRead;
  send({ kind: "read", id, input, start, end });
  return new Promise((resolve) => waiting.set(id, resolve));
}

port.on("message", (request: Request) => {
  if (request.kind === "job") void run(request.job);
  else {
    waiting.get(request.id)?.(request.bytes);
    waiting.delete(request.id);
  }
});

send({ kind: "alive" });

async function run(job: Job): Promise<void> {
  if (job.kind === "probe") send({ kind: "probed", facts: await probe(job.size) });
  else await runJoin(job);
}

/** Whatever a file does to the parser, it is no media that can be read. */
async function probe(size: number): Promise<MediaFacts | null> {
  let open: OpenInput | null = null;
  try {
    open = openInput(size, (start, end) => read(0, start, end));
    const reading = await readMedia(open);
    if (reading === null) return null;
    const { container, tracks, unknown, start, end } = reading;
    const types = new Set([...tracks.map(({ facts }) => facts.type), ...unknown.map(({ type }) => type)]);
    const mediaTypes = (["video", "audio"] as const).filter((type) => types.has(type));
    return {
      contentType: typeOf(container, mediaTypes.includes("video")),
      mediaTypes,
      durationMs: Math.round((end - start) * 1000),
      tracks: tracks.map(({ facts }) => facts),
    };
  } catch {
    return null;
  } finally {
    open?.input.dispose();
  }
}

async function runJoin(job: JoinJob): Promise<void> {
  const open = (clip: number, budgeted: boolean): OpenInput =>
    openInput(job.clips[clip]?.size ?? 0, (start, end) => read(clip, start, end), budgeted);
  try {
    send({ kind: "joined", report: await join(job, { open, alive: () => send({ kind: "alive" }) }) });
  } catch (error) {
    const refusal =
      error instanceof JoinRefused
        ? error.refusal
        : { code: "internal" as const, message: "The fragments could not be joined", cause: String(error) };
    send({ kind: "refused", refusal });
  }
}
