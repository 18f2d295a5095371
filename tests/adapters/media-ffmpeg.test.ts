/**
 * The ffmpeg driver: what it adds to the other one, and that a hostile file reaches nothing through it.
 */

import type { FfmpegMediaOptions } from "@docyard/adapters/media/ffmpeg";
import { ffmpegMedia } from "@docyard/adapters/media/ffmpeg";
import { mediabunnyMedia } from "@docyard/adapters/media/mediabunny";
import type { Media } from "@docyard/core";
import { DocyardError } from "@docyard/core";
import { copyFile, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Studio } from "../media/ffmpeg.ts";
import {
  decode,
  ffmpegPath,
  ffprobe,
  ffprobePath,
  frameHashes,
  openStudio,
  picture,
  tone,
} from "../media/ffmpeg.ts";
import { bytesInput, fileBytes } from "../media/inputs.ts";

let studio: Studio;
let scratchDir: string;
let media: Media;

const open = (options: Partial<Omit<FfmpegMediaOptions, "fallbackFor">> = {}): Media =>
  ffmpegMedia({
    ffmpeg: ffmpegPath,
    ffprobe: ffprobePath,
    scratchDir,
    fallbackFor: mediabunnyMedia({ scratchDir }),
    ...options,
  });

beforeAll(async () => {
  studio = await openStudio();
  scratchDir = await mkdtemp(joinPath(tmpdir(), "docyard-scratch-"));
  media = open();
});

afterEach(async () => {
  const left = await readdir(scratchDir);
  if (left.length > 0) throw new Error(`${left.join(", ")} left behind`);
});

afterAll(async () => {
  await media.close();
  await studio.remove();
  await rm(scratchDir, { recursive: true });
});

const AVC = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"];
const avi = (seconds: number): Promise<string> =>
  studio.make(
    `${seconds}.avi`,
    ...picture(),
    ...tone(),
    "-t",
    String(seconds),
    "-c:v",
    "mpeg4",
    "-c:a",
    "libmp3lame",
  );
const flac = (seconds: number, ...more: string[]): Promise<string> =>
  studio.make(`${seconds}${more.join("")}.flac`, ...tone(), "-t", String(seconds), ...more);
const stream = (seconds: number): Promise<string> =>
  studio.make(`${seconds}.ts`, ...picture(), ...tone(), "-t", String(seconds), ...AVC, "-c:a", "aac");

let results = 0;
async function joinFile(
  clips: readonly (readonly [string, number])[],
  type: "video" | "audio",
): Promise<string> {
  const inputs = await Promise.all(
    clips.map(async ([path, startMs]) => ({ input: await fileBytes(path), startMs })),
  );
  const { body, size } = await media.join(inputs, { type });
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  expect(Buffer.concat(chunks).length).toBe(size);
  results += 1;
  const path = joinPath(studio.folder, `result-${results}`);
  await writeFile(path, Buffer.concat(chunks));
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

describe("probing", () => {
  test("reads what the first driver cannot", async () => {
    const facts = await media.probe(await fileBytes(await avi(2)));
    expect(facts).toEqual({
      contentType: "video/x-msvideo",
      mediaTypes: ["video", "audio"],
      durationMs: expect.closeTo(2_000, -2) as number,
      tracks: [
        { type: "video", codec: "mpeg4", width: 160, height: 120, frameRate: 25 },
        { type: "audio", codec: "mp3", sampleRate: 48_000, channels: 1 },
      ],
    });
  });

  test("leaves to the first driver what that can read", async () => {
    const facts = await media.probe(await fileBytes(await stream(1)));
    expect(facts?.tracks[0]?.codec).toMatch(/^avc1\./);
  });

  test.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array()],
    ["text", Buffer.from("hello\n".repeat(1000))],
    ["zeros", new Uint8Array(100_000)],
  ])("finds no media in %s", async (_, bytes) => {
    expect(await media.probe(bytesInput(bytes))).toBeNull();
  });

  test("reaches no other file and no network through a playlist", async () => {
    let visits = 0;
    const server = createServer((_, response) => {
      visits += 1;
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const web = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a.ts`;
    const local = await stream(1);
    const neighbour = joinPath(scratchDir, "neighbour.ts");
    await copyFile(local, neighbour);
    for (const text of [
      `#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n${web}\n#EXT-X-ENDLIST\n`,
      `#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://${local}\n#EXT-X-ENDLIST\n`,
      `ffconcat version 1.0\nfile '${local}'\n`,
      `ffconcat version 1.0\nfile '${web}'\n`,
      "ffconcat version 1.0\nfile neighbour.ts\nduration 1\n",
      `<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>${web}</BaseURL></Period></MPD>`,
    ]) {
      expect(await media.probe(bytesInput(Buffer.from(text)))).toBeNull();
    }
    expect(visits).toBe(0);
    await rm(neighbour);
    await new Promise((resolve) => server.close(resolve));
  });

  test("gives up on a program that takes too long", async () => {
    const slow = open({ probeMs: 1 });
    expect(await slow.probe(await fileBytes(await avi(2)))).toBeNull();
    await slow.close();
  });

  test("says so when the program is missing", async () => {
    const missing = open({ ffprobe: "/nonexistent/ffprobe" });
    await expect(missing.probe(await fileBytes(await avi(2)))).rejects.toThrow(/ENOENT/);
    await missing.close();
  });

  test("rejects with the reason when it is called off, and with the input's error", async () => {
    const reason = new Error("enough");
    const error = new Error("store is down");
    await expect(
      media.probe(await fileBytes(await avi(2)), { signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason);
    await expect(media.probe({ size: 100, read: () => Promise.reject(error) })).rejects.toBe(error);
  });
});

