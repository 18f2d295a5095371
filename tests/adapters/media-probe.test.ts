/**
 * Looking into media: facts about every format, how little is read for them, and what hostile bytes do (nothing).
 */

import { contentTypeOf, mediabunnyMedia } from "@docyard/adapters/media/mediabunny";
import type { AudioSettings } from "../../packages/adapters/src/media/silence.ts";
import { opusSeconds, silenceFor } from "../../packages/adapters/src/media/silence.ts";
import type { Media, MediaFacts, MediaInput, SourceBody } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Studio } from "../media/ffmpeg.ts";
import { openStudio, picture, tone } from "../media/ffmpeg.ts";
import { bytesInput, fileBytes } from "../media/inputs.ts";

let studio: Studio;
let scratchDir: string;
let media: Media;

beforeAll(async () => {
  studio = await openStudio();
  scratchDir = await mkdtemp(join(tmpdir(), "docyard-scratch-"));
  media = mediabunnyMedia({ scratchDir, hangMs: 5_000 });
});

afterAll(async () => {
  await media.close();
  await studio.remove();
  await rm(scratchDir, { recursive: true });
});

const AVC = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"];
const video = [...picture("160x120", 25), ...tone(440, 44_100)];
const audio = tone(440, 44_100);

interface Sample {
  readonly name: string;
  readonly args: readonly string[];
  readonly facts: Omit<MediaFacts, "durationMs">;
}

const picture1 = { type: "video", width: 160, height: 120, frameRate: 25 } as const;
const sound1 = { type: "audio", sampleRate: 44_100, channels: 1 } as const;
const both = { mediaTypes: ["video", "audio"] } as const;
const heard = { mediaTypes: ["audio"] } as const;
const avc = expect.stringMatching(/^avc1\.[0-9a-f]{6}$/) as string;

