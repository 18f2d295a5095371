/**
 * Joining clips (ruling 11): where they land, that not a frame changes on the way, and what is refused.
 * ffmpeg makes the clips and judges the results.
 */

import { mediabunnyMedia } from "@docyard/adapters/media/mediabunny";
import { join as joinTo } from "../../packages/adapters/src/media/mediabunny-join.ts";
import { openInput } from "../../packages/adapters/src/media/mediabunny-read.ts";
import type { WritableFile } from "../../packages/adapters/src/media/scratch.ts";
import { writeWhole } from "../../packages/adapters/src/media/scratch.ts";
import type { MediaInput } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { Worker } from "node:worker_threads";
import * as fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Probed, Studio } from "../media/ffmpeg.ts";
import { decode, ffprobe, frameHashes, openStudio, picture, tone } from "../media/ffmpeg.ts";
import { bytesInput, fileBytes } from "../media/inputs.ts";

let studio: Studio;
let scratchDir: string;
let media: ReturnType<typeof mediabunnyMedia>;

beforeAll(async () => {
  studio = await openStudio();
  scratchDir = await mkdtemp(joinPath(tmpdir(), "docyard-scratch-"));
  media = mediabunnyMedia({ scratchDir });
});

afterEach(async () => {
  const left = await readdir(scratchDir);
  if (left.length > 0) throw new Error(`a join left ${left.join(", ")} behind`);
});

afterAll(async () => {
  await media.close();
  await studio.remove();
  await rm(scratchDir, { recursive: true });
});

type Placement = readonly [path: string, startMs: number];

