/** The router that remembers: whatever it was asked before, it answers as Hono's own does. */

import * as fc from "fast-check";
import { TrieRouter } from "hono/router/trie-router";
import { expect, test } from "vitest";
import { rememberingRouter } from "../../packages/server/src/router.ts";

const PATTERNS = [
  "/*",
  "/v1/docks/:dockId/artifacts",
  "/v1/docks/:dockId/artifacts/upload/complete",
  "/v1/docks/:dockId/artifacts/:artifactId",
  "/api/artifacts/create",
  "/api/artifacts/:artifactId",
  "/v1/blobs/*",
] as const;
const METHODS = ["GET", "POST", "ALL"] as const;

const segment = fc.constantFrom(
  "v1",
  "api",
  "docks",
  "artifacts",
  "upload",
  "complete",
  "create",
  "blobs",
  "x",
);
const path = fc.oneof(
  fc.array(segment, { maxLength: 6 }).map((segments) => `/${segments.join("/")}`),
  // Longer than what is remembered.
  fc.integer({ min: 200, max: 300 }).map((length) => `/v1/docks/${"d".repeat(length)}/artifacts`),
);
const question = fc.tuple(fc.constantFrom("GET", "POST", "PUT"), path);
const route = fc.tuple(fc.constantFrom(...METHODS), fc.constantFrom(...PATTERNS));

test("any routes, added at any time, and any questions, asked again and again", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ routes: fc.array(route), questions: fc.array(question, { maxLength: 30 }) })),
      (rounds) => {
        const [ours, theirs] = [rememberingRouter<string>(), new TrieRouter<string>()];
        let added = 0;
        for (const { routes, questions } of rounds) {
          for (const [method, pattern] of routes) {
            const name = `${method} ${pattern} ${++added}`;
            ours.add(method, pattern, name);
            theirs.add(method, pattern, name);
          }
          for (const [method, asked] of [...questions, ...questions]) {
            expect(ours.match(method, asked)).toEqual(theirs.match(method, asked));
          }
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("what no client asks twice is forgotten, and answered all the same", () => {
  const router = rememberingRouter<string>();
  router.add("GET", "/artifacts/:id", "one");
  for (let round = 0; round < 2; round++) {
    for (let id = 0; id < 2_500; id++) {
      expect(router.match("GET", `/artifacts/${id}`)).toEqual([[["one", { id: String(id) }]]]);
    }
  }
});
