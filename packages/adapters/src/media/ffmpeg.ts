/**
 * `Media` by way of ffmpeg and ffprobe, for what another driver cannot read or join: FLAC and MPEG-TS joins, AVI and
 * older containers. Asks that driver first, and runs a program only when it gives up.
 *
 * The programs see one file that docyard wrote, through the `file` protocol, with the demuxers listed here: no network,
 * no playlists that name other files, no shell, no environment.
 */

import type { Clip, Media, MediaFacts, MediaInput, MediaTrack, SourceBody } from "@docyard/core";
import { DocyardError, isDocyardError } from "@docyard/core";
import type { ExecFileException } from "node:child_process";
import { execFile } from "node:child_process";
import { open, stat, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { codeOf } from "../error-code.ts";
import { RESULT_BYTES_DEFAULT, RESULT_HOURS_MAX } from "./limits.ts";
import type { ScratchFile } from "./scratch.ts";
import { isFull, openScratch, SCRATCH_IS_FULL, writeWhole } from "./scratch.ts";

export interface FfmpegMediaOptions {
  /** Absolute path of the program. */
  readonly ffmpeg: string;
  /** Absolute path of the other one, of the same version. */
  readonly ffprobe: string;
  /** A folder, made where it is missing, with room for the inputs and the result of a join at once. */
  readonly scratchDir: string;
  /** The driver that is asked first; closed together with this one. */
  readonly fallbackFor: Media;
  /** Bytes a joined file may have. Default 5 GiB. */
  readonly sizeMax?: number;
  /** Milliseconds a look into a file may take. Default 60 s. */
  readonly probeMs?: number;
  /** Milliseconds a join may take. Default 1 h. */
  readonly joinMs?: number;
}

/** Demuxers that read one file and follow nothing it names. */
const DEMUXERS =
  "avi,mpegts,mpeg,flac,asf,flv,matroska,mov,ogg,mp3,aac,wav,aiff,ac3,eac3,dts,caf,amr,w64,mxf,rm,mpegvideo,h264,hevc";
/** What reads the list of a join, which docyard has written: no client's file may be one. */
const LIST_DEMUXER = "concat";

/** Bytes of a program's output that are read. */
const OUTPUT_MAX = 4 * 1024 * 1024;

interface Joinable {
  readonly type: string;
  readonly muxer: string;
  /** A hole can be kept, or filled. */
  readonly hasTimeline: boolean;
}

/** What can be joined here, by ffprobe's name of the container. */
const JOINABLE: Readonly<Record<string, Joinable>> = {
  mpegts: { type: "video/mp2t", muxer: "mpegts", hasTimeline: true },
  avi: { type: "video/x-msvideo", muxer: "avi", hasTimeline: false },
  flac: { type: "audio/flac", muxer: "flac", hasTimeline: true },
};

export function ffmpegMedia(options: FfmpegMediaOptions): Media {
  const { fallbackFor, sizeMax = RESULT_BYTES_DEFAULT, joinMs = 3_600_000 } = options;
  const scratch = openScratch(options.scratchDir);
  const closing = new AbortController();
  const ends = (signal: AbortSignal | undefined): AbortSignal =>
    signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal]);

  async function probe(input: MediaInput, outer?: AbortSignal): Promise<MediaFacts | null> {
    const facts = await fallbackFor.probe(input, outer === undefined ? {} : { signal: outer });
    if (facts !== null || input.size === 0) return facts;
    const signal = ends(outer);
    const file = scratch.file();
    try {
      await save(input, file.path, signal);
      const found = await look(options, file.path, signal);
      return found === null ? null : { ...found.facts, contentType: await typeOf(found, input) };
    } finally {
      await file.remove();
    }
  }

  async function typeOf({ format }: Look, input: MediaInput): Promise<string> {
    return JOINABLE[format]?.type ?? (await fallbackFor.contentType(input, ""));
  }

  async function join(clips: readonly Clip[], settings: Parameters<Media["join"]>[1]): Promise<SourceBody> {
    try {
      return await fallbackFor.join(clips, settings);
    } catch (refusal) {
      if (!isDocyardError(refusal, "policy_rejected") && !isDocyardError(refusal, "source_failed"))
        throw refusal;
      return joinByProgram(clips, settings, refusal);
    }
  }

  async function joinByProgram(
    clips: readonly Clip[],
    { type, signal: outer }: Parameters<Media["join"]>[1],
    refusal: DocyardError,
  ): Promise<SourceBody> {
    const signal = ends(outer);
    const files: ScratchFile[] = [];
    const fresh = (): ScratchFile => {
      const file = scratch.file();
      files.push(file);
      return file;
    };
    let result: ScratchFile | null = null;
    try {
      const looks: PlacedLook[] = [];
      for (const [index, { input, startMs }] of clips.entries()) {
        const { path } = fresh();
        await save(input, path, signal);
        const found = await look(options, path, signal);
        // Only what the first driver cannot handle at all is tried here; its other refusals stand.
        if (found === null || JOINABLE[found.format] === undefined) throw refusal;
        if (!found.facts.mediaTypes.includes(type)) {
          throw new DocyardError("source_failed", `Fragment ${index + 1} has no ${type} stream`);
        }
        looks.push({ ...found, index, path, startMs });
      }
      compare(looks);
      result = scratch.file();
      const joined = await concat({ ...options, sizeMax, joinMs }, { looks, result, fresh, signal });
      return { ...joined, body: result.body() };
    } catch (error) {
      await result?.remove();
      throw error;
    } finally {
      for (const file of files) await file.remove();
    }
  }

  return {
    contentType: (input, name) => fallbackFor.contentType(input, name),
    probe: (input, { signal } = {}) => probe(input, signal),
    join,
    async close() {
      if (!closing.signal.aborted) closing.abort(new Error("the media driver is closed"));
      await scratch.close();
      await fallbackFor.close();
    },
  };
}

