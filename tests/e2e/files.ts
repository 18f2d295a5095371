/**
 * Files to send: endless-looking streams that are told by a seed, and small real documents written byte by byte.
 * Makes bytes and knows their digests; sends nothing.
 */

import { createCipheriv, createHash } from "node:crypto";
import { crc32, deflateSync } from "node:zlib";

/** Bytes of a stream's block: the size in which servers and sockets like them. */
const BLOCK_BYTES = 64 * 1024;

/**
 * `size` bytes that depend on the seed alone, made as they are read. Blocks carry their number, so that no two of a
 * stream, and no two streams, are alike: a server that mixes them up cannot get the digest right.
 */
export function* blocksOf(seed: string, size: number): Generator<Buffer> {
  const base = seededBytes(seed, BLOCK_BYTES);
  for (let at = 0; at < size; at += BLOCK_BYTES) {
    const block = Buffer.from(base.subarray(0, Math.min(BLOCK_BYTES, size - at)));
    block.write(String(at), 0, "latin1");
    yield block;
  }
}

/** SHA-256 of what `blocksOf` yields, as 64 hex digits. */
export function digestOfBlocks(seed: string, size: number): string {
  const hash = createHash("sha256");
  for (const block of blocksOf(seed, size)) hash.update(block);
  return hash.digest("hex");
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Bytes that a seed decides: the key stream of AES in counter mode. */
export function seededBytes(seed: string, size: number): Buffer {
  const key = createHash("sha256").update(seed).digest();
  return createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/** A PDF of one page with one line of text; opens in any reader. */
export function pdf(line: string): Buffer {
  const text = `BT /F1 24 Tf 72 720 Td (${line.replaceAll(/[\\()]/g, "\\$&")}) Tj ET`;
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
    `<< /Length ${text.length} >>\nstream\n${text}\nendstream`,
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
  ];
  let body = "%PDF-1.4\n";
  const offsets: number[] = [];
  for (const [index, object] of objects.entries()) {
    offsets.push(body.length);
    body += `${index + 1} 0 obj\n${object}\nendobj\n`;
  }
  const entries = offsets.map((offset) => `${String(offset).padStart(10, "0")} 00000 n \n`).join("");
  const count = objects.length + 1;
  return Buffer.from(
    `${body}xref\n0 ${count}\n0000000000 65535 f \n${entries}` +
      `trailer\n<< /Size ${count} /Root 1 0 R >>\nstartxref\n${body.length}\n%%EOF\n`,
    "latin1",
  );
}

/** A PNG of `width` by `height` pixels in noise of that seed. */
export function png(seed: string, width: number, height: number): Buffer {
  const rows = Array.from({ length: height }, (_, row) =>
    // Filter type 0, then 3 bytes a pixel.
    Buffer.concat([Buffer.of(0), seededBytes(`${seed}:${row}`, 3 * width)]),
  );
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB, deflate, standard filters, no interlace
  const chunk = (type: string, data: Buffer): Buffer => {
    const named = Buffer.concat([Buffer.from(type, "latin1"), data]);
    return Buffer.concat([uint32(data.length), named, uint32(crc32(named))]);
  };
  return Buffer.concat([
    Buffer.from("89504e470d0a1a0a", "hex"),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(Buffer.concat(rows))),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** An MP4 of one uncompressed mono sound track (16 bit, 8 kHz) of that many seconds. */
export function mp4(seed: string, seconds: number): Buffer {
  const rate = 8_000;
  const frames = Math.round(rate * seconds);
  const samples = seededBytes(seed, 2 * frames);
  const brand = box("ftyp", Buffer.from("isom\0\0\x02\0isommp41", "latin1"));
  const data = box("mdat", samples);
  const matrix = uint32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);

  const entry = box(
    "sowt",
    Buffer.concat([
      Buffer.alloc(6),
      uint16(1), // data reference
      Buffer.alloc(8),
      uint16(1), // channels
      uint16(16), // bits
      Buffer.alloc(4),
      uint32(rate * 65_536),
    ]),
  );
  const table = box(
    "stbl",
    fullBox("stsd", uint32(1), entry),
    fullBox("stts", uint32(1, frames, 1)),
    fullBox("stsc", uint32(1, 1, frames, 1)),
    fullBox("stsz", uint32(2, frames)),
    fullBox("stco", uint32(1, brand.length + 8)),
  );
  const media = box(
    "mdia",
    fullBox("mdhd", uint32(0, 0, rate, frames), uint16(0x55c4, 0)),
    fullBox("hdlr", uint32(0), Buffer.from("soun", "latin1"), Buffer.alloc(12), Buffer.from("sound\0")),
    box(
      "minf",
      fullBox("smhd", uint32(0)),
      box("dinf", fullBox("dref", uint32(1), box("url ", uint32(1)))),
      table,
    ),
  );
  const track = box(
    "trak",
    box(
      "tkhd",
      uint32(7), // enabled, in movie, in preview
      uint32(0, 0, 1, 0, frames, 0, 0),
      uint16(0, 0, 0x0100, 0), // layer, group, volume
      matrix,
      uint32(0, 0), // width, height
    ),
    media,
  );
  const movie = box(
    "moov",
    fullBox(
      "mvhd",
      uint32(0, 0, rate, frames, 0x10000),
      uint16(0x0100), // volume
      Buffer.alloc(10),
      matrix,
      Buffer.alloc(24),
      uint32(2), // next track
    ),
    track,
  );
  return Buffer.concat([brand, data, movie]);
}

function box(type: string, ...content: readonly Buffer[]): Buffer {
  const size = content.reduce((sum, part) => sum + part.length, 8);
  return Buffer.concat([uint32(size), Buffer.from(type, "latin1"), ...content]);
}

/** A box with version 0 and no flags. */
function fullBox(type: string, ...content: readonly Buffer[]): Buffer {
  return box(type, uint32(0), ...content);
}

function uint16(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt16BE(value, 2 * index);
  return bytes;
}

function uint32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * index);
  return bytes;
}