describe("joining", () => {
  test("FLAC clips lose not a sample, and pauses are silent", async () => {
    const result = await joinFile(
      [
        [await flac(1), 3000],
        [await flac(2), 500],
      ],
      "audio",
    );
    const { faults, silences } = await decode(result);
    expect(faults).toBe("");
    expect(silences.map((pair) => pair.map((time) => Math.round(time * 10) / 10))).toEqual([
      [0, 0.5],
      [2.5, 3],
    ]);
    expect((await ffprobe(result)).duration).toBeCloseTo(4, 2);
  });

  test("FLAC with 24 bits stays so", async () => {
    const clip = await flac(1, "-sample_fmt", "s32", "-ac", "2");
    const result = await joinFile(
      [
        [clip, 0],
        [clip, 2000],
      ],
      "audio",
    );
    expect((await decode(result)).faults).toBe("");
    expect((await ffprobe(result)).duration).toBeCloseTo(3, 2);
  });

  test("transport streams join without a frame changed, and pauses stay", async () => {
    const [one, two] = [await stream(1), await stream(2)];
    const parts = await Promise.all([one, two].map((path) => frameHashes(path, "v")));
    const result = await joinFile(
      [
        [one, 0],
        [two, 0],
      ],
      "video",
    );
    expect((await decode(result)).faults).toBe("");
    expect(await frameHashes(result, "v")).toEqual(parts.flat());
    const apart = await joinFile(
      [
        [one, 0],
        [two, 4000],
      ],
      "video",
    );
    expect(Math.abs((await ffprobe(apart)).duration - 6)).toBeLessThan(0.1);
    expect(await frameHashes(apart, "v")).toEqual(parts.flat());
  });

  test("AVIs join", async () => {
    const result = await joinFile(
      [
        [await avi(1), 0],
        [await avi(2), 0],
      ],
      "video",
    );
    expect((await decode(result)).faults).toBe("");
    expect((await frameHashes(result, "v")).length).toBe(75);
  });

  test("what the first driver joins stays its own", async () => {
    const path = await studio.make("a.mp4", ...picture(), "-t", "1", ...AVC);
    const inputs = [{ input: await fileBytes(path), startMs: 0 }];
    const { contentType, body } = await media.join(inputs, { type: "video" });
    await body[Symbol.asyncIterator]().return?.();
    expect(contentType).toBe("video/mp4");
  });

  const cases: [string, "video" | "audio", () => Promise<string[]>, string, RegExp][] = [
    [
      "another sample rate",
      "audio",
      async () => [await flac(1), await flac(1, "-ar", "44100")],
      "policy_rejected",
      /^Fragment 2 .* audio sample rate: 44100 Hz instead of 48000 Hz$/,
    ],
    [
      "another sample format",
      "audio",
      async () => [await flac(1), await flac(1, "-sample_fmt", "s32")],
      "policy_rejected",
      /^Fragment 2 .* audio sample format/,
    ],
    [
      "another container",
      "video",
      async () => [await avi(1), await stream(1)],
      "policy_rejected",
      /^Fragment 2 .* container: mpegts instead of avi$/,
    ],
    [
      "another resolution",
      "video",
      async () => [
        await avi(1),
        await studio.make(
          "s.avi",
          ...picture("80x60"),
          ...tone(),
          "-t",
          "1",
          "-c:v",
          "mpeg4",
          "-c:a",
          "libmp3lame",
        ),
      ],
      "policy_rejected",
      /^Fragment 2 .* video resolution: 80×60 instead of 160×120$/,
    ],
    [
      "a missing track",
      "video",
      async () => [await avi(1), await studio.make("m.avi", ...picture(), "-t", "1", "-c:v", "mpeg4")],
      "policy_rejected",
      /^Fragment 2 .* its number of tracks$/,
    ],
    [
      "sound where a picture is due",
      "video",
      async () => [await flac(1)],
      "source_failed",
      /^Fragment 1 has no video stream$/,
    ],
    [
      "the first driver's refusals",
      "video",
      async () => [await studio.make("a.mp4", ...picture(), "-t", "1", ...AVC), await avi(1)],
      "source_failed",
      /^Fragment 2 is not media/,
    ],
  ];

  test.each(cases)("is refused for %s", async (_, type, paths, code, message) => {
    const fault = await faultOf(
      joinFile(
        (await paths()).map((path) => [path, 0] as const),
        type,
      ),
    );
    expect({ code: fault.code, message: fault.message }).toEqual({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  test("a pause in AVI is refused, as is a place too far away", async () => {
    const clip = await avi(1);
    expect(
      (
        await faultOf(
          joinFile(
            [
              [clip, 0],
              [clip, 5000],
            ],
            "video",
          ),
        )
      ).message,
    ).toMatch(/^Fragment 2 .*AVI cannot hold/);
    const sound = await flac(1);
    expect(
      (
        await faultOf(
          joinFile(
            [
              [sound, 0],
              [sound, 9e12],
            ],
            "audio",
          ),
        )
      ).message,
    ).toMatch(/^Fragment 2 .*24 hours/);
  });

  test("a result over the limit is refused", async () => {
    const small = open({ sizeMax: 20_000 });
    const clip = await fileBytes(await stream(1));
    expect((await faultOf(small.join([{ input: clip, startMs: 0 }], { type: "video" }))).code).toBe(
      "too_large",
    );
    await small.close();
  });

  test.each([
    ["gives up", "exit 1", { code: "policy_rejected" }],
    ["takes too long", "while :; do :; done", { code: "policy_rejected" }],
    ["has no room", "echo 'out: No space left on device' >&2; exit 1", { code: "no_space" }],
    ["is killed by somebody else", "kill -9 $$", { signal: "SIGKILL" }],
  ])("a program that %s: whose fault that is", async (_, script, fault) => {
    const ffmpeg = joinPath(studio.folder, "not-ffmpeg");
    await writeFile(ffmpeg, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const own = open({ ffmpeg, joinMs: script.includes("while") ? 100 : 60_000 });
    const clip = await fileBytes(await stream(1));
    try {
      await expect(own.join([{ input: clip, startMs: 0 }], { type: "video" })).rejects.toMatchObject(fault);
    } finally {
      await own.close();
    }
  });

  test("ends with the driver", async () => {
    const own = open();
    const clip = await fileBytes(await flac(2));
    const joining = own.join(
      [
        { input: clip, startMs: 0 },
        { input: clip, startMs: 60_000 },
      ],
      { type: "audio" },
    );
    const outcome = joining.then(
      () => "joined",
      (error: Error) => error.message,
    );
    await own.close();
    expect(await outcome).toMatch(/closed/);
    await expect(own.probe(clip)).rejects.toThrow(/closed/);
  });
});