const samples: Sample[] = [
  {
    name: "a.mp4",
    args: [...video, ...AVC, "-c:a", "aac"],
    facts: {
      contentType: "video/mp4",
      ...both,
      tracks: [
        { ...picture1, codec: avc },
        { ...sound1, codec: "mp4a.40.2" },
      ],
    },
  },
  {
    name: "first.mp4",
    args: [...video, ...AVC, "-c:a", "aac", "-movflags", "+faststart"],
    facts: {
      contentType: "video/mp4",
      ...both,
      tracks: [
        { ...picture1, codec: avc },
        { ...sound1, codec: "mp4a.40.2" },
      ],
    },
  },
  {
    name: "fragments.mp4",
    args: [...video, ...AVC, "-bf", "0", "-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov"],
    facts: {
      contentType: "video/mp4",
      ...both,
      tracks: [
        { ...picture1, codec: avc },
        { ...sound1, codec: "mp4a.40.2" },
      ],
    },
  },
  {
    name: "anamorphic.mp4",
    args: [...picture("160x120"), ...AVC, "-vf", "setsar=2/1"],
    facts: {
      contentType: "video/mp4",
      mediaTypes: ["video"],
      tracks: [{ ...picture1, width: 320, codec: avc }],
    },
  },
  {
    name: "ntsc.mov",
    args: [...picture("160x120", "30000/1001"), ...AVC],
    facts: {
      contentType: "video/quicktime",
      mediaTypes: ["video"],
      tracks: [{ ...picture1, frameRate: 29.97, codec: avc }],
    },
  },
  {
    name: "a.mkv",
    args: [...video, ...AVC, "-c:a", "libmp3lame"],
    facts: {
      contentType: "video/x-matroska",
      ...both,
      tracks: [
        { ...picture1, codec: avc },
        { ...sound1, codec: "mp3" },
      ],
    },
  },
  {
    name: "ntsc.webm",
    args: [...picture("160x120", "30000/1001"), "-c:v", "libvpx", "-deadline", "realtime"],
    facts: {
      contentType: "video/webm",
      mediaTypes: ["video"],
      tracks: [{ ...picture1, frameRate: expect.closeTo(29.97, 1) as number, codec: "vp8" }],
    },
  },
  {
    name: "live.webm",
    args: [...video, "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis", "-live", "1"],
    facts: {
      contentType: "video/webm",
      ...both,
      tracks: [
        { ...picture1, codec: "vp8" },
        { ...sound1, codec: "vorbis" },
      ],
    },
  },
  {
    name: "sound.webm",
    args: [...audio, "-c:a", "libopus"],
    facts: {
      contentType: "audio/webm",
      ...heard,
      tracks: [{ ...sound1, sampleRate: 48_000, codec: "opus" }],
    },
  },
  {
    name: "a.ts",
    args: [...video, ...AVC, "-c:a", "aac"],
    facts: {
      contentType: "video/mp2t",
      ...both,
      tracks: [
        { ...picture1, codec: avc },
        { ...sound1, codec: "mp4a.40.2" },
      ],
    },
  },
  {
    name: "a.m4a",
    args: [...audio, "-c:a", "aac"],
    facts: { contentType: "audio/mp4", ...heard, tracks: [{ ...sound1, codec: "mp4a.40.2" }] },
  },
  {
    name: "a.mp3",
    args: [...audio, "-c:a", "libmp3lame"],
    facts: { contentType: "audio/mpeg", ...heard, tracks: [{ ...sound1, codec: "mp3" }] },
  },
  {
    name: "bare.mp3",
    args: [...audio, "-c:a", "libmp3lame", "-write_xing", "0", "-id3v2_version", "0"],
    facts: { contentType: "audio/mpeg", ...heard, tracks: [{ ...sound1, codec: "mp3" }] },
  },
  {
    name: "a.wav",
    args: [...audio, "-c:a", "pcm_s24le"],
    facts: { contentType: "audio/wav", ...heard, tracks: [{ ...sound1, codec: "pcm-s24" }] },
  },
  {
    name: "a.aac",
    args: [...audio, "-c:a", "aac"],
    facts: { contentType: "audio/aac", ...heard, tracks: [{ ...sound1, codec: "mp4a.40.2" }] },
  },
  {
    name: "opus.ogg",
    args: [...audio, "-c:a", "libopus"],
    facts: { contentType: "audio/ogg", ...heard, tracks: [{ ...sound1, sampleRate: 48_000, codec: "opus" }] },
  },
  {
    name: "vorbis.ogg",
    args: [...audio, "-c:a", "libvorbis"],
    facts: { contentType: "audio/ogg", ...heard, tracks: [{ ...sound1, codec: "vorbis" }] },
  },
  {
    name: "a.flac",
    args: [...audio, "-c:a", "flac"],
    facts: { contentType: "audio/flac", ...heard, tracks: [{ ...sound1, codec: "flac" }] },
  },
];

const make = ({ name, args }: Sample): Promise<string> => studio.make(name, ...args, "-t", "2");

