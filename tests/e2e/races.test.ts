/**
 * Clients that race through real sockets: equal bytes become one artifact, whoever is first.
 * Hundreds of rounds of the same race are run against the stores themselves, in tests/adapters.
 */

import { afterAll, beforeAll, expect, test } from "vitest";
import { download, machineClient, type MachineClient, put, UnexpectedAnswer } from "./client.ts";
import { seededBytes, sha256 } from "./files.ts";
import { build, type Server, startServer, tempFolder } from "./program.ts";

const ROUNDS = 5;
const RACERS = 16;

let folder: Awaited<ReturnType<typeof tempFolder>>;
let server: Server;
let client: MachineClient;

beforeAll(async () => {
  await build();
  folder = await tempFolder();
  server = await startServer(["--limit-list", "0", "--log-level", "warn"], { cwd: folder.path });
  client = machineClient(server.url, server.firstRun!.client, server.firstRun!.dock.id);
  await client.token();
});

afterAll(async () => {
  await server?.kill();
  await folder?.remove();
});

const racers = <T>(run: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: RACERS }, (_, index) => run(index)));

test(`${RACERS} racing uploads of equal bytes become one artifact and ${RACERS - 1} duplicates`, async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = seededBytes(`round ${round}`, 1 + round * 50_000);
    const uploads = await racers((index) =>
      client.create({ filename: `${round}-${index}.bin`, metadata: { round } }),
    );
    await Promise.all(uploads.map(({ uploadUrl }) => put(uploadUrl!, bytes)));
    const completed = await Promise.all(uploads.map((upload) => client.complete(upload)));

    expect(completed.filter(({ isDuplicate }) => !isDuplicate)).toHaveLength(1);
    expect(new Set(completed.map(({ id }) => id)).size).toBe(1);
    expect(uploads.map(({ id }) => id)).toContain(completed[0]!.id);

    const { data, meta } = await client.list({ metadata: JSON.stringify({ round }) });
    expect(meta.total).toBe(1);
    expect(data[0]).toMatchObject({ id: completed[0]!.id, hash: `sha256:${sha256(bytes)}` });
    expect(await download(data[0]!.downloadUrl)).toMatchObject({ status: 200, digest: sha256(bytes) });

    // Repeated, every one of them still answers as it did.
    const again = await Promise.all(uploads.map((upload) => client.complete(upload)));
    expect(again.map(({ id }) => id)).toEqual(completed.map(({ id }) => id));
  }
});

test(`${RACERS} racing completes of one upload all answer the same artifact`, async () => {
  const bytes = seededBytes("one upload", 300_000);
  const upload = await client.create({ filename: "one.bin" });
  await put(upload.uploadUrl!, bytes);
  const completed = await racers(() => client.complete(upload));
  for (const one of completed) {
    expect(one).toMatchObject({ id: upload.id, isDuplicate: false, size: 300_000 });
  }
});

test("PUTs that race a complete leave whole bytes of one of them, or a clear refusal", async () => {
  const contents = Array.from({ length: RACERS }, (_, index) => seededBytes(`content ${index}`, 200_000));
  const upload = await client.create({ filename: "contested.bin" });
  await put(upload.uploadUrl!, contents[0]!);
  const puts = Promise.all(
    contents.map((bytes) =>
      put(upload.uploadUrl!, bytes).then(
        () => "stored",
        (error: unknown) => (error instanceof UnexpectedAnswer ? error.status : "broken off"),
      ),
    ),
  );
  const completed = await client.complete(upload);
  for (const outcome of await puts) expect(["stored", 403, 409, "broken off"]).toContain(outcome);

  const listed = (await client.list({ search: "contested" })).data[0]!;
  expect(listed).toMatchObject({ id: completed.id, hash: completed.hash });
  const { digest } = await download(listed.downloadUrl);
  expect(`sha256:${digest}`).toBe(completed.hash);
  expect(contents.map(sha256)).toContain(digest);
});
