/**
 * A thousand artifacts that wait at once for the server's own worker: all of them end, none goes back on the way, and
 * each has the bytes that its source had.
 */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { StudioArtifact, StudioList } from "../http/studio-target.ts";
import { ARTIFACTS } from "../http/studio-target.ts";
import { sha256 } from "./files.ts";
import { build } from "./program.ts";
import { type Kit, openKit, until } from "./studio-kit.ts";

const ARTIFACTS_COUNT = 1_000;
/** Of them, one in so many has a source that is not there. */
const DEAD_EVERY = 10;
const CREATE_AT_ONCE = 20;
const CONCURRENCY = 8;
/** Each look reads ten pages of a hundred: a client in no hurry. */
const LOOK_EVERY_MS = 1_000;
const RANKS = ["created", "upload_started", "upload_completed"];

let kit: Kit;

beforeAll(async () => {
  await build();
  kit = await openKit({ concurrency: CONCURRENCY });
});
afterAll(() => kit.close());

test(`${ARTIFACTS_COUNT} queued sources drain; no status ever goes back`, async () => {
  const client = await kit.client();
  const sources = Array.from({ length: ARTIFACTS_COUNT }, (_, n) => {
    const bytes = Buffer.from(`1\n00:00:01,000 --> 00:00:02,000\nline ${n}\n`);
    const isDead = n % DEAD_EVERY === DEAD_EVERY - 1;
    return { bytes, isDead, url: isDead ? kit.origin.refuse(404) : kit.origin.publish(bytes, `${n}.srt`) };
  });
  const idOf = new Map<string, (typeof sources)[number]>();
  const waiting = [...sources.entries()];
  await Promise.all(
    Array.from({ length: CREATE_AT_ONCE }, async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [n, source] = next;
        const { status, body } = await client.create({ name: `line ${n}`, type: "script", url: source.url });
        expect(status).toBe(201);
        idOf.set(body.id, source);
      }
    }),
  );
  expect(idOf.size).toBe(ARTIFACTS_COUNT);

  // As a client that polls would see it.
  const last = new Map<string, string>();
  const look = async (): Promise<StudioArtifact[]> => {
    const all: StudioArtifact[] = [];
    for (let page = 1; ; page++) {
      const response = await client.send(`${ARTIFACTS}?limit=100&page=${page}`);
      const { data, meta } = (await response.json()) as StudioList;
      all.push(...data);
      if (!meta.hasMore) return all;
    }
  };
  await until(
    "all of them have ended",
    async () => {
      const artifacts = await look();
      for (const { id, status } of artifacts) {
        const before = last.get(id) ?? "created";
        if (status === "upload_failed") expect(before).not.toBe("upload_completed");
        else
          expect(RANKS.indexOf(status), `${id} was ${before}`).toBeGreaterThanOrEqual(RANKS.indexOf(before));
        last.set(id, status);
      }
      return artifacts.every(({ status }) => status === "upload_completed" || status === "upload_failed")
        ? true
        : null;
    },
    LOOK_EVERY_MS,
  );

  const stories = await kit.events(client);
  const done = await look();
  expect(done).toHaveLength(ARTIFACTS_COUNT);
  for (const { id, status, size } of done) {
    const { isDead, bytes } = idOf.get(id)!;
    const end = isDead ? "failed" : "completed";
    const words = stories.get(id)!.map(({ type }) => type.replace("artifact.", ""));
    expect(words.join(" "), `story of ${id}`).toBe(`created started ${end}`);
    expect({ status, size }).toEqual({ status: `upload_${end}`, size: isDead ? null : bytes.length });
    if (!isDead) expect((await kit.row(id)).digest).toBe(sha256(bytes));
  }
});
