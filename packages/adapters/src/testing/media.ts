/**
 * What reads media in the test double: docyard's own reader, loaded when the first artifact wants it, or a toy whose
 * files are text, for tests that are about the flow and not about media.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Media, MediaInput, SourceBody } from "@docyard/core";
import { DocyardError } from "@docyard/core";

/** `mediabunnyMedia` from its first use on, with a folder that `close` removes. */
export function mediaOnDemand(): Media {
  let opened: Promise<{ readonly media: Media; readonly scratchDir: string }> | undefined;
  const get = async (): Promise<Media> => {
    opened ??= (async () => {
      const { mediabunnyMedia } = await import("../media/mediabunny.ts");
      const scratchDir = await mkdtemp(join(tmpdir(), "docyard-double-"));
      return { scratchDir, media: mediabunnyMedia({ scratchDir }) };
    })();
    return (await opened).media;
  };
  return {
    contentType: async (...args) => (await get()).contentType(...args),
    probe: async (...args) => (await get()).probe(...args),
    join: async (...args) => (await get()).join(...args),
    async close() {
      if (opened === undefined) return;
      const { media, scratchDir } = await opened;
      await media.close();
      await rm(scratchDir, { recursive: true, force: true });
    },
  };
}

interface TextMedium {
  readonly type: "video" | "audio";
  readonly codec: string;
  readonly ms: number;
  readonly body: string;
}

/**
 * Media that are text: `video:3000:…` is three seconds of video, `audio:3000:…` of sound, `video/odd:3000:…` the same
 * with the codec `odd`; anything else is no media. Joins what has one type and codec.
 */
export function textMedia(): Media {
  return {
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
}

async function readMedium(input: MediaInput): Promise<TextMedium | null> {
  const text = new TextDecoder().decode(await input.read(0, input.size));
  const parts = /^(video|audio)(?:\/(\w+))?:(\d+):(.*)$/s.exec(text);
  if (parts === null) return null;
  const [, type, codec = "text", ms, body] = parts;
  return { type: type as TextMedium["type"], codec, ms: Number(ms), body: body! };
}

/** Text as a source would hand it out. */
export function textBody(text: string): SourceBody {
  const bytes = new TextEncoder().encode(text);
  return {
    size: bytes.length,
    contentType: null,
    body: (async function* () {
      yield bytes;
    })(),
  };
}
