/**
 * Real media for the Studio tests: small files that ffmpeg makes once, and any number of copies of them that differ in
 * content and in nothing that a viewer would see.
 */

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { MediaFile, MediaKind } from "../http/studio-target.ts";
import { ffprobe, openStudio, picture, tone } from "../media/ffmpeg.ts";

export interface MediaFiles {
  /** A file of this kind with bytes that no other has. */
  make(kind: MediaKind): Promise<MediaFile>;
  remove(): Promise<void>;
}

const H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"];
/** What ffmpeg is told, by the name of the file that it makes. */
const RECIPES: Readonly<Record<Exclude<MediaKind, "script">, readonly [name: string, ...args: string[]]>> = {
  video: ["film.mp4", ...picture(), ...tone(), ...H264, "-t", "2"],
  audio: ["voice.m4a", ...tone(), "-c:a", "aac", "-t", "3"],
  "video in another format": ["odd.mp4", ...picture("320x240", 30), ...tone(), ...H264, "-t", "2"],
};

export async function openMediaFiles(): Promise<MediaFiles> {
  const studio = await openStudio();
  const made = new Map<MediaKind, Promise<{ readonly bytes: Buffer; readonly seconds: number }>>();
  const read = async (name: string, args: readonly string[]) => {
    const path = await studio.make(name, ...args);
    return { bytes: await readFile(path), seconds: (await ffprobe(path)).duration };
  };
  return {
    async make(kind) {
      if (kind === "script")
        return { name: "film.srt", bytes: new TextEncoder().encode(subtitles()), seconds: null };
      const [name, ...args] = RECIPES[kind];
      const base = made.get(kind) ?? read(name, args);
      made.set(kind, base);
      const { bytes, seconds } = await base;
      return { name, bytes: new Uint8Array(Buffer.concat([bytes, freeBox(randomUUID())])), seconds };
    },
    remove: () => studio.remove(),
  };
}

function subtitles(): string {
  return `1\n00:00:01,000 --> 00:00:02,000\n${randomUUID()}\n`;
}

/** A box of ISO base media files that readers skip. */
function freeBox(text: string): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(8 + text.length);
  return Buffer.concat([size, Buffer.from(`free${text}`, "latin1")]);
}
