/**
 * The Studio face's black-box tests 63 to 88 (contract 5), each under its number, against any `StudioTarget`.
 * What needs a view inside is in the other studio files.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { StudioClient, StudioErrorJson, StudioTarget } from "./studio-target.ts";
import { ARTIFACTS, bearer, CREATE, openStudio } from "./studio-target.ts";
import { answer } from "./target.ts";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const KEYS =
  "id name type status uploadMethod size duration errorMessage s3Path s3Bucket createdAt updatedAt company createdBy";
const RANKS = ["created", "upload_started", "upload_completed"];
const URL_A = "https://cdn.example.com/videos/promo.mp4";

export function studioCases(name: string, open: () => Promise<StudioTarget>): void {
  describe(`Studio face on ${name}`, () => {
    let target: StudioTarget;
    let client: StudioClient;

    beforeAll(async () => {
      target = await open();
    });
    afterAll(async () => {
      await target.close();
    });
    beforeEach(async () => {
      client = await openStudio(target);
    });

    const published = async (kind: Parameters<StudioTarget["media"]>[0]) => {
      const media = await target.media(kind);
      return { ...media, url: await target.publish(media.bytes, media.name) };
    };
    const clips = async (count: number) => {
      const made = [];
      for (let i = 0; i < count; i++) made.push(await published("video"));
      return made;
    };

    describe("create", () => {
      test("63-65. a URL is enough; the answer is the whole artifact, created", async () => {
        const { status, body } = await client.create({ name: "Promo", type: "video", url: URL_A });
        expect(status).toBe(201);
        expect(body).toMatchObject({
          name: "Promo",
          type: "video",
          status: "created",
          uploadMethod: "direct_url",
          size: null,
          duration: null,
          errorMessage: null,
        });
        expect(Object.keys(body).sort()).toEqual(KEYS.split(" ").sort());
        expect(body.id).toMatch(/^[0-9a-f]{24}$/);
        expect(body.s3Path).toContain(body.id);
        expect(body.s3Path).not.toContain("://");
        expect(body.s3Path.startsWith(body.s3Bucket)).toBe(false);
        expect(body.s3Bucket).toMatch(/./);
      });

      test("66. an s3Path from the presigned upload is a direct_url", async () => {
        const { body: presigned } = await client.presign("film.mp4");
        const { status, body } = await client.create({ name: "n", type: "video", s3Path: presigned.s3Path });
        expect(status).toBe(201);
        expect(body).toMatchObject({ uploadMethod: "direct_url", status: "created" });
      });

      test("67. fragments are fragments", async () => {
        const { status, body } = await client.create({
          name: "n",
          type: "video",
          fragments: [
            { url: URL_A, startTime: 0 },
            { url: URL_A, startTime: 10.5 },
          ],
        });
        expect(status).toBe(201);
        expect(body).toMatchObject({ uploadMethod: "fragments", status: "created" });
      });

      const video = { name: "n", type: "video" };
      const fragment = { url: URL_A, startTime: 0 };
      const s3Path = "s3://my-bucket/film.mp4";
      test.each([
        ["68. no name", { type: "video", url: URL_A }, /^name must be a string$/],
        ["69. no type", { name: "n", url: URL_A }, /^type must be one of video, audio, script$/],
        ["70. type image", { ...video, type: "image", url: URL_A }, /^type must be one of/],
        ["71. no source", video, /^exactly one of s3Path, url or fragments must be given$/],
        ["72. url and s3Path", { ...video, url: URL_A, s3Path }, /^exactly one of/],
        ["73. url and fragments", { ...video, url: URL_A, fragments: [fragment] }, /^exactly one of/],
        ["74. all three", { ...video, url: URL_A, s3Path, fragments: [fragment] }, /^exactly one of/],
        [
          "75. fragments of a script",
          { name: "n", type: "script", fragments: [fragment] },
          /^fragments are not supported for type script$/,
        ],
        [
          "76. a negative startTime",
          { ...video, fragments: [{ ...fragment, startTime: -1 }] },
          /^fragments\[0\]\.startTime must be a number of seconds from 0 to 31536000$/,
        ],
        [
          "76. a startTime in milliseconds",
          { ...video, fragments: [{ ...fragment, startTime: 31_536_001 }] },
          /^fragments\[0\]\.startTime must be a number of seconds from 0 to 31536000$/,
        ],
        [
          "77. a fragment without a source",
          { ...video, fragments: [{ startTime: 0 }] },
          /^fragments\[0\]\.url or fragments\[0\]\.s3Path must be given$/,
        ],
        [
          "78. a fragment without startTime",
          { ...video, fragments: [fragment, { url: URL_A }] },
          /^fragments\[1\]\.startTime must be a number of seconds$/,
        ],
      ])("%s is 400 and says so", async (_name, body, message) => {
        const { status, body: error } = await client.create(body);
        expect(status).toBe(400);
        expect(error).toEqual({
          error: expect.stringMatching(message),
          message: expect.stringMatching(message),
          status: 400,
        });
      });

      test("79. no key, or no such key, is 401", async () => {
        const body = JSON.stringify({ ...video, url: URL_A });
        for (const headers of [{}, bearer("dk_live_unknown")]) {
          const refused = await answer<StudioErrorJson>(
            target.fetch(CREATE, { method: "POST", headers, body }),
          );
          expect(refused).toMatchObject({ status: 401, body: { status: 401 } });
          expect(refused.body.error).toBe(refused.body.message);
        }
      });
    });

    describe("get", () => {
      test("80. shows what was created", async () => {
        const { body: created } = await client.create({ name: "Promo", type: "video", url: URL_A });
        const { status, body } = await client.get(created.id);
        expect(status).toBe(200);
        expect(body).toMatchObject({ id: created.id, name: "Promo", createdAt: created.createdAt });
        expect(Object.keys(body)).toEqual(expect.arrayContaining(KEYS.split(" ")));
      });

      test("88. times are ISO 8601, company and creator have id and name", async () => {
        const { body } = await client.create({ name: "n", type: "video", url: URL_A });
        for (const shown of [body, (await client.get(body.id)).body]) {
          expect(shown.createdAt).toMatch(ISO);
          expect(shown.updatedAt).toMatch(ISO);
          expect(shown.company).toEqual({ id: expect.stringMatching(/./), name: expect.stringMatching(/./) });
          expect(shown.createdBy).toEqual({ id: client.key.id, name: "Editor" });
        }
      });
    });

    describe("the background work", () => {
      test("81, 87. a reachable file completes; the status never moves back on the way", async () => {
        const { url, bytes, seconds } = await published("video");
        const { body: created } = await client.create({ name: "n", type: "video", url });
        const seen = [created.status];
        for (let i = 0; i < 100 && seen.at(-1) !== "upload_completed"; i++) {
          const { body } = await client.get(created.id);
          seen.push(body.status);
          expect(Date.parse(body.updatedAt)).toBeGreaterThanOrEqual(Date.parse(body.createdAt));
          await target.settle();
        }
        const ranks = seen.map((status) => RANKS.indexOf(status));
        expect(ranks).toEqual(ranks.toSorted((a, b) => a - b));
        const { body } = await client.get(created.id);
        expect(body).toMatchObject({ status: "upload_completed", size: bytes.length, errorMessage: null });
        expect(body.duration).toBeCloseTo(seconds ?? Number.NaN, 1);
      });

      test("81. an uploaded file completes, and can be downloaded again", async () => {
        const { bytes, name, seconds } = await target.media("audio");
        const s3Path = await client.upload(bytes, name);
        const artifact = await client.finish({ name: "Voice", type: "audio", s3Path });
        expect(artifact).toMatchObject({ status: "upload_completed", size: bytes.length });
        expect(artifact.duration).toBeCloseTo(seconds ?? Number.NaN, 1);
        const download = await target.fetch(artifact.downloadUrl ?? "");
        expect(download.status).toBe(200);
        expect(new Uint8Array(await download.arrayBuffer())).toEqual(bytes);
      });

      test("82. a script completes without a duration", async () => {
        const { url, bytes } = await published("script");
        expect(await client.finish({ name: "s", type: "script", url })).toMatchObject({
          status: "upload_completed",
          size: bytes.length,
          duration: null,
          errorMessage: null,
        });
      });

      test("83. an unreachable URL fails and says why", async () => {
        const artifact = await client.finish({ name: "n", type: "video", url: target.deadUrl() });
        expect(artifact).toMatchObject({ status: "upload_failed", size: null, duration: null });
        expect(artifact.errorMessage).toMatch(/\w/);
        expect(artifact).not.toHaveProperty("downloadUrl");
      });

      test("83. an s3Path that nothing was uploaded to fails and says so", async () => {
        const { body } = await client.presign("never.mp4");
        expect(await client.finish({ name: "n", type: "video", s3Path: body.s3Path })).toMatchObject({
          status: "upload_failed",
          errorMessage: "Nothing has been uploaded to this s3Path",
        });
      });

      test("84. three fragments of one format become one file as long as all of them", async () => {
        const parts = await clips(3);
        const artifact = await client.finish({
          name: "Joined",
          type: "video",
          fragments: parts.map(({ url }, at) => ({ url, startTime: at })),
        });
        expect(artifact).toMatchObject({ status: "upload_completed", errorMessage: null });
        const sum = parts.reduce((total, { seconds }) => total + (seconds ?? Number.NaN), 0);
        expect(artifact.duration).toBeGreaterThan(sum * 0.95);
        expect(artifact.duration).toBeLessThan(sum * 1.05);
      });

      test("84. fragments may be uploaded ones, too", async () => {
        const { bytes, name } = await target.media("video");
        const s3Path = await client.upload(bytes, name);
        const [clip] = await clips(1);
        const artifact = await client.finish({
          name: "Joined",
          type: "video",
          fragments: [
            { url: clip?.url, startTime: 0 },
            { s3Path, url: null, startTime: 1 },
          ],
        });
        expect(artifact.status).toBe("upload_completed");
      });

      test("85. fragments of different formats fail, naming the one that differs", async () => {
        const [one] = await clips(1);
        const other = await published("video in another format");
        const artifact = await client.finish({
          name: "n",
          type: "video",
          fragments: [
            { url: one?.url, startTime: 0 },
            { url: other.url, startTime: 10 },
          ],
        });
        expect(artifact.status).toBe("upload_failed");
        expect(artifact.errorMessage).toMatch(/fragment 2/i);
      });

      test("86. an external s3Path without credentials is 400 at once", async () => {
        const { status, body } = await client.create({
          name: "n",
          type: "video",
          s3Path: "s3://my-company-bucket/recordings/meeting-2024.mp4",
        });
        expect(status).toBe(400);
        expect(body).toMatchObject({ error: expect.stringMatching(/^s3Path .*no S3 credentials$/) });
      });

      test("content that is not what its type says fails", async () => {
        const { url } = await published("audio");
        const artifact = await client.finish({ name: "n", type: "video", url });
        expect(artifact).toMatchObject({ status: "upload_failed", duration: null });
        expect(artifact.errorMessage).toMatch(/video/);
      });
    });

    test("unknown artifacts are 404, in the vendor's sentence", async () => {
      for (const id of ["67a8f9b0c1d2e3f405060708", "create2", "%00", "x".repeat(500), "..%2f..%2fetc"]) {
        expect(await answer(client.send(`${ARTIFACTS}/${id}`))).toMatchObject({
          status: 404,
          body: { error: "Artifact not found", message: "Artifact not found", status: 404 },
        });
      }
    });
  });
}