async function joinBytes(clips: readonly Placement[], type: "video" | "audio"): Promise<Buffer> {
  const inputs = await Promise.all(
    clips.map(async ([path, startMs]) => ({ input: await fileBytes(path), startMs })),
  );
  const { body, size, contentType } = await media.join(inputs, { type });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  expect(size).toBe(bytes.length);
  expect(contentType).toMatch(/^(video|audio)\//);
  return bytes;
}

let results = 0;
async function joinFile(clips: readonly Placement[], type: "video" | "audio"): Promise<string> {
  results += 1;
  const path = joinPath(studio.folder, `result-${results}`);
  await writeFile(path, await joinBytes(clips, type));
  return path;
}

async function faultOf(work: Promise<unknown>): Promise<DocyardError> {
  const fault = await work.then(
    () => null,
    (error: unknown) => error,
  );
  expect(fault).toBeInstanceOf(DocyardError);
  return fault as DocyardError;
}

interface Family {
  readonly extension: string;
  readonly type: "video" | "audio";
  /** Codec arguments. */
  readonly codec: readonly string[];
  /** Packets that each clip has and the result has not: decoder priming. */
  readonly priming?: number;
  /** Default `filled`, with sound that is silent. */
  readonly holes?: "kept" | "refused";
  /** Seconds by which sound may be off, where clips themselves begin late. */
  readonly slack?: number;
}

const AVC = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p"];
const HEVC = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1"];
const VP8 = ["-c:v", "libvpx", "-deadline", "realtime"];
const VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"];
const FRAGMENTED = ["-movflags", "+frag_keyframe+empty_moov"];

const families: Record<string, Family> = {
  mp4: { extension: "mp4", type: "video", codec: [...AVC, "-c:a", "aac", "-ac", "2"], priming: 1 },
  // Without an edit list ffmpeg makes pictures and sound of such a clip begin 80 ms late.
  "fragmented mp4": {
    extension: "mp4",
    type: "video",
    codec: [...AVC, "-c:a", "aac", ...FRAGMENTED],
    slack: 0.2,
  },
  "mp4 with hevc": { extension: "mp4", type: "video", codec: [...HEVC, "-c:a", "aac"], priming: 1 },
  "mp4 without sound": { extension: "mp4", type: "video", codec: [...AVC, "-an"], holes: "kept" },
  mov: { extension: "mov", type: "video", codec: [...AVC, "-c:a", "pcm_s16le"] },
  mkv: { extension: "mkv", type: "video", codec: [...AVC, "-c:a", "libmp3lame"] },
  webm: { extension: "webm", type: "video", codec: [...VP8, "-c:a", "libopus"] },
  "webm with vp9 and vorbis": {
    extension: "webm",
    type: "video",
    codec: [...VP9, "-c:a", "libvorbis"],
    holes: "kept",
  },
  m4a: { extension: "m4a", type: "audio", codec: ["-c:a", "aac", "-ac", "2"], priming: 1 },
  aac: { extension: "aac", type: "audio", codec: ["-c:a", "aac", "-ac", "1"] },
  mp3: { extension: "mp3", type: "audio", codec: ["-c:a", "libmp3lame", "-ac", "2"] },
  "mp3 at 22 kHz": { extension: "mp3", type: "audio", codec: ["-c:a", "libmp3lame", "-ar", "22050"] },
  wav: { extension: "wav", type: "audio", codec: ["-c:a", "pcm_s16le"] },
  "wav with 24 bit": { extension: "wav", type: "audio", codec: ["-c:a", "pcm_s24le", "-ac", "2"] },
  "wav with a-law": { extension: "wav", type: "audio", codec: ["-c:a", "pcm_alaw", "-ar", "8000"] },
  "ogg with opus": { extension: "ogg", type: "audio", codec: ["-c:a", "libopus", "-ac", "2"] },
  "ogg with opus in mono": { extension: "ogg", type: "audio", codec: ["-c:a", "libopus", "-ac", "1"] },
  "ogg with vorbis": { extension: "ogg", type: "audio", codec: ["-c:a", "libvorbis"], holes: "refused" },
};

function clip(name: string, seconds: number, hertz: number): Promise<string> {
  const { type, codec, extension } = families[name]!;
  const from = type === "video" ? [...picture(), ...tone(hertz)] : tone(hertz);
  const file = `${name.replaceAll(" ", "-")}-${seconds}-${hertz}.${extension}`;
  return studio.make(file, ...from, "-t", String(seconds), ...codec);
}

/** ffprobe cannot know how long raw AAC lasts; its packets tell. */
function lengthOf({ extension }: Family, { duration, streams }: Probed): number {
  return extension === "aac" ? ((streams[0]?.packets ?? 0) * 1024) / 48_000 : duration;
}

/** Seconds: a packet of the coarsest codec here, which is MP3 at 22 kHz, and clocks that round. */
const FRAME = 0.06;

/** Codecs whose clips end within a packet: what the next clip covers of it may cost one packet at each joint. */
const OVERLAPPING = ["opus", "vorbis", "mp3"];

describe.each(Object.keys(families))("%s", (name) => {
  const family = families[name]!;
  const { type, priming = 0 } = family;
  const video = type === "video";

  test("clips follow each other without a frame changed, and decode clean", async () => {
    const paths = [await clip(name, 1, 440), await clip(name, 2, 660), await clip(name, 1, 440)];
    // The second and third want to begin while the ones before them run.
    const result = await joinFile(
      [
        [paths[0]!, 0],
        [paths[1]!, 400],
        [paths[2]!, 400],
      ],
      type,
    );
    expect((await decode(result, !name.includes("without"))).faults).toBe("");
    const [probed, ...sources] = await Promise.all([result, ...paths].map((path) => ffprobe(path)));
    const sum = sources.reduce((total, source) => total + lengthOf(family, source), 0);
    expect(Math.abs(lengthOf(family, probed!) - sum)).toBeLessThan(FRAME);
    for (const [index, stream] of probed!.streams.entries()) {
      const given = sources.reduce((total, source) => total + (source.streams[index]?.packets ?? 0), 0);
      const expected = given - (stream.type === "audio" ? priming * paths.length : 0);
      const joints = OVERLAPPING.includes(stream.codec) ? 2 * paths.length : 0;
      // PCM has no packets of its own; readers cut it as they like.
      const packets = stream.codec.startsWith("pcm") ? expected : stream.packets;
      expect(packets).toBeLessThanOrEqual(expected);
      expect(packets).toBeGreaterThanOrEqual(expected - joints);
    }
    const hashes = video ? await Promise.all([result, ...paths].map((path) => frameHashes(path, "v"))) : [[]];
    expect(hashes[0]).toEqual(hashes.slice(1).flat());
  });
});

const placeable = Object.keys(families).filter((name) => families[name]?.holes !== "refused");

test.each(placeable)("%s: clips land where they were placed", async (name) => {
  const family = families[name]!;
  const { type, holes = "filled", slack = 0.11 } = family;
  const [short, long] = [await clip(name, 1, 440), await clip(name, 2, 660)];
  // Given out of order: the long one lasts from 1.5 to 3.5, the short one wants to begin at 5.
  const result = await joinFile(
    [
      [short, 5000],
      [long, 1500],
    ],
    type,
  );
  const [probed, shortOne, longOne] = await Promise.all([result, short, long].map((path) => ffprobe(path)));
  const end = Math.max(5, 1.5 + lengthOf(family, longOne!)) + lengthOf(family, shortOne!);
  expect(Math.abs(lengthOf(family, probed!) - end)).toBeLessThan(FRAME);
  const { faults, silences } = await decode(result, !name.includes("without"));
  expect(faults).toBe("");
  const heard = holes === "filled" ? silences.flat() : [0, 1.5, 3.5, 5];
  expect(heard.map((time, index) => Math.abs(time - [0, 1.5, 3.5, 5][index]!) < slack)).toEqual([
    true,
    true,
    true,
    true,
  ]);
});

test("ogg with vorbis: clips with a pause between them are refused", async () => {
  const [short, long] = [await clip("ogg with vorbis", 1, 440), await clip("ogg with vorbis", 2, 660)];
  const fault = await faultOf(
    joinBytes(
      [
        [short, 5000],
        [long, 1500],
      ],
      "audio",
    ),
  );
  expect(fault).toMatchObject({ code: "policy_rejected" });
  expect(fault.message).toMatch(/^Fragment 2 .*pause/);
});

/** A WAV of these samples. */
function wav(samples: Int16Array, rate = 8000): Buffer {
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + samples.byteLength, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(rate, 24);
  header.writeUInt32LE(rate * 2, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([header, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength)]);
}

test("law: every sample is where the timeline of ruling 11 puts it", async () => {
  const clips = fc.array(
    fc.record({ samples: fc.int16Array({ minLength: 8, maxLength: 4000 }), start: fc.nat(16_000) }),
    { minLength: 1, maxLength: 6 },
  );
  await fc.assert(
    fc.asyncProperty(clips, async (clips) => {
      // Starts on whole samples (an eighth of a millisecond each), so that the model is exact.
      const inputs = clips.map(({ samples, start }) => ({
        input: bytesInput(wav(samples)),
        startMs: start / 8,
      }));
      const { body } = await media.join(inputs, { type: "audio" });
      const chunks: Uint8Array[] = [];
      for await (const chunk of body) chunks.push(chunk);
      const model: number[] = [];
      for (const { samples, start } of clips.toSorted((a, b) => a.start - b.start)) {
        while (model.length < start) model.push(0);
        model.push(...samples);
      }
      expect(Buffer.concat(chunks).equals(wav(Int16Array.from(model)))).toBe(true);
    }),
    { numRuns: 60 },
  );
});

describe("what is refused", () => {
  const mp4 = (name: string, ...args: string[]): Promise<string> =>
    studio.make(`${name}.mp4`, ...picture(), ...tone(), "-t", "1", ...AVC, "-c:a", "aac", ...args);
  const sound = (name: string, ...args: string[]): Promise<string> =>
    studio.make(name, ...tone(), "-t", "1", ...args);

  const cases: [string, "video" | "audio", () => Promise<string[]>, string, RegExp][] = [
    [
      "another codec",
      "video",
      async () => [await mp4("base"), await mp4("x265", "-c:v", "libx265", "-x265-params", "log-level=none")],
      "policy_rejected",
      /^Fragment 2 differs from fragment 1 in video codec: hevc instead of avc$/,
    ],
    [
      "sound in a codec that would get lost",
      "video",
      async () => [await mp4("base"), await mp4("lossless", "-c:a", "alac")],
      "policy_rejected",
      /^Fragment 2 has audio in a codec that is not known here \(alac\) and would get lost$/,
    ],
    [
      "another resolution",
      "video",
      async () => [await mp4("base"), await mp4("small", "-s", "80x60")],
      "policy_rejected",
      /^Fragment 2 .* video resolution: 80×60 instead of 160×120$/,
    ],
    [
      "another frame rate",
      "video",
      async () => [await mp4("base"), await mp4("base"), await mp4("slow", "-r", "24")],
      "policy_rejected",
      /^Fragment 3 .* frame rate: 24 instead of 25$/,
    ],
    [
      "29.97 and 30",
      "video",
      async () => [await mp4("ntsc", "-r", "30000/1001"), await mp4("thirty", "-r", "30")],
      "policy_rejected",
      /^Fragment 2 .* frame rate: 30 instead of 29.97$/,
    ],
    [
      "another profile",
      "video",
      async () => [await mp4("base"), await mp4("baseline", "-profile:v", "baseline", "-bf", "0")],
      "policy_rejected",
      /^Fragment 2 .* video codec settings/,
    ],
    [
      "another sample rate",
      "audio",
      async () => [await sound("b.m4a"), await sound("c.m4a", "-ar", "44100")],
      "policy_rejected",
      /^Fragment 2 .* audio sample rate: 44100 Hz instead of 48000 Hz$/,
    ],
    [
      "other channels",
      "audio",
      async () => [await sound("b.mp3"), await sound("c.mp3", "-ac", "2")],
      "policy_rejected",
      /^Fragment 2 .* audio channels: 2 instead of 1$/,
    ],
    [
      "another sample format",
      "audio",
      async () => [await sound("b.wav"), await sound("c.wav", "-c:a", "pcm_s24le")],
      "policy_rejected",
      /^Fragment 2 .* audio codec: pcm-s24 instead of pcm-s16$/,
    ],
    [
      "a clip without sound",
      "video",
      async () => [await mp4("base"), await mp4("mute", "-an")],
      "policy_rejected",
      /^Fragment 2 .* its number of audio tracks: 0 instead of 1$/,
    ],
    [
      "flac",
      "audio",
      async () => [await sound("b.flac"), await sound("b.flac")],
      "policy_rejected",
      /flac.*cannot be joined/i,
    ],
    [
      "flac in matroska",
      "audio",
      async () => [await sound("f.mka", "-c:a", "flac", "-f", "matroska"), await sound("f.mka")],
      "policy_rejected",
      /FLAC.*cannot be joined/,
    ],
    [
      "a transport stream",
      "video",
      async () => [await studio.make("b.ts", "-i", await mp4("base"), "-c", "copy")],
      "policy_rejected",
      /^Fragment 1 is ts/,
    ],
    [
      "no media",
      "video",
      async () => [await mp4("base"), new URL(import.meta.url).pathname],
      "source_failed",
      /^Fragment 2 is not media/,
    ],
    [
      "avi",
      "video",
      async () => [await studio.make("b.avi", ...picture(), "-t", "1")],
      "source_failed",
      /^Fragment 1 is not media/,
    ],
    [
      "sound where a picture is due",
      "video",
      async () => [await mp4("base"), await sound("b.m4a")],
      "source_failed",
      /^Fragment 2 has no video stream$/,
    ],
    [
      "a picture where sound is due",
      "audio",
      async () => [await sound("b.m4a"), await mp4("mute", "-an")],
      "source_failed",
      /^Fragment 2 has no audio stream$/,
    ],
  ];

  test.each(cases)("%s", async (_, type, paths, code, message) => {
    const fault = await faultOf(
      joinBytes(
        (await paths()).map((path) => [path, 0]),
        type,
      ),
    );
    expect({ code: fault.code, message: fault.message }).toEqual({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  test("fragments are named as given, not as sorted", async () => {
    const [base, slow] = [await mp4("base"), await mp4("slow", "-r", "24")];
    const fault = await faultOf(
      joinBytes(
        [
          [base, 9000],
          [slow, 0],
        ],
        "video",
      ),
    );
    expect(fault.message).toBe("Fragment 2 differs from fragment 1 in frame rate: 24 instead of 25");
  });

  test("results beyond the size limit, before and while they are written", async () => {
    const small = mediabunnyMedia({ scratchDir, sizeMax: 100_000 });
    const input = bytesInput(wav(new Int16Array(8000)));
    const fault = await faultOf(small.join([{ input, startMs: 60_000 }], { type: "audio" }));
    expect(fault.code).toBe("too_large");
    await small.close();
  });

  test("results that would last too long", async () => {
    const input = bytesInput(wav(new Int16Array(8000)));
    const fault = await faultOf(media.join([{ input, startMs: 9e12 }], { type: "audio" }));
    expect(fault.message).toMatch(/^Fragment 1 would end after the 24 hours/);
  });

  /** A clip of 50 pictures in half a second whose index says of some of them that they are so long. */
  const swollen = async (
    bytes: number,
    indices: readonly number[],
  ): Promise<MediaInput & { readonly seen: { bytes: number; longest: number } }> => {
    const options = ["-r", "100", ...AVC, "-bf", "0", "-g", "1", "-movflags", "+faststart"];
    const path = await studio.make("swollen.mp4", ...picture(), "-t", "0.5", ...options);
    const head = await readFile(path);
    const lengths = head.indexOf("stsz") + 16;
    let size = head.length;
    for (const index of indices) {
      size += bytes - head.readUInt32BE(lengths + 4 * index);
      head.writeUInt32BE(bytes, lengths + 4 * index);
    }
    // The data box lasts until the end of the file.
    head.writeUInt32BE(0, head.indexOf("mdat") - 4);
    const seen = { bytes: 0, longest: 0 };
    return {
      size,
      seen,
      async read(start, end) {
        seen.bytes += end - start;
        seen.longest = Math.max(seen.longest, end - start);
        const piece = new Uint8Array(end - start);
        piece.set(head.subarray(start, end));
        return piece;
      },
    };
  };

  test("a packet as large as no packet is, before it is read", async () => {
    const input = await swollen(300 * 2 ** 20, [3]);
    const { code, message } = await faultOf(media.join([{ input, startMs: 0 }], { type: "video" }));
    expect(code).toBe("source_failed");
    expect(message).toBe("Fragment 1 cannot be read to its end");
    expect(input.seen.longest).toBeLessThan(300 * 2 ** 20);
  });

  test("more in half a second than memory is there for", async () => {
    const indices = Array.from({ length: 40 }, (_, index) => index + 1);
    const input = await swollen(8 * 2 ** 20, indices);
    const { code, message } = await faultOf(media.join([{ input, startMs: 0 }], { type: "video" }));
    expect(code).toBe("policy_rejected");
    expect(message).toBe("Fragment 1 has more bytes in half a second than can be joined");
    expect(input.seen.bytes).toBeLessThan(300 * 2 ** 20);
  });

  test("calls that make no sense", async () => {
    const input = bytesInput(wav(new Int16Array(80)));
    await expect(media.join([], { type: "audio" })).rejects.toThrow(TypeError);
    for (const startMs of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(media.join([{ input, startMs }], { type: "audio" })).rejects.toThrow(TypeError);
    }
  });
});

describe("a video file", () => {
  test("gives its sound to an audio join", async () => {
    const path = await clip("mp4", 1, 440);
    const result = await joinFile(
      [
        [path, 0],
        [path, 0],
      ],
      "audio",
    );
    const { streams, duration } = await ffprobe(result);
    expect(streams.map(({ type }) => type)).toEqual(["audio"]);
    expect(Math.abs(duration - 2)).toBeLessThan(FRAME);
    expect((await decode(result)).faults).toBe("");
  });

  test("joins with one of another container that holds the same", async () => {
    const mp4 = await clip("mp4", 1, 440);
    const mkv = await studio.make("same.mkv", "-i", mp4, "-c", "copy");
    const result = await joinFile(
      [
        [mp4, 0],
        [mkv, 0],
      ],
      "video",
    );
    expect((await decode(result)).faults).toBe("");
    expect((await frameHashes(result, "v")).length).toBe(50);
  });

  test("keeps all its sound tracks", async () => {
    const path = await studio.make(
      "two.mp4",
      ...picture(),
      ...tone(440),
      ...tone(880),
      "-map",
      "0",
      "-map",
      "1",
      "-map",
      "2",
      "-t",
      "1",
      ...AVC,
      "-c:a",
      "aac",
    );
    const { streams } = await ffprobe(
      await joinFile(
        [
          [path, 0],
          [path, 2000],
        ],
        "video",
      ),
    );
    expect(streams.map(({ type }) => type)).toEqual(["video", "audio", "audio"]);
  });

  test("one alone becomes a file again", async () => {
    const path = await clip("mp4", 1, 440);
    const result = await joinFile([[path, 0]], "video");
    expect(await frameHashes(result, "v")).toEqual(await frameHashes(path, "v"));
  });

  test("many join in one go", async () => {
    const path = await clip("mp4", 1, 440);
    const result = await joinFile(
      Array.from({ length: 60 }, () => [path, 0] as const),
      "video",
    );
    expect((await decode(result)).faults).toBe("");
    expect((await frameHashes(result, "v")).length).toBe(60 * 25);
    expect(Math.abs((await ffprobe(result)).duration - 60)).toBeLessThan(FRAME);
  });
});

describe("a disk without room", () => {
  test("law: bytes are written whole, however few the disk takes at a time", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 50 }),
        fc.nat(1_000),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
        async (bytes, position, portions) => {
          const taken = new Map<number, number>();
          let calls = 0;
          const write = async (from: Uint8Array, offset = 0, length = 0, at: number | null = 0) => {
            const bytesWritten = Math.min(length, portions[calls++ % portions.length]!);
            for (let i = 0; i < bytesWritten; i++) taken.set(at! + i, from[offset + i]!);
            return { bytesWritten, buffer: from };
          };
          await writeWhole({ write } as WritableFile, bytes, position);
          expect([...taken]).toEqual([...bytes].map((byte, i) => [position + i, byte]));
        },
      ),
    );
    const stubborn = { write: async () => ({ bytesWritten: 0 }) } as unknown as WritableFile;
    await expect(writeWhole(stubborn, Uint8Array.of(1), 0)).rejects.toThrow(/takes no bytes/);
  });

  test("is no fault of the fragments", async () => {
    const bytes = await readFile(await clip("mp4", 2, 440));
    const read = async (start: number, end: number) => Uint8Array.from(bytes.subarray(start, end));
    const clips = [0, 0].map((startMs) => ({ size: bytes.length, startMs }));
    const job = { kind: "join", clips, type: "video", path: "/dev/full", sizeMax: 1 << 30 } as const;
    const open = (_clip: number, budgeted: boolean) => openInput(bytes.length, read, budgeted);
    await expect(joinTo(job, { open, alive: () => {} })).rejects.toMatchObject({
      refusal: { code: "no_space", message: "There is no space left on the scratch disk" },
    });
  });
});

