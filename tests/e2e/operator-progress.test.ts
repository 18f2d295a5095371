/** How far work is, on a terminal and elsewhere: never on stdout, never more than asked for. */

import { PassThrough } from "node:stream";
import { beforeAll, expect, test } from "vitest";
import { startProgress } from "../../packages/cli/src/progress.ts";
import { BIN, build, run, runJson, tempFolder } from "./program.ts";

beforeAll(build);

/** A terminal that remembers what was drawn on it. */
function terminal() {
  const stream = new PassThrough();
  const drawn: string[] = [];
  stream.on("data", (part: Buffer) => drawn.push(part.toString()));
  const nothing = (): boolean => true;
  const cursor = { cursorTo: nothing, moveCursor: nothing, clearLine: nothing };
  return {
    stream: Object.assign(stream, { isTTY: true, columns: 120, ...cursor }),
    text: () => drawn.join(""),
  };
}

test("a terminal gets a bar for each stage", async () => {
  const { stream, text } = terminal();
  const progress = await startProgress({ noun: "artifacts", stream });
  progress.tell("records", { done: 5, total: null, bytes: 0 });
  progress.tell("blobs", { done: 1, total: 4, bytes: 1_024 });
  progress.tell("blobs", { done: 4, total: 4, bytes: 5 * 1_024 ** 2 });
  progress.stop();
  expect(text()).toContain("records");
  expect(text()).toMatch(/blobs .*█.* 100% 4\/4 artifacts 5.00 MiB/);
});

test("the program itself draws it on a terminal, and takes it away", async () => {
  const { path: cwd, remove } = await tempFolder();
  const preload = "data:text/javascript,Object.defineProperty(process.stderr,'isTTY',{value:true})";
  try {
    await runJson(["org", "create", "Metro"], { cwd });
    const command = [process.execPath, "--import", preload, BIN];
    const { code, stdout, stderr } = await run(["backup", "there", "--json"], { cwd, command });
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringMatching(/records .*█.* 100%/) });
    expect(stderr.lastIndexOf("\u001B[?25h"), "the cursor is shown again").toBeGreaterThan(
      stderr.lastIndexOf("\u001B[?25l"),
    );
    expect(JSON.parse(stdout)).toMatchObject({ target: "there" });
  } finally {
    await remove();
  }
});

test("anything else gets a line now and then, and none when nothing has happened", async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  const first = new Promise<void>((resolve) => {
    stream.on("data", (part: Buffer) => {
      lines.push(part.toString());
      resolve();
    });
  });
  const progress = await startProgress({ noun: "artifacts", stream, everyMs: 1 });
  progress.tell("verify", { done: 1, total: 10, bytes: 2_048 });
  await first;
  await new Promise((resolve) => setTimeout(resolve, 20));
  progress.stop();
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(/^verify: 1 of 10 artifacts, 2.00 KiB/);
});