// ---- looking into files ----------------------------------------------------------------------------------------

interface Look {
  /** ffprobe's name of the container. */
  readonly format: string;
  readonly facts: MediaFacts;
  /** Per stream, by name: what must be equal in a join. */
  readonly properties: readonly Readonly<Record<string, string>>[];
}

interface PlacedLook extends Look {
  readonly index: number;
  readonly path: string;
  readonly startMs: number;
}

interface ProbeStream {
  readonly codec_type?: string;
  readonly codec_name?: string;
  readonly codec_tag_string?: string;
  readonly profile?: string;
  readonly width?: number;
  readonly height?: number;
  readonly avg_frame_rate?: string;
  readonly sample_rate?: string;
  readonly channels?: number;
  readonly sample_fmt?: string;
  readonly bits_per_raw_sample?: string;
  readonly pix_fmt?: string;
  readonly extradata_hash?: string;
  readonly disposition?: { readonly attached_pic?: number };
}

interface ProbeOutput {
  readonly streams?: readonly ProbeStream[];
  readonly format?: { readonly format_name?: string; readonly duration?: string };
}

/** Null when ffprobe finds no media, or takes too long to say. */
async function look(options: FfmpegMediaOptions, path: string, signal: AbortSignal): Promise<Look | null> {
  const { ffprobe, probeMs = 60_000 } = options;
  const asked = ["-show_format", "-show_streams", "-show_data_hash", "sha256", "-of", "json"];
  let output: ProbeOutput;
  try {
    const text = await run(ffprobe, [...guards(DEMUXERS), ...asked, "-i", path], {
      timeoutMs: probeMs,
      signal,
    });
    output = JSON.parse(text) as ProbeOutput;
  } catch (error) {
    if (signal.aborted || isMissing(error)) throw error;
    return null;
  }
  const streams = (output.streams ?? []).filter(isPlayable);
  const durationMs = Math.round(Number(output.format?.duration) * 1000);
  if (streams.length === 0 || !(durationMs > 0)) return null;
  const tracks = streams.map(trackOf);
  const types = new Set(tracks.map(({ type }) => type));
  const mediaTypes = (["video", "audio"] as const).filter((type) => types.has(type));
  return {
    format: output.format?.format_name ?? "",
    facts: { contentType: "", mediaTypes, durationMs, tracks },
    properties: streams.map(propertiesOf),
  };
}

function isPlayable({ codec_type, codec_name, disposition }: ProbeStream): boolean {
  const kind = codec_type === "video" || codec_type === "audio";
  return kind && codec_name !== undefined && disposition?.attached_pic !== 1;
}

function trackOf(stream: ProbeStream): MediaTrack {
  const codec = stream.codec_name ?? "";
  if (stream.codec_type === "audio") {
    const { channels = 0 } = stream;
    return { type: "audio", codec, sampleRate: Number(stream.sample_rate ?? 0), channels };
  }
  const [over = 0, under = 0] = (stream.avg_frame_rate ?? "").split("/").map(Number);
  const frameRate = under > 0 && over > 0 ? { frameRate: Math.round((over / under) * 1000) / 1000 } : {};
  return { type: "video", codec, width: stream.width ?? 0, height: stream.height ?? 0, ...frameRate };
}