describe("ending", () => {
  const second = (): MediaInput => bytesInput(wav(new Int16Array(8000)));

  test("a body that nobody reads leaves no file behind when it is given up", async () => {
    const { body } = await media.join([{ input: second(), startMs: 0 }], { type: "audio" });
    expect((await readdir(scratchDir)).length).toBe(1);
    await body[Symbol.asyncIterator]().return?.();
    expect(await readdir(scratchDir)).toEqual([]);
  });

  test("a body left early leaves no file behind", async () => {
    const { body } = await media.join([{ input: second(), startMs: 0 }], { type: "audio" });
    for await (const chunk of body) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(await readdir(scratchDir)).toEqual([]);
  });

  test("the driver's end leaves no file behind, and refuses what comes later", async () => {
    const own = mediabunnyMedia({ scratchDir });
    await own.join([{ input: second(), startMs: 0 }], { type: "audio" });
    const stuck = own.join([{ input: { size: 100, read: () => new Promise(() => undefined) }, startMs: 0 }], {
      type: "audio",
    });
    const fault = stuck.catch((error: Error) => error.message);
    await own.close();
    expect(await fault).toMatch(/closed/);
    await expect(own.probe(second())).rejects.toThrow(/closed/);
    expect(await readdir(scratchDir)).toEqual([]);
  });

  test("the signal ends a join with its reason", async () => {
    const reason = new Error("enough");
    const ended = AbortSignal.abort(reason);
    await expect(
      media.join([{ input: second(), startMs: 0 }], { type: "audio", signal: ended }),
    ).rejects.toBe(reason);
    const later = new AbortController();
    const input = { size: 100_000, read: () => new Promise<never>(() => later.abort(reason)) };
    await expect(media.join([{ input, startMs: 0 }], { type: "audio", signal: later.signal })).rejects.toBe(
      reason,
    );
  });

  test("an input that fails ends a join with its error", async () => {
    const error = new Error("store is down");
    const input = { size: 100_000, read: () => Promise.reject(error) };
    await expect(media.join([{ input, startMs: 0 }], { type: "audio" })).rejects.toBe(error);
    const bytes = await readFile(await clip("mp4", 2, 440));
    let reads = 0;
    const later: MediaInput = {
      size: bytes.length,
      read: async (start, end) => {
        reads += 1;
        if (reads > 2) throw error;
        return Uint8Array.from(bytes.subarray(start, end));
      },
    };
    await expect(
      media.join(
        [
          { input: later, startMs: 0 },
          { input: later, startMs: 0 },
        ],
        { type: "video" },
      ),
    ).rejects.toBe(error);
  });

  test("the thread may be started from source text, as a single executable does", async () => {
    const file = new URL("../../packages/adapters/src/media/mediabunny-worker.ts", import.meta.url);
    const own = mediabunnyMedia({
      scratchDir,
      startWorker: (options) =>
        new Worker(`import(${JSON.stringify(file.href)})`, { ...options, eval: true }),
    });
    expect(await own.probe(second())).toMatchObject({ contentType: "audio/wav", durationMs: 1000 });
    await own.close();
  });
});