describe.each(samples)("$name", (sample) => {
  test("tells container, tracks and duration", async () => {
    const input = await fileBytes(await make(sample));
    const facts = await media.probe(input);
    expect(facts).toEqual({ ...sample.facts, durationMs: expect.any(Number) as number });
    // A clip of two seconds, and what codecs add at its ends.
    expect(facts!.durationMs).toBeGreaterThanOrEqual(1_990);
    expect(facts!.durationMs).toBeLessThan(2_090);
    expect(await media.contentType(input, "name-that-tells-nothing")).toBe(
      // The envelope looks alike with and without a picture.
      sample.name === "sound.webm" ? "video/webm" : sample.facts.contentType,
    );
  });

  test("law: changed and cut bytes give facts or nothing, soon", async () => {
    const bytes = await readFile(await make(sample));
    const head = Math.min(bytes.length, 4096);
    const place = fc.oneof(
      fc.nat(head - 1),
      fc.nat(bytes.length - 1),
      fc.nat(head - 1).map((at) => bytes.length - 1 - at),
    );
    const change = fc.record({ at: place, bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }) });
    const mutation = fc.record({
      changes: fc.array(change, { maxLength: 12 }),
      cut: fc.option(fc.nat(bytes.length), { freq: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(mutation, async ({ changes, cut }) => {
        const mutant = Buffer.from(bytes.subarray(0, cut ?? bytes.length));
        for (const { at, bytes } of changes)
          mutant.set(bytes.subarray(0, Math.max(0, mutant.length - at)), Math.min(at, mutant.length));
        const facts = await media.probe(bytesInput(mutant));
        expect(facts === null || (facts.durationMs >= 0 && facts.tracks.length > 0)).toBe(true);
      }),
      { numRuns: 40 },
    );
  }, 120_000);
});

test("law: a join of a good clip and a broken one ends in a file or in an error that says so", async () => {
  const good = await readFile(await make(samples[0]!));
  const change = fc.record({
    at: fc.nat(good.length - 1),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 12 }), async (changes) => {
      const mutant = Buffer.from(good);
      for (const { at, bytes } of changes) mutant.set(bytes.subarray(0, good.length - at), at);
      const clips = [good, mutant].map((bytes) => ({ input: bytesInput(bytes), startMs: 0 }));
      const outcome = await media.join(clips, { type: "video" }).catch((error: unknown) => error);
      const isJoined = !(outcome instanceof Error);
      if (isJoined) await (outcome as SourceBody).body[Symbol.asyncIterator]().return?.();
      const code = outcome instanceof DocyardError ? outcome.code : "joined";
      expect(["joined", "policy_rejected", "source_failed"]).toContain(isJoined ? "joined" : code);
      expect(isJoined || outcome instanceof DocyardError).toBe(true);
      expect(await readdir(scratchDir)).toEqual([]);
    }),
    { numRuns: 40 },
  );
}, 120_000);

test("a picture in a codec that is not known is a picture still, and counts in the duration", async () => {
  const args = [
    "-filter_complex",
    "[0:v]trim=duration=3[v];[1:a]atrim=duration=1[a]",
    "-map",
    "[v]",
    "-map",
    "[a]",
  ];
  const path = await studio.make("old.mp4", ...picture(), ...tone(), ...args, "-c:v", "mpeg4", "-c:a", "aac");
  expect(await media.probe(await fileBytes(path))).toMatchObject({
    mediaTypes: ["video", "audio"],
    durationMs: 3_000,
  });
});

describe("what is no media", () => {
  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array()],
    ["a byte", new Uint8Array(1)],
    ["zeros", new Uint8Array(100_000)],
    ["text", Buffer.from("00:00:01,000 --> 00:00:02,000\nhello\n".repeat(1000))],
    [
      "a playlist that names another file",
      Buffer.from("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
    ],
    ["a picture", Buffer.from("89504e470d0a1a0a0000000d49484452", "hex")],
    [
      "a box that claims more than there is",
      Buffer.from("00000018667479706d703432000000006d7034326d7034317fffffff6d6f6f76", "hex"),
    ],
    [
      "a box that claims nothing",
      Buffer.from("00000018667479706d703432000000006d7034326d703431000000006d6f6f76", "hex"),
    ],
    ["an AVI", Buffer.from("RIFF\u0000\u0000\u0000\u0000AVI LIST")],
  ])("%s", async (_, bytes) => {
    expect(await media.probe(bytesInput(bytes))).toBeNull();
  });

  test("an mp4 with its index in front and its end cut off", async () => {
    const bytes = await readFile(await make(samples[1]!));
    expect(await media.probe(bytesInput(bytes.subarray(0, bytes.length - 2_000)))).toBeNull();
    expect(await media.probe(bytesInput(bytes.subarray(0, bytes.length / 2)))).toBeNull();
  });
});

