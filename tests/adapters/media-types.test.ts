/**
 * Media types from bytes and names, and the many names of one type.
 */

import {
  SNIFF_SIZE,
  UNKNOWN_TYPE,
  canonicalType,
  sniffType,
} from "../../packages/adapters/src/media/types.ts";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

test("law: any bytes and any name give a type, quickly and without parameters", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), fc.string(), async (head, name) => {
      expect(await sniffType(head, name)).toMatch(/^[a-z]+\/[a-z0-9][a-z0-9.+_-]*$/);
    }),
    { numRuns: 300 },
  );
});

test("law: a canonical type is its own canonical type", () => {
  const type = fc.constantFrom(
    "audio/x-m4a",
    "VIDEO/MATROSKA",
    "audio/ogg; codecs=opus",
    "audio/vnd.wave",
    "x/y",
  );
  fc.assert(
    fc.property(fc.oneof(type, fc.string()), (type) => {
      expect(canonicalType(canonicalType(type))).toBe(canonicalType(type));
    }),
  );
});

describe("a name without telling bytes", () => {
  test.each([
    ["script.txt", "text/plain"],
    ["subs.srt", "application/x-subrip"],
    ["subs.SRT", "application/x-subrip"],
    ["subs.vtt", "text/vtt"],
    ["subs.ass", "text/x-ssa"],
    ["subs.ssa", "text/x-ssa"],
    ["subs.ttml", "application/ttml+xml"],
    ["script.pdf", "application/pdf"],
    ["script.doc", "application/msword"],
    ["script.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
    ["script.rtf", "text/rtf"],
    ["script.fountain", "text/plain"],
    ["data.json", "application/json"],
    ["movie.ts", "video/mp2t"],
    ["movie.mkv", "video/x-matroska"],
    ["sound.m4a", "audio/mp4"],
    ["sound.opus", "audio/ogg"],
    ["archive.tar.gz", "application/gzip"],
    ["mp4", UNKNOWN_TYPE],
    ["", UNKNOWN_TYPE],
    [".", UNKNOWN_TYPE],
    ["x.unheard-of", UNKNOWN_TYPE],
    ["x.constructor", UNKNOWN_TYPE],
  ])("%s is %s", async (name, type) => {
    expect(await sniffType(bytes("plain words"), name)).toBe(type);
  });
});

describe("bytes tell more than a name", () => {
  test.each([
    ["a PDF", bytes("%PDF-1.7\n"), "script.txt", "application/pdf"],
    ["a WAV", bytes("RIFF\x24\0\0\0WAVEfmt "), "x.mp3", "audio/wav"],
    ["an AVI", bytes("RIFF\x24\0\0\0AVI LIST"), "x.mp4", "video/x-msvideo"],
    [
      "a PNG",
      Buffer.from("89504e470d0a1a0a0000000d4948445200000001000000010806000000", "hex"),
      "x.mp4",
      "image/png",
    ],
    ["a FLAC", bytes("fLaC\0\0\0\x22"), "x", "audio/flac"],
    [
      "an mp4",
      Buffer.from("0000001866747970697 36f6d0000020069736f6d69736f32".replace(" ", ""), "hex"),
      "x",
      "video/mp4",
    ],
    ["an m4a", Buffer.from("00000018667479704d344120000002004d34412069736f32", "hex"), "x", "audio/mp4"],
  ])("%s", async (_, head, name, type) => {
    expect(await sniffType(head, name)).toBe(type);
  });

  test("but an envelope tells less", async () => {
    const zip = Buffer.from("504b0304140000000800", "hex");
    const word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    expect(await sniffType(zip, "script.docx")).toBe(word);
    expect(await sniffType(zip, "script")).toBe("application/zip");
    const compound = Buffer.concat([Buffer.from("d0cf11e0a1b11ae1", "hex"), Buffer.alloc(600)]);
    expect(await sniffType(compound, "script.doc")).toBe("application/msword");
  });

  test("whatever is in the first bytes, the detector comes to an end", async () => {
    // Headers of containers whose detectors walk chunks, followed by nothing useful.
    for (const start of [
      "RIFF",
      "OggS",
      "\x1aE\xdf\xa3",
      "PK\x03\x04",
      "0&\xb2u\x8ef\xcf\x11",
      "ID3\x04\0\0\x7f\x7f\x7f\x7f",
      "\x89PNG\r\n\x1a\n",
    ]) {
      expect(await sniffType(Buffer.concat([bytes(start), Buffer.alloc(SNIFF_SIZE)]), "x.bin")).toMatch(/\//);
    }
  });
});

test.each([
  ["video/matroska", "video/x-matroska"],
  ["audio/x-m4a", "audio/mp4"],
  ["audio/x-flac", "audio/flac"],
  ["audio/ogg; codecs=opus", "audio/ogg"],
  ["video/vnd.avi", "video/x-msvideo"],
  ["Audio/WAVE", "audio/wav"],
  ["audio/mp3", "audio/mpeg"],
])("%s is %s", (one, canonical) => {
  expect(canonicalType(one)).toBe(canonical);
});

test("unlike types are unlike", () => {
  expect(canonicalType("video/mp4")).not.toBe(canonicalType("audio/mp4"));
  expect(canonicalType("constructor")).toBe("constructor");
});