function propertiesOf(stream: ProbeStream): Record<string, string> {
  const kind = stream.codec_type ?? "";
  const track = trackOf(stream);
  // FLAC's settings hold counts and a checksum of the clip's own samples, so they differ always.
  const settings = stream.codec_name === "flac" ? "" : (stream.extradata_hash ?? "");
  const common = { [`${kind} codec`]: track.codec, [`${kind} profile`]: stream.profile ?? "" };
  if (track.type === "video") {
    return {
      ...common,
      "video resolution": `${track.width}×${track.height}`,
      "frame rate": String(track.frameRate ?? ""),
      "video pixel format": stream.pix_fmt ?? "",
      "video codec settings": settings,
    };
  }
  return {
    ...common,
    "audio sample rate": `${track.sampleRate} Hz`,
    "audio channels": String(track.channels),
    "audio sample format": `${stream.sample_fmt ?? ""} ${stream.bits_per_raw_sample ?? ""}`,
    "audio codec settings": settings,
  };
}

/** Refuses clips that could not follow the first one in the same file. */
function compare(looks: readonly PlacedLook[]): void {
  const [first, ...rest] = looks;
  if (first === undefined) return;
  const refuse = (clip: PlacedLook, property: string, words: string): never => {
    const message = `Fragment ${clip.index + 1} differs from fragment 1 in ${property}${words}`;
    throw new DocyardError("policy_rejected", message);
  };
  for (const clip of rest) {
    if (clip.format !== first.format)
      refuse(clip, "container", `: ${clip.format} instead of ${first.format}`);
    if (clip.properties.length !== first.properties.length) refuse(clip, "its number of tracks", "");
    for (const [number, properties] of clip.properties.entries()) {
      for (const [property, value] of Object.entries(properties)) {
        const expected = first.properties[number]?.[property];
        if (expected === value) continue;
        refuse(clip, property, property.endsWith("settings") ? "" : `: ${value} instead of ${expected}`);
      }
    }
  }
}

// ---- joining ---------------------------------------------------------------------------------------------------

interface ConcatTools {
  readonly looks: readonly PlacedLook[];
  readonly result: ScratchFile;
  /** A scratch file that is removed when the join is over. */
  readonly fresh: () => ScratchFile;
  readonly signal: AbortSignal;
}

/** Milliseconds that count as no hole, and by which a result's length may be off: a frame at 10 frames a second. */
const SLACK_MS = 100;

async function concat(
  options: FfmpegMediaOptions & { readonly sizeMax: number; readonly joinMs: number },
  { looks, result, fresh, signal }: ConcatTools,
): Promise<{ readonly size: number; readonly contentType: string }> {
  const target = JOINABLE[looks[0]?.format ?? ""];
  if (target === undefined) throw new TypeError("nothing to join");
  const placed = layOut(looks, target);
  const lead = placed[0]?.start ?? 0;
  const limits = { timeoutMs: options.joinMs, signal };
  const lines = ["ffconcat version 1.0"];
  let end = 0;
  for (const [number, { clip, start }] of placed.entries()) {
    if (target.muxer === "flac") {
      if (start > end) {
        const { path } = fresh();
        await convert(options.ffmpeg, silence(clip, start - end, path), limits);
        lines.push(`file '${path}'`);
      }
      lines.push(`file '${clip.path}'`);
    } else {
      // A clip lasts until the next one begins: that is what keeps a hole open.
      const until = placed[number + 1]?.start ?? start + clip.facts.durationMs;
      lines.push(`file '${clip.path}'`, `duration ${seconds(until - start)}`);
    }
    end = start + clip.facts.durationMs;
  }
  const list = fresh();
  await writeFile(list.path, `${lines.join("\n")}\n`);
  // FLAC frames are numbered, so they are written anew: that loses nothing, FLAC being lossless.
  const how = target.muxer === "flac" ? ["-c:a", "flac"] : ["-c", "copy", "-output_ts_offset", seconds(lead)];
  const from = ["-f", LIST_DEMUXER, "-safe", "0", "-i", list.path, "-map", "0"];
  const limit = ["-fs", String(options.sizeMax + 1), "-f", target.muxer, "-y", result.path];
  await convert(
    options.ffmpeg,
    ["-nostdin", ...guards(`${DEMUXERS},${LIST_DEMUXER}`), ...from, ...how, ...limit],
    limits,
  );
  const { size } = await stat(result.path);
  if (size > options.sizeMax) {
    throw new DocyardError("too_large", `The joined file would be larger than ${options.sizeMax} bytes`);
  }
  const found = await look(options, result.path, signal);
  const lasts = found?.facts.durationMs ?? 0;
  // FLAC begins with its silence; a timeline may begin later.
  const expected = target.muxer === "flac" ? end : end - lead;
  if (Math.abs(lasts - expected) > SLACK_MS) {
    const message = `The fragments cannot be joined: the result lasts ${lasts} ms instead of ${expected} ms`;
    throw new DocyardError("policy_rejected", message);
  }
  return { size, contentType: target.type };
}