describe("how much is read", () => {
  /** The same mp4 with a gibibyte of nothing before its media data: box offsets moved, nothing stored. */
  async function huge(
    name: string,
  ): Promise<MediaInput & { readonly seen: { bytes: number; reads: number } }> {
    const bytes = Buffer.from(await readFile(await make(samples.find((sample) => sample.name === name)!)));
    const gap = 2 ** 30;
    const mdat = bytes.indexOf("mdat") - 4;
    for (let at = bytes.indexOf("stco"); at >= 0; at = bytes.indexOf("stco", at + 4)) {
      const count = bytes.readUInt32BE(at + 8);
      for (let entry = 0; entry < count; entry += 1) {
        const place = at + 12 + entry * 4;
        bytes.writeUInt32BE(bytes.readUInt32BE(place) + gap, place);
      }
    }
    const free = Buffer.alloc(8);
    free.writeUInt32BE(gap, 0);
    free.write("free", 4);
    const whole = (at: number): number =>
      at < mdat ? bytes[at]! : at < mdat + gap ? (free[at - mdat] ?? 0) : bytes[at - gap]!;
    const seen = { bytes: 0, reads: 0 };
    const read = async (start: number, end: number): Promise<Uint8Array> => {
      seen.bytes += end - start;
      seen.reads += 1;
      return Uint8Array.from({ length: end - start }, (_, index) => whole(start + index));
    };
    return { size: bytes.length + gap, seen, read };
  }

  test.each(["a.mp4", "first.mp4"])("of a gibibyte of %s: less than 2 MiB", async (name) => {
    const input = await huge(name);
    expect(await media.probe(input)).toMatchObject({ contentType: "video/mp4", durationMs: 2_000 });
    expect(input.seen.bytes).toBeLessThan(2 * 2 ** 20);
    expect(input.seen.reads).toBeLessThan(12);
  });

  test("of a long MP3 without a length: not all of it, and the duration is close", async () => {
    const bytes = await readFile(await make(samples.find(({ name }) => name === "bare.mp3")!));
    // One silent frame over and over: 418 bytes at 128 kbit/s, or whatever the encoder chose.
    const sample = { sampleRate: 44_100, channels: 1, hasDescription: false, sample: bytes.subarray(0, 4) };
    const { data: frame } = silenceFor({ codec: "mp3", parameter: "mp3", ...sample })!;
    const frames = Math.ceil(2 ** 29 / frame.length);
    const size = frame.length * frames;
    let read = 0;
    const input: MediaInput = {
      size,
      read: async (start, end) => {
        read += end - start;
        const first = start % frame.length;
        const copies = Math.ceil((first + end - start) / frame.length);
        return new Uint8Array(
          Buffer.concat(Array.from({ length: copies }, () => frame)).subarray(first, first + end - start),
        );
      },
    };
    const facts = await media.probe(input);
    const expected = (frames * 1152 * 1000) / 44_100;
    expect(Math.abs(facts!.durationMs - expected) / expected).toBeLessThan(0.01);
    expect(read).toBeLessThan(size * 0.8);
  }, 120_000);
});

describe("failures that are not the file's", () => {
  test("an input that cannot be read rejects with its own error", async () => {
    const error = new Error("store is down");
    await expect(media.probe({ size: 1000, read: () => Promise.reject(error) })).rejects.toBe(error);
  });

  test("an input that gives less than it has is an error", async () => {
    await expect(media.probe({ size: 1000, read: async () => new Uint8Array(1) })).rejects.toThrow(
      /gave 1 of/,
    );
  });

  test("a slow input is no hanging thread", async () => {
    const patient = mediabunnyMedia({ scratchDir, hangMs: 1_500 });
    const fast = await fileBytes(await make(samples[0]!));
    const slow: MediaInput = {
      size: fast.size,
      read: async (start, end) => {
        await new Promise((resolve) => setTimeout(resolve, 3_000));
        return fast.read(start, end);
      },
    };
    expect(await patient.probe(slow)).not.toBeNull();
    await patient.close();
  });

  test("a hanging thread is given up, and another takes its place", async () => {
    let threads = 0;
    const own = mediabunnyMedia({
      scratchDir,
      hangMs: 200,
      startWorker: (options) => {
        threads += 1;
        const source =
          threads === 1
            ? `const { parentPort } = require("node:worker_threads");
               parentPort.postMessage({ kind: "alive" }); parentPort.on("message", () => { for (;;); });`
            : `throw new Error("no good");`;
        return new Worker(source, { ...options, eval: true });
      },
    });
    const input = await fileBytes(await make(samples[0]!));
    expect(await own.probe(input)).toBeNull();
    expect(await own.probe(input)).toBeNull();
    const joined = own.join([{ input, startMs: 0 }], { type: "video" });
    await expect(joined).rejects.toMatchObject({ code: "policy_rejected" });
    expect(threads).toBe(3);
    expect(await readdir(scratchDir)).toEqual([]);
    await own.close();
  });

  test("many probes at once wait for their turn", async () => {
    const input = await fileBytes(await make(samples[0]!));
    const all = await Promise.all(Array.from({ length: 20 }, () => media.probe(input)));
    expect(new Set(all.map((facts) => facts?.durationMs)).size).toBe(1);
  });

  test("a probe that is called off rejects with the reason, waiting or working", async () => {
    const reason = new Error("enough");
    const own = mediabunnyMedia({ scratchDir, concurrency: 1 });
    const stuck: MediaInput = { size: 1000, read: () => new Promise(() => undefined) };
    const [first, second] = [new AbortController(), new AbortController()];
    const working = own.probe(stuck, { signal: first.signal });
    const waiting = own.probe(stuck, { signal: second.signal });
    second.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    first.abort(reason);
    await expect(working).rejects.toBe(reason);
    expect(await own.probe(await fileBytes(await make(samples[0]!)))).not.toBeNull();
    await own.close();
    await own.close();
  });
});

