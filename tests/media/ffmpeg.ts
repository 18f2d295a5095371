/**
 * ffmpeg and ffprobe for tests: makes small media files, and judges results as an independent reader.
 * Uses what the environment names, else what PATH holds; a machine without either is told what to install, never skipped.
 */

import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

const execFilePromise = promisify(execFile);

/** Absolute paths of both programs. */
export const ffmpegPath: string = find("ffmpeg", "DOCYARD_TEST_FFMPEG");
export const ffprobePath: string = find("ffprobe", "DOCYARD_TEST_FFPROBE");

function find(program: string, variable: string): string {
  const folders = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, program));
  for (const path of [process.env[variable] ?? "", ...folders]) {
    if (path !== "" && spawnSync(path, ["-version"], { stdio: "ignore" }).status === 0) return path;
  }
  throw new Error(
    `The media tests need ${program}: install ffmpeg (Debian: apt-get install ffmpeg; macOS: brew install ffmpeg), ` +
      `or set ${variable} to its path`,
  );
}

/** A folder of fixtures; removed by `remove`. */
export interface Studio {
  readonly folder: string;
  /** Runs ffmpeg with these arguments and the file's path last; resolves to the path. Each name is made once. */
  make(name: string, ...args: readonly string[]): Promise<string>;
  remove(): Promise<void>;
}

export async function openStudio(): Promise<Studio> {
  const folder = await mkdtemp(join(tmpdir(), "docyard-media-"));
  const made = new Map<string, Promise<string>>();
  const encode = async (path: string, args: readonly string[]): Promise<string> => {
    await execFilePromise(ffmpegPath, ["-nostdin", "-v", "error", "-y", ...args, path]);
    return path;
  };
  return {
    folder,
    make(name, ...args) {
      const path = join(folder, name);
      const making = made.get(path) ?? encode(path, args);
      made.set(path, making);
      return making;
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** A moving test picture. */
export const picture = (size = "160x120", rate: number | string = 25): string[] => [
  "-f",
  "lavfi",
  "-i",
  `testsrc2=size=${size}:rate=${rate}`,
];

/** A tone. */
export const tone = (hertz = 440, rate = 48_000): string[] => [
  "-f",
  "lavfi",
  "-i",
  `sine=frequency=${hertz}:sample_rate=${rate}`,
];

export interface Decoded {
  /** What the decoder complained about: nothing, when the file is clean. */
  readonly faults: string;
  /** Stretches without sound in seconds, each from and to, as a listener would hear them. */
  readonly silences: readonly (readonly [from: number, to: number])[];
}

/** Decodes a file from beginning to end. */
export async function decode(path: string, hasSound = true): Promise<Decoded> {
  const filter = hasSound ? ["-af", "silencedetect=noise=-50dB:duration=0.3"] : [];
  const args = [
    "-nostdin",
    "-hide_banner",
    "-nostats",
    "-v",
    "level+info",
    "-i",
    path,
    ...filter,
    "-f",
    "null",
    "-",
  ];
  const { stderr } = await execFilePromise(ffmpegPath, args, { maxBuffer: 1 << 24 });
  const of = (word: string): number[] =>
    [...stderr.matchAll(new RegExp(`silence_${word}: (-?[0-9.]+)`, "g"))].map((match) => Number(match[1]));
  const ends = of("end");
  return {
    faults: stderr
      .split("\n")
      .filter((line) => /\[(?:error|fatal|panic)\]/.test(line))
      .join("\n"),
    silences: of("start").map(
      (start, index) => [Math.max(0, start), ends[index] ?? Number.POSITIVE_INFINITY] as const,
    ),
  };
}

export interface ProbedStream {
  readonly codec: string;
  readonly type: string;
  readonly packets: number;
  /** Seconds; of the first packet. */
  readonly start: number;
}

export interface Probed {
  /** Seconds. */
  readonly duration: number;
  readonly streams: readonly ProbedStream[];
}

/** Durations and packet counts, by ffprobe. */
export async function ffprobe(path: string): Promise<Probed> {
  const asked = ["-count_packets", "-show_streams", "-show_format", "-of", "json", path];
  const { stdout } = await execFilePromise(ffprobePath, ["-v", "error", ...asked]);
  const output = JSON.parse(stdout) as {
    format: { duration: string };
    streams: { codec_name: string; codec_type: string; nb_read_packets: string; start_time: string }[];
  };
  const streams = output.streams.map((stream) => ({
    codec: stream.codec_name,
    type: stream.codec_type,
    packets: Number(stream.nb_read_packets),
    start: Number(stream.start_time),
  }));
  return { duration: Number(output.format.duration), streams };
}

/** Hashes of all decoded frames of one kind, in order: equal pictures have equal hashes. */
export async function frameHashes(path: string, kind: "v" | "a"): Promise<string[]> {
  const args = [
    "-nostdin",
    "-v",
    "error",
    "-i",
    path,
    "-map",
    `0:${kind}`,
    "-vsync",
    "0",
    "-f",
    "framemd5",
    "-",
  ];
  const { stdout } = await execFilePromise(ffmpegPath, args, { maxBuffer: 1 << 28 });
  return stdout
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(",").at(-1)?.trim() ?? "");
}
