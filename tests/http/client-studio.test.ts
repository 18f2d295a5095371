/** The client package's Studio side against the real app, whose worker takes a step with each of the client's waits. */

import type { DocyardApiError, StudioCreateInput } from "@docyard/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectStudio, failure, fates, FREE, streamOf } from "./client-kit.ts";
import type { StudioHarness } from "./studio-harness.ts";
import { openStudioHarness } from "./studio-harness.ts";

let target: StudioHarness;
beforeAll(async () => {
  target = await openStudioHarness({ settings: FREE });
});
afterAll(() => target.close());

const film = (): Promise<string> => target.publish(new TextEncoder().encode("video:3000:x"), "film.mp4");

test("a file is uploaded, waited for, found, downloaded and removed", async () => {
  const { studio, net, waits } = await connectStudio(target);
  const media = await target.media("video");
  for (const source of [media.bytes, () => streamOf(media.bytes)]) {
    const created = await studio.upload(source, { fileName: "Film 1.mp4", type: "video", name: "Pilot" });
    expect(created).toMatchObject({ name: "Pilot", type: "video", status: "created", size: null });
    const { length } = waits;
    const done = await studio.wait(created.id);
    expect(waits.length).toBeGreaterThan(length);
    expect(done).toMatchObject({
      status: "upload_completed",
      size: media.bytes.length,
      duration: media.seconds,
    });
    expect(await (await studio.download(done)).bytes()).toEqual(new Uint8Array(media.bytes));
    expect(await (await studio.download(created.id, { range: { start: 1, end: 4 } })).text()).toBe("ide");
    expect((await studio.list({ status: "upload_completed", type: "video" })).data[0]).toMatchObject({
      id: created.id,
    });
    await studio.remove(created.id);
    expect(await failure(studio.get(created.id))).toMatchObject({
      code: "not_found",
      message: "Artifact not found",
    });
  }
  expect(net.seen.find(({ method }) => method === "PUT")!.headers.get("content-type")).toBe(
    "application/octet-stream",
  );
  expect((await studio.list()).meta).toMatchObject({ total: 0, hasMore: false });
});

test("every kind of source is taken, and pages are those that are asked for", async () => {
  const { studio } = await connectStudio(target);
  const { s3Path } = await studio.presign("film.mp4");
  const inputs: readonly StudioCreateInput[] = [
    { name: "by URL", type: "video", url: await film() },
    { name: "by path", type: "video", s3Path },
    {
      name: "joined",
      type: "video",
      fragments: [
        { url: await film(), startTime: 0 },
        { s3Path, startTime: 3.5 },
      ],
    },
  ];
  for (const input of inputs)
    expect(await studio.create(input)).toMatchObject({ name: input.name, status: "created" });
  const names = async (page: number): Promise<string[]> =>
    (await studio.list({ limit: 2, page })).data.map(({ name }) => name);
  expect(await names(1)).toEqual(["joined", "by path"]);
  expect(await names(2)).toEqual(["by URL"]);
});

test("wait fails with the server's reason, in time, or when told", async () => {
  const { studio, waits } = await connectStudio(target);
  const dead = await studio.create({ name: "gone", type: "video", url: target.deadUrl() });
  const error = (await failure(studio.wait(dead.id))) as DocyardApiError;
  const { errorMessage } = await studio.get(dead.id);
  expect(error).toMatchObject({ name: "DocyardApiError", code: "upload_failed", message: errorMessage });
  expect(errorMessage).not.toBeNull();
  expect(await studio.wait(dead.id, { until: ({ status }) => status === "upload_failed" })).toMatchObject({
    id: dead.id,
  });

  const { id } = await studio.create({ name: "film", type: "video", url: await film() });
  expect(await studio.wait(id, { until: () => true })).toMatchObject({ status: "created" });
  expect(await failure(studio.wait(id, { until: () => false, timeoutMs: 60_000 }))).toMatchObject({
    code: "timeout",
  });
  // Ever longer, to a bound, and never past the end.
  expect(Math.max(...waits)).toBeLessThanOrEqual(10_000);
  const reason = new Error("enough");
  expect(await failure(studio.wait(id, { signal: AbortSignal.abort(reason) }))).toBe(reason);
});

test("create is not repeated where it may have been heard, and is where it was not", async () => {
  const isCreate = ({ method }: { method: string }): boolean => method === "POST";
  const url = await film();
  const lost = await connectStudio(target, fates(["lost"], isCreate));
  expect(await failure(lost.studio.create({ name: "a", type: "video", url }))).toMatchObject({
    code: "network",
  });
  expect((await lost.studio.list()).meta.total).toBe(1);
  const refused = await connectStudio(target, fates([{ status: 429 }, { status: 503 }], isCreate));
  await refused.studio.create({ name: "a", type: "video", url });
  expect((await refused.studio.list()).meta.total).toBe(1);
});

test("a stream is let go of when there is nowhere to send it", async () => {
  const { studio } = await connectStudio(target, fates([{ status: 400 }]));
  let isCancelled = false;
  const stream = new ReadableStream<Uint8Array>({ cancel: () => void (isCancelled = true) });
  expect(await failure(studio.upload(stream, { fileName: "a.mp4", type: "video" }))).toMatchObject({
    status: 400,
  });
  expect(isCancelled).toBe(true);
});