describe("silence", () => {
  const settings = (codec: string, more: Partial<AudioSettings> = {}): AudioSettings => ({
    codec,
    parameter: codec,
    sampleRate: 48_000,
    channels: 2,
    hasDescription: false,
    sample: new Uint8Array(),
    ...more,
  });

  test.each<[string, number, number]>([
    ["pcm-s16", 4, 0],
    ["pcm-s16be", 4, 0],
    ["pcm-u8", 2, 0x80],
    ["pcm-s8", 2, 0],
    ["pcm-s24", 6, 0],
    ["pcm-f32", 8, 0],
    ["pcm-f64be", 16, 0],
    ["ulaw", 2, 0xff],
    ["alaw", 2, 0xd5],
  ])("of %s is %i bytes of %i for each sample", (codec, size, level) => {
    const silence = silenceFor(settings(codec))!;
    expect(silence.sampleSize).toBe(size);
    expect(silence.data.length).toBe(size * silence.samples);
    expect(new Set(silence.data)).toEqual(new Set([level]));
  });

  test.each<[string, Partial<AudioSettings>]>([
    ["vorbis", {}],
    ["flac", {}],
    ["ac3", {}],
    ["aac", { parameter: "mp4a.40.5", hasDescription: true }],
    ["aac", { parameter: "mp4a.40.2", hasDescription: true, channels: 6 }],
    ["aac", { parameter: "mp4a.40.2", sample: Uint8Array.of(1, 2, 3, 4) }],
    ["opus", { channels: 6 }],
    ["mp3", { sample: Uint8Array.of(1, 2, 3, 4) }],
    ["mp3", { sample: Uint8Array.of(0xff, 0xfb, 0x00, 0x00) }],
  ])("of %s with %j cannot be made", (codec, more) => {
    expect(silenceFor(settings(codec, more))).toBeNull();
  });

  test("opus packets tell how long they are", () => {
    // RFC 6716: 20 ms CELT; two of them; 60 ms SILK; an arbitrary count of 2.5 ms.
    expect(opusSeconds(Uint8Array.of(0xf8, 0xff, 0xfe))).toBe(0.02);
    expect(opusSeconds(Uint8Array.of(0xf9))).toBe(0.04);
    expect(opusSeconds(Uint8Array.of(0x18))).toBe(0.06);
    expect(opusSeconds(Uint8Array.of(0x83, 0x04))).toBe(0.01);
  });
});

test("the type of an input comes from its beginning, however large it is", async () => {
  let most = 0;
  const input: MediaInput = {
    size: 2 ** 40,
    read: async (start, end) => {
      most = Math.max(most, end);
      return new Uint8Array(end - start);
    },
  };
  expect(await contentTypeOf(input, "movie.mp4")).toBe("video/mp4");
  expect(most).toBeLessThanOrEqual(64 * 1024);
});
