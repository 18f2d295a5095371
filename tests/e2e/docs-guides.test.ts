/**
 * Every snippet of the guides does what its guide says: each page runs top to bottom in a fresh folder, against the
 * built program. How blocks are marked is in CONTRIBUTING.md; how they are run, in docs-runner.ts.
 */

import { beforeAll, describe, expect, test } from "vitest";
import { allPages, blocksOf } from "./docs-markdown.ts";
import { runGuide, sameJson, sameText } from "./docs-runner.ts";
import { build } from "./program.ts";

beforeAll(build);

/** Pages with something to run; the client's own README is run by client-package.test.ts. */
const guides = allPages().filter(
  (page) =>
    !page.startsWith("packages/") && blocksOf(page).some(({ role }) => role === "run" || role === "server"),
);

test("the guides that lead newcomers are among those that run", () => {
  expect(guides).toEqual(
    expect.arrayContaining(["README.md", "docs/quick-start.md", "docs/security.md", "docs/studio.md"]),
  );
});

test.each(guides)("%s", async (page) => {
  const { ran } = await runGuide(page);
  expect(ran).toBeGreaterThan(0);
});

describe("output is compared", () => {
  test.each<[string, string, boolean]>([
    ["a b", "a b", true],
    ["a…z", "a to\nthe z", true],
    ["a…z", "a to", false],
    ["a.c", "abc", false],
    ["a", "a b", false],
  ])("%s with %s", (shown, printed, isSame) => {
    expect(sameText(shown, printed)).toBe(isSame);
  });

  test.each<[unknown, unknown, boolean]>([
    [{ a: 1 }, { a: 1 }, true],
    [{ a: 1 }, { a: "1" }, false],
    [{ a: 1 }, { a: 1, b: 2 }, false],
    [{ a: 1, "…": "…" }, { a: 1, b: 2 }, true],
    [{ a: "…" }, { a: null }, true],
    [{ a: "…" }, {}, false],
    [{ id: "art_…" }, { id: "art_01" }, true],
    [{ id: "art_…" }, { id: 1 }, false],
    [[{ a: "…" }], [{ a: [] }], true],
    [[1], [1, 2], false],
    [{}, null, false],
    [null, null, true],
  ])("%j with %j", (shown, printed, isSame) => {
    expect(sameJson(shown, printed)).toBe(isSame);
  });
});
