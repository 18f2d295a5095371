/**
 * A backup is how docyard moves: from SQLite and a disk to PostgreSQL and S3, and back again, everything the same at the
 * end. What backups promise by themselves is in tests/core and tests/e2e.
 */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { everything, fill, filesIn, withStore } from "../e2e/operator-kit.ts";
import { runJson, tempFolder } from "../e2e/program.ts";
import { REPLICA } from "./fleet.ts";
import type { FreshBucket, FreshDatabase } from "./index.ts";
import { freshBucket, freshDatabase } from "./index.ts";

/** One of them larger than a piece of the disk store, and than what S3 takes unsigned. */
const COUNT = 60;

let folder: Awaited<ReturnType<typeof tempFolder>>;
let database: FreshDatabase;
let bucket: FreshBucket;

beforeAll(async () => {
  folder = await tempFolder();
  database = await freshDatabase();
  bucket = await freshBucket();
});

afterAll(async () => {
  await bucket?.remove();
  await database?.remove();
  await folder?.remove();
});

test("from SQLite and a disk to PostgreSQL and S3, and back: every row, event and byte", async () => {
  const query = new URLSearchParams({ endpoint: bucket.endpoint, region: bucket.region });
  const there = [
    "--db",
    database.url,
    "--blob",
    `s3://${bucket.bucket}/${bucket.prefix}?${query.toString()}`,
  ];
  const env = { AWS_ACCESS_KEY_ID: bucket.accessKeyId, AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey };
  const [home, back] = [join(folder.path, "home"), join(folder.path, "back")];
  for (const path of [home, back]) await mkdir(path);
  const command = (cwd: string, ...args: readonly string[]) => runJson(args, { ...REPLICA, cwd, env });

  await fill(home, COUNT);
  const before = await withStore(home, everything);
  const [out, home2] = [join(folder.path, "out"), join(folder.path, "back.tar")];
  expect(await command(home, "backup", out)).toMatchObject({ artifacts: COUNT, blobs: COUNT, lost: 0 });
  expect(await command(home, "restore", out, ...there)).toMatchObject({
    artifacts: COUNT,
    blobs: COUNT,
    lost: 0,
  });
  const whole = { checked: COUNT, missing: 0, damaged: 0, blobs: COUNT, orphaned: 0 };
  expect(await command(home, "verify", ...there)).toMatchObject(whole);
  expect(await bucket.keys()).toHaveLength(COUNT);
  expect(await bucket.openUploads()).toEqual([]);

  expect(await command(home, "backup", home2, ...there)).toMatchObject({
    artifacts: COUNT,
    blobs: COUNT,
    lost: 0,
  });
  expect(await command(back, "restore", home2)).toMatchObject({ artifacts: COUNT, blobs: COUNT, lost: 0 });
  expect(await withStore(back, everything)).toEqual(before);
  expect(await command(back, "verify")).toMatchObject(whole);
  const names = async (root: string): Promise<string[]> =>
    (await filesIn(join(root, "data/docks")))
      .map((path) => path.slice(root.length))
      .filter((path) => !path.endsWith(".crc"))
      .toSorted();
  expect(await names(back)).toEqual(await names(home));
});
