/** What killed processes leave among the scratch files of media: the next one that works there removes it, a day later. */

import { mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openScratch } from "../../packages/adapters/src/media/scratch.ts";
import { expect, test } from "vitest";

const DAY_S = 86_400;

test("leftovers go, files in use and those of others stay", async () => {
  const folder = await mkdtemp(join(tmpdir(), "docyard-scratch-"));
  try {
    const nowS = Date.now() / 1_000;
    for (const [name, ageS] of [
      ["docyard-media-left.mp4", DAY_S + 60],
      ["docyard-media-in-use.mp4", DAY_S - 60],
      ["somebody-elses.mp4", 10 * DAY_S],
    ] as const) {
      await writeFile(join(folder, name), name);
      await utimes(join(folder, name), nowS - ageS, nowS - ageS);
    }
    // Named like one of ours and impossible to remove as a file: looked past.
    await mkdir(join(folder, "docyard-media-folder"));
    await utimes(join(folder, "docyard-media-folder"), 0, 0);
    await openScratch(folder).close();
    expect((await readdir(folder)).toSorted()).toEqual([
      "docyard-media-folder",
      "docyard-media-in-use.mp4",
      "somebody-elses.mp4",
    ]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("leftovers that were too young at first go while others work there", async () => {
  const folder = await mkdtemp(join(tmpdir(), "docyard-scratch-"));
  try {
    let now = 0;
    const left = join(folder, "docyard-media-left.mp4");
    await writeFile(left, "");
    const scratch = openScratch(folder, () => now);
    // Until it has been looked at: whoever looks only once will not see that it has become old.
    await sleep(50);
    const old = Date.now() / 1_000 - DAY_S - 60;
    await utimes(left, old, old);
    now = DAY_S * 1_000;
    scratch.file();
    await scratch.close();
    expect(await readdir(folder)).toEqual([]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("a folder that is taken away while nobody works in it is made again", async () => {
  const above = await mkdtemp(join(tmpdir(), "docyard-scratch-"));
  const folder = join(above, "a", "scratch");
  const scratch = openScratch(folder);
  try {
    for (let round = 0; round < 2; round++) {
      const file = scratch.file();
      await writeFile(file.path, "joined");
      expect((await stat(folder)).mode & 0o777).toBe(0o700);
      await rm(folder, { recursive: true });
    }
  } finally {
    await scratch.close();
    await rm(above, { recursive: true });
  }
});

test("a folder that is not there is no reason to fail before anything is made in it", async () => {
  await expect(openScratch(join(tmpdir(), "docyard-no-such-folder")).close()).resolves.toBeUndefined();
});
