/** The files of the Studio suites where media are text, each one of its own. */

import { randomUUID } from "node:crypto";
import type { MediaFile, MediaKind } from "./studio-target.ts";

const file = (name: string, text: string, seconds: number | null): MediaFile => ({
  name,
  bytes: new TextEncoder().encode(text),
  seconds,
});

export const MEDIA: Readonly<Record<MediaKind, () => MediaFile>> = {
  video: () => file("film.mp4", `video:138301:${randomUUID()}`, 138.301),
  audio: () => file("voice.m4a", `audio:61500:${randomUUID()}`, 61.5),
  script: () => file("film.srt", `1\n00:00:01,000 --> 00:00:02,000\n${randomUUID()}\n`, null),
  "video in another format": () => file("odd.mp4", `video/odd:5000:${randomUUID()}`, 5),
};
