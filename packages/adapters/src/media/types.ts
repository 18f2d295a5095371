/**
 * The media type of some bytes: from their beginning where that tells, else from the name.
 * A label for clients, no verdict: whether a video really holds a picture is `probe`'s business.
 */

import { fileTypeFromBuffer } from "file-type";
import { lookup } from "mime-types";

/** Bytes that `sniffType` wants to see; enough for the first entries of a zipped document. */
export const SNIFF_SIZE: number = 64 * 1024;

/** What everything is that nobody knows. */
export const UNKNOWN_TYPE = "application/octet-stream";

/** Other names of a type, as libraries, browsers and servers write them, and the one docyard uses. */
const ALIASES: Readonly<Record<string, string>> = {
  "video/matroska": "video/x-matroska",
  "audio/matroska": "audio/x-matroska",
  "audio/x-m4a": "audio/mp4",
  "audio/m4a": "audio/mp4",
  "audio/mp4a-latm": "audio/mp4",
  "video/x-m4v": "video/mp4",
  "application/mp4": "video/mp4",
  "audio/x-flac": "audio/flac",
  "audio/opus": "audio/ogg",
  "audio/vorbis": "audio/ogg",
  "application/ogg": "audio/ogg",
  "video/vnd.avi": "video/x-msvideo",
  "video/avi": "video/x-msvideo",
  "video/msvideo": "video/x-msvideo",
  "audio/wave": "audio/wav",
  "audio/x-wav": "audio/wav",
  "audio/vnd.wave": "audio/wav",
  "audio/mp3": "audio/mpeg",
  "audio/x-mp3": "audio/mpeg",
  "audio/x-mpeg": "audio/mpeg",
  "audio/aacp": "audio/aac",
  "audio/x-aac": "audio/aac",
  "audio/x-hx-aac-adts": "audio/aac",
  "video/x-mpeg-ts": "video/mp2t",
  "text/srt": "application/x-subrip",
  "text/x-srt": "application/x-subrip",
  "text/x-ass": "text/x-ssa",
  "application/rtf": "text/rtf",
  "application/x-pdf": "application/pdf",
  "application/xml": "text/xml",
};

/** The name docyard uses for a type: lower case, without parameters, aliases resolved. */
export function canonicalType(type: string): string {
  const bare = (type.split(";", 1)[0] ?? "").trim().toLowerCase();
  return Object.hasOwn(ALIASES, bare) ? (ALIASES[bare] ?? bare) : bare;
}

/** Texts and subtitles have no signature; the name is all there is. `mime-types` does not know or disagrees on these. */
const BY_EXTENSION: Readonly<Record<string, string>> = {
  srt: "application/x-subrip",
  ass: "text/x-ssa",
  ssa: "text/x-ssa",
  vtt: "text/vtt",
  sbv: "text/plain",
  fountain: "text/plain",
  ttml: "application/ttml+xml",
  dfxp: "application/ttml+xml",
  // A transport stream where media are expected, whatever TypeScript says.
  ts: "video/mp2t",
  mts: "video/mp2t",
  m2ts: "video/mp2t",
};

/** Envelopes that say nothing about the letter: the name knows more. */
const ENVELOPES: ReadonlySet<string> = new Set(["application/zip", "application/x-cfb", "text/xml"]);

/**
 * The type of bytes that begin with `head`, for a file of this name.
 * @param head the first `SNIFF_SIZE` bytes, or all of a shorter file
 */
export async function sniffType(head: Uint8Array, filename: string): Promise<string> {
  const named = typeByName(filename);
  const sniffed = await typeByContent(head);
  if (sniffed === null || (ENVELOPES.has(sniffed) && named !== null)) return named ?? sniffed ?? UNKNOWN_TYPE;
  return sniffed;
}

async function typeByContent(head: Uint8Array): Promise<string | null> {
  try {
    const found = await fileTypeFromBuffer(head);
    return found === undefined ? null : canonicalType(found.mime);
  } catch {
    // A beginning that breaks the detector tells nothing.
    return null;
  }
}

function typeByName(filename: string): string | null {
  const dot = filename.lastIndexOf(".");
  if (dot < 0) return null;
  const extension = filename.slice(dot + 1).toLowerCase();
  if (Object.hasOwn(BY_EXTENSION, extension)) return BY_EXTENSION[extension] ?? null;
  const type = lookup(extension);
  return type === false ? null : canonicalType(type);
}
