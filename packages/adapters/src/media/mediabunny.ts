/**
 * `Media` in pure TypeScript: mediabunny in worker threads, nothing to install. Reads MP4, MOV, WebM, Matroska, WAV,
 * Ogg, MP3, AAC, FLAC and MPEG-TS; joins all of these but FLAC and MPEG-TS.
 *
 * This file is the driver as core sees it. Parsing is `mediabunny-read.ts`, joining `mediabunny-join.ts`, both in the
 * thread of `mediabunny-worker.ts`; what runs the threads is `workers.ts`.
 */

import type { Clip, Media, MediaFacts, MediaInput, SourceBody } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { Worker } from "node:worker_threads";
import { threadProgram } from "../threads.ts";
import { RESULT_BYTES_DEFAULT } from "./limits.ts";
import type { JoinReport } from "./protocol.ts";
import { fileInput, openScratch } from "./scratch.ts";
import { SNIFF_SIZE, sniffType } from "./types.ts";
import type { StartWorker } from "./workers.ts";
import { WorkerLost, mediaWorkers } from "./workers.ts";

export interface MediabunnyMediaOptions {
  /** A folder, made where it is missing, for joined files until they have been read; emptied of them on `close`. */
  readonly scratchDir: string;
  /** Bytes a joined file may have. Default 5 GiB. */
  readonly sizeMax?: number;
  /** Jobs at once, each in a thread of its own. Default 2. */
  readonly concurrency?: number;
  /** Milliseconds after which a thread that makes no progress is given up. Default 20 s. */
  readonly hangMs?: number;
  /**
   * MiB of heap for each thread. Default 1024: a join keeps about 1.2 KB for each packet, so that is room for some
   * 800,000 of them, or 3 hours of video with sound.
   */
  readonly memoryMb?: number;
  /**
   * How a worker thread is started. Default: from the file beside this one. A single executable passes
   * `(options) => new Worker(source, { ...options, eval: true })` with the bundled source.
   */
  readonly startWorker?: StartWorker;
}

/** Opens the driver; threads start when they are needed, and stay warm. */
export function mediabunnyMedia(options: MediabunnyMediaOptions): Media {
  const { sizeMax = RESULT_BYTES_DEFAULT, concurrency = 2, hangMs = 20_000, memoryMb = 1024 } = options;
  const start = options.startWorker ?? startFromFile;
  const workers = mediaWorkers({ start, concurrency, hangMs, memoryMb });
  const scratch = openScratch(options.scratchDir);

  async function probe(input: MediaInput, signal?: AbortSignal): Promise<MediaFacts | null> {
    if (input.size === 0) return null;
    try {
      const report = await workers.run({ kind: "probe", size: input.size }, [input], signal);
      return report.kind === "probed" ? report.facts : null;
    } catch (error) {
      // A file that hangs or exhausts its reader is no media that can be read.
      if (error instanceof WorkerLost) return null;
      throw error;
    }
  }

  async function join(
    clips: readonly Clip[],
    { type, signal }: Parameters<Media["join"]>[1],
  ): Promise<SourceBody> {
    checkClips(clips);
    const file = scratch.file();
    try {
      const specs = clips.map(({ input, startMs }) => ({ size: input.size, startMs }));
      const inputs = clips.map(({ input }) => input);
      const job = { kind: "join", clips: specs, type, path: file.path, sizeMax } as const;
      const report = await workers.run(job, inputs, signal).catch(lostJoin);
      if (report.kind === "refused") {
        const { code, message, cause } = report.refusal;
        throw new DocyardError(code, message, { cause });
      }
      if (report.kind !== "joined") throw new Error("the media thread answered another question");
      const result = await fileInput(file.path);
      try {
        checkResult(report.report, await probe(result, signal));
      } finally {
        await result.close();
      }
      return { size: result.size, contentType: report.report.contentType, body: file.body() };
    } catch (error) {
      await file.remove();
      throw error;
    }
  }

  return {
    contentType: (input, name) => contentTypeOf(input, name),
    probe: (input, { signal } = {}) => probe(input, signal),
    join,
    async close() {
      await workers.close();
      await scratch.close();
    },
  };
}

const startFromFile: StartWorker = (options) =>
  new Worker(threadProgram("mediabunny-worker", import.meta.url), options);

/** The media type by the first bytes, else by the name; the same for every media driver. */
export async function contentTypeOf(input: MediaInput, name: string): Promise<string> {
  const head = input.size === 0 ? new Uint8Array() : await input.read(0, Math.min(input.size, SNIFF_SIZE));
  return sniffType(head, name);
}

/** A caller's mistakes, not a client's. */
function checkClips(clips: readonly Clip[]): void {
  if (clips.length === 0) throw new TypeError("join needs at least one clip");
  if (clips.some(({ startMs }) => !Number.isFinite(startMs) || startMs < 0)) {
    throw new TypeError("startMs must be a number of milliseconds from 0");
  }
}

function lostJoin(error: unknown): never {
  if (!(error instanceof WorkerLost)) throw error;
  throw new DocyardError("policy_rejected", "The fragments are too long or too broken to be joined", {
    cause: error,
  });
}

/** Lesson from joins elsewhere: copying "succeeds" with broken timestamps, so the duration is checked in the result. */
function checkResult({ durationMs, toleranceMs }: JoinReport, facts: MediaFacts | null): void {
  if (facts !== null && Math.abs(facts.durationMs - durationMs) <= toleranceMs) return;
  const found =
    facts === null ? "cannot be read" : `lasts ${facts.durationMs} ms instead of ${durationMs} ms`;
  throw new DocyardError("policy_rejected", `The fragments cannot be joined: the result ${found}`);
}