/** In order of start, stable; each where it wants to be or right after the one before, whichever is later. */
function layOut(
  looks: readonly PlacedLook[],
  { hasTimeline }: Joinable,
): { readonly clip: PlacedLook; readonly start: number }[] {
  let end = 0;
  return looks
    .toSorted((a, b) => a.startMs - b.startMs)
    .map((clip) => {
      const start = Math.max(clip.startMs, end);
      const name = `Fragment ${clip.index + 1}`;
      if (start - end > SLACK_MS && !hasTimeline) {
        throw new DocyardError("policy_rejected", `${name} leaves a pause before it, which AVI cannot hold`);
      }
      end = start + clip.facts.durationMs;
      if (end > RESULT_HOURS_MAX * 3_600_000) {
        throw new DocyardError(
          "policy_rejected",
          `${name} would end after the ${RESULT_HOURS_MAX} hours that a result may last`,
        );
      }
      return { clip, start };
    });
}

/** Arguments that write silence in the format of a clip. */
function silence(clip: Look, durationMs: number, path: string): string[] {
  const track = clip.facts.tracks.find(({ type }) => type === "audio");
  const bits = clip.properties.find((one) => one["audio sample format"] !== undefined)?.[
    "audio sample format"
  ];
  const [format = "s16"] = (bits ?? "").split(" ");
  const source = `anullsrc=r=${track?.sampleRate ?? 48_000}:cl=${track?.channels ?? 2}c:d=${seconds(durationMs)}`;
  const input = ["-f", "lavfi", "-i", source];
  return [
    "-nostdin",
    "-v",
    "error",
    ...input,
    "-c:a",
    "flac",
    "-sample_fmt",
    format,
    "-f",
    "flac",
    "-y",
    path,
  ];
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(6);
}

// ---- running programs ------------------------------------------------------------------------------------------

function guards(demuxers: string): string[] {
  return ["-hide_banner", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", demuxers];
}

const execFilePromise = promisify(execFile);

/** Resolves to what the program printed; rejects when it fails, prints too much or takes too long. */
async function run(
  program: string,
  args: readonly string[],
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<string> {
  signal.throwIfAborted();
  try {
    const { stdout } = await execFilePromise(program, args, {
      env: {},
      timeout: timeoutMs,
      killSignal: "SIGKILL",
      maxBuffer: OUTPUT_MAX,
      signal,
      windowsHide: true,
    });
    return stdout;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/** Runs ffmpeg. What it gives up on is wrong with the fragments, unless something kept it from its work. */
async function convert(
  program: string,
  args: readonly string[],
  limits: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  try {
    await run(program, args, limits);
  } catch (error) {
    const { stderr = "", code, killed } = error as ExecFileException & { readonly stderr?: string };
    // It ended by itself, or took too long, or said too much; else it never began, or somebody else killed it.
    const isItsOwn = typeof code === "number" || killed === true;
    if (limits.signal.aborted || !isItsOwn) throw error;
    throw NO_ROOM.test(stderr)
      ? new DocyardError("no_space", SCRATCH_IS_FULL, { cause: error })
      : new DocyardError("policy_rejected", "The fragments cannot be joined: ffmpeg gives up on them", {
          cause: error,
        });
  }
}

/** The system's words for it, in the language that programs without an environment speak. */
const NO_ROOM = /No space left on device|Disk quota exceeded/;

/** The program is not there: the operator's mistake, not the file's. */
function isMissing(error: unknown): boolean {
  return ["ENOENT", "EACCES"].includes(codeOf(error));
}

/** Bytes that are copied at a time. */
const COPY_SIZE = 4 * 1024 * 1024;

async function save(input: MediaInput, path: string, signal: AbortSignal): Promise<void> {
  const file = await open(path, "wx");
  try {
    for (let at = 0; at < input.size; at += COPY_SIZE) {
      signal.throwIfAborted();
      await writeWhole(file, await input.read(at, Math.min(at + COPY_SIZE, input.size)), at);
    }
  } catch (error) {
    throw isFull(error) ? new DocyardError("no_space", SCRATCH_IS_FULL, { cause: error }) : error;
  } finally {
    await file.close();
  }
}
