/**
 * What a Studio's worker works with, as tables: sources by their name, and media that are text. `video:3000:…` is three
 * seconds of video, `video/odd:3000:…` the same in another format; anything else is no media.
 */

import type { IngestPorts, Media, MediaInput, Sealer, SourceBody } from "@docyard/core";
import { createSealer, DocyardError } from "@docyard/core";

/** Text to be found, an error to fail with, or what decides at each fetch. */
export type FakeSource = string | Error | (() => string | Error);

/** What the next fetch of a URL, or of an S3 path with `#` and its credentials, finds; anything else is a 404. */
export type FakeSources = Map<string, FakeSource>;

export const testSealer: Sealer = createSealer({ current: "k1", keys: { k1: new Uint8Array(32).fill(1) } });

export function fakeIngest(sources: FakeSources): IngestPorts {
  const open = async (name: string): Promise<SourceBody> => {
    const entry = sources.get(name) ?? new DocyardError("source_failed", "The origin answered 404");
    const found = typeof entry === "function" ? entry() : entry;
    if (found instanceof Error) throw found;
    return textBody(found);
  };
  return {
    fetchUrl: { open, close: async () => {} },
    s3: { open: (path, credentials) => open(`${path}#${credentials}`), close: async () => {} },
    media: textMedia,
    sealer: testSealer,
  };
}

function textBody(text: string): SourceBody {
  const bytes = new TextEncoder().encode(text);
  return {
    size: bytes.length,
    contentType: null,
    body: (async function* () {
      yield bytes;
    })(),
  };
}

interface TextMedium {
  readonly type: "video" | "audio";
  readonly codec: string;
  readonly ms: number;
  readonly body: string;
}

async function readMedium(input: MediaInput): Promise<TextMedium | null> {
  const text = new TextDecoder().decode(await input.read(0, input.size));
  const parts = /^(video|audio)(?:\/(\w+))?:(\d+):(.*)$/s.exec(text);
  if (parts === null) return null;
  const [, type, codec = "text", ms, body] = parts;
  return { type: type as TextMedium["type"], codec, ms: Number(ms), body: body! };
}

const textMedia: Media = {
  contentType: async (_input, name) => (name.endsWith(".srt") ? "application/x-subrip" : "text/plain"),
  async probe(input) {
    const medium = await readMedium(input);
    if (medium === null) return null;
    const { type, codec, ms } = medium;
    return {
      contentType: `${type}/x-text`,
      mediaTypes: [type],
      durationMs: ms,
      tracks: [{ type, codec }],
    };
  },
  async join(clips) {
    const media: { readonly startMs: number; readonly medium: TextMedium }[] = [];
    for (const [index, { input, startMs }] of clips.entries()) {
      const medium = await readMedium(input);
      if (medium === null) throw new DocyardError("source_failed", `Fragment ${index + 1} is no media`);
      const first = media[0]?.medium ?? medium;
      for (const property of ["type", "codec"] as const) {
        if (medium[property] !== first[property]) {
          throw new DocyardError("policy_rejected", `Fragment ${index + 1} differs in ${property}`);
        }
      }
      media.push({ startMs, medium });
    }
    const ordered = media.toSorted((a, b) => a.startMs - b.startMs).map(({ medium }) => medium);
    const ms = ordered.reduce((sum, medium) => sum + medium.ms, 0);
    return textBody(`${ordered[0]!.type}:${ms}:${ordered.map(({ body }) => body).join("+")}`);
  },
  close: async () => {},
};
