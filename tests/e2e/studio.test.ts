/**
 * The Studio face of a real server on real media: its contract's cases, and each source watched from the request to the
 * last byte, with all that can go wrong with it. The clients poll, as Studio's clients do.
 */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { studioCases } from "../http/studio-cases.ts";
import type { StudioArtifact, StudioClient } from "../http/studio-target.ts";
import { decode, ffprobe } from "../media/ffmpeg.ts";
import { build } from "./program.ts";
import { type Kit, openKit, until } from "./studio-kit.ts";
import { heldBody } from "./studio-origin.ts";

/** Many sources of the contract's cases are hosts that never answer: they hold a worker each. */
const CASES_CONCURRENCY = 32;
/** Retries come at once, so that giving up takes no minute. */
const IMPATIENT = { backoffMs: 20, backoffMaxMs: 50, attemptsMax: 3 };

beforeAll(build);

studioCases("a real server", async () => {
  const kit = await openKit({ concurrency: CASES_CONCURRENCY });
  return { ...kit.target, close: () => kit.close() };
});

describe("one source after the other", () => {
  let kit: Kit;
  let client: StudioClient;

  beforeAll(async () => {
    // One at a time, so that a test can keep the worker busy and see what waits.
    kit = await openKit({ concurrency: 1, ingest: IMPATIENT });
    client = await kit.client();
  });
  afterAll(() => kit.close());

  const create = async (body: object): Promise<StudioArtifact> => {
    const { status, body: artifact } = await client.create(body);
    expect(status).toBe(201);
    return artifact;
  };
  const seen = async (id: string, status: string): Promise<StudioArtifact> =>
    until(`${id} is ${status}`, async () => {
      const { body } = await client.get(id);
      return body.status === status ? body : null;
    });
  const downloaded = async ({ downloadUrl }: StudioArtifact): Promise<Response> => {
    const response = await kit.target.fetch(downloadUrl!);
    expect(response.status).toBe(200);
    return response;
  };

  test("created, upload_started, upload_completed: each is seen, with what is known by then", async () => {
    const film = await kit.media.make("video");
    const busy = heldBody(film.bytes);
    const held = heldBody((await kit.media.make("video")).bytes);
    const before = await create({ name: "b", type: "video", url: kit.origin.stream("b.mp4", busy.body) });
    await busy.isHeld;
    const url = kit.origin.stream("film.mp4", held.body);
    const artifact = await create({ name: "Film", type: "video", url });
    expect(artifact).toMatchObject({ status: "created", size: null, duration: null });

    expect(await seen(artifact.id, "created")).not.toHaveProperty("downloadUrl");
    busy.release();
    await seen(before.id, "upload_completed");
    await held.isHeld;
    const started = await seen(artifact.id, "upload_started");
    expect(started).toMatchObject({ size: null, duration: null, errorMessage: null });
    expect(started).not.toHaveProperty("downloadUrl");
    held.release();
    const done = await seen(artifact.id, "upload_completed");
    expect(done.size).toBe(film.bytes.length);
    expect(done.duration).toBeCloseTo(film.seconds!, 1);
    expect(Date.parse(done.updatedAt)).toBeGreaterThan(Date.parse(artifact.updatedAt));

    const words = (await kit.events(client)).get(artifact.id)!.map(({ type }) => type);
    expect(words).toEqual(["artifact.created", "artifact.started", "artifact.completed"]);
  });

  test("a URL comes back byte for byte, as what it is", async () => {
    for (const [kind, type, contentType] of [
      ["video", "video", /^video\/mp4/],
      ["audio", "audio", /^(audio\/(mp4|x-m4a)|video\/mp4)/],
      ["script", "script", /^application\/x-subrip/],
    ] as const) {
      const { bytes, name, seconds } = await kit.media.make(kind);
      const url = kit.origin.publish(bytes, name);
      const done = await client.finish({ name: `My ${name}`, type, url });
      expect(done).toMatchObject({ status: "upload_completed", size: bytes.length, errorMessage: null });
      if (seconds === null) expect(done.duration).toBeNull();
      else expect(done.duration).toBeCloseTo(seconds, 1);
      const response = await downloaded(done);
      expect(response.headers.get("content-type")).toMatch(contentType);
      expect(response.headers.get("content-disposition")).toContain(`My ${name}`);
      expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes);
    }
  });

  test("what a client has uploaded comes back byte for byte", async () => {
    const { bytes, name, seconds } = await kit.media.make("video");
    const s3Path = await client.upload(bytes, name);
    const done = await client.finish({ name: "Uploaded", type: "video", s3Path });
    expect(done).toMatchObject({ status: "upload_completed", size: bytes.length });
    expect(done.duration).toBeCloseTo(seconds!, 1);
    expect(new Uint8Array(await (await downloaded(done)).arrayBuffer())).toEqual(bytes);
  });

  test("fragments become one file that decodes cleanly, from several kinds of source", async () => {
    const [one, two, three] = await Promise.all([1, 2, 3].map(() => kit.media.make("video")));
    const s3Path = await client.upload(two!.bytes, two!.name);
    const done = await client.finish({
      name: "Joined",
      type: "video",
      fragments: [
        { url: kit.origin.publish(one!.bytes, one!.name), startTime: 0 },
        { s3Path, startTime: 2 },
        { url: kit.origin.publish(three!.bytes, three!.name), startTime: 4 },
      ],
    });
    expect(done).toMatchObject({ status: "upload_completed", uploadMethod: "fragments", errorMessage: null });
    const path = join(kit.folder, "joined.mp4");
    await writeFile(path, new Uint8Array(await (await downloaded(done)).arrayBuffer()));
    expect(await decode(path)).toEqual({ faults: "", silences: [] });
    const { duration, streams } = await ffprobe(path);
    expect(duration).toBeCloseTo(done.duration!, 0);
    expect(Math.abs(duration - 3 * one!.seconds!)).toBeLessThan(0.3);
    expect(streams.find(({ type }) => type === "video")?.packets).toBe(150);
  });

  describe("what fails says why, and has no bytes", () => {
    const video = { name: "n", type: "video" };
    const film = async (kind: Parameters<Kit["media"]["make"]>[0] = "video"): Promise<string> => {
      const { bytes, name } = await kit.media.make(kind);
      return kit.origin.publish(bytes, name);
    };
    test.each<[string, () => Promise<object>, RegExp]>([
      ["a 404", async () => ({ ...video, url: kit.origin.refuse(404) }), /404/],
      ["a 403", async () => ({ ...video, url: kit.origin.refuse(403) }), /403/],
      [
        "a 500, three times over",
        async () => ({ ...video, url: kit.origin.refuse(500) }),
        /500.*tried 3 times/,
      ],
      [
        "nobody listening",
        async () => ({ ...video, url: "http://127.0.0.1:9/x.mp4" }),
        /127\.0\.0\.1.*tried 3/,
      ],
      [
        "a private network",
        async () => ({ ...video, url: "http://10.0.0.1/x.mp4" }),
        /^10\.0\.0\.1 is not an address that may be read$/,
      ],
      [
        "no media",
        async () => ({ ...video, url: kit.origin.publish(Buffer.from("no film"), "film.mp4") }),
        /^The file is not video in a format that can be read$/,
      ],
      [
        "audio as video",
        async () => ({ ...video, url: await film("audio") }),
        /^The file has no video stream$/,
      ],
      [
        "nothing uploaded",
        async () => ({ ...video, s3Path: (await client.presign("never.mp4")).body.s3Path }),
        /^Nothing has been uploaded to this s3Path$/,
      ],
      [
        "a fragment that is gone",
        async () => ({
          ...video,
          fragments: [
            { url: await film(), startTime: 0 },
            { url: kit.origin.refuse(404), startTime: 2 },
          ],
        }),
        /^Fragment 2: .*404/,
      ],
      [
        "fragments of two formats",
        async () => ({
          ...video,
          fragments: [
            { url: await film(), startTime: 0 },
            { url: await film("video in another format"), startTime: 2 },
          ],
        }),
        /fragment 2/i,
      ],
      [
        "a fragment that is no media",
        async () => ({
          ...video,
          fragments: [
            { url: await film(), startTime: 0 },
            { url: kit.origin.publish(Buffer.from("no film"), "film.mp4"), startTime: 2 },
          ],
        }),
        /fragment 2/i,
      ],
    ])("%s", async (_name, body, message) => {
      const done = await client.finish(await body());
      expect(done).toMatchObject({ status: "upload_failed", size: null, duration: null });
      expect(done.errorMessage).toMatch(message);
      expect(done).not.toHaveProperty("downloadUrl");
      const { id } = done;
      expect([...(await kit.files()).keys()].filter((path) => path.includes(id))).toEqual([]);
      expect((await kit.events(client)).get(id)!.at(-1)!.type).toBe("artifact.failed");
    });
  });

  test("a client's query strings and signatures stay out of the log and of messages", async () => {
    const url = `${kit.origin.refuse(403)}?X-Amz-Signature=very-secret-value`;
    const done = await client.finish({ name: "n", type: "video", url });
    expect(done.status).toBe("upload_failed");
    expect(done.errorMessage).not.toContain("very-secret-value");
    expect(kit.server.log()).not.toContain("very-secret-value");
  });

  test("deleted in the middle of its fetch: the worker writes nothing, and nothing stays", async () => {
    const held = heldBody((await kit.media.make("video")).bytes);
    const artifact = await create({ name: "n", type: "video", url: kit.origin.stream("n.mp4", held.body) });
    await held.isHeld;
    const studio = await (await kit.upkeepAt(Date.now())).openStudio(client.key.apiKey);
    await studio.remove(artifact.id);
    held.release();
    await until("the worker has noticed", () => (/"outcome":"lost"/.test(kit.server.log()) ? true : null));
    expect((await kit.row(artifact.id)).status).toBe("deleted");
    expect((await client.get(artifact.id)).status).toBe(404);
    expect([...(await kit.files()).keys()].filter((path) => path.includes(artifact.id))).toEqual([]);
  });
});
