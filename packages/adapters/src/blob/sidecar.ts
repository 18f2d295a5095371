/**
 * The checksum file beside a blob of more than one MiB: a CRC-32 per MiB, and the SHA-256 of the whole.
 * Prints and parses it and says whether it belongs to a file; reading and writing files is left to others.
 */

import { hash } from "node:crypto";
import type { BigIntStats } from "node:fs";

/** Bytes per checksum; a blob of at most this size needs no sidecar, because it is checked whole before it is sent. */
export const CHUNK_BYTES: number = 1024 * 1024;

export interface Checksums {
  /** Bytes. */
  readonly size: number;
  readonly digest: string;
  /** One CRC-32 per MiB, the last of what remains. */
  readonly crcs: readonly number[];
}

/** A file as the file system knows it: another one under the same name differs, and so does a changed one. */
export interface Fingerprint {
  readonly inode: string;
  /** Nanoseconds since 1970 UTC. */
  readonly modified: string;
}

export interface Sidecar extends Checksums {
  /** Which file it was made for: what `stat` may vouch for without reading. A restored copy has to be read once. */
  readonly file: Fingerprint;
}

export function fingerprintOf(stats: BigIntStats): Fingerprint {
  return { inode: `${stats.ino}`, modified: `${stats.mtimeNs}` };
}

export function sameFile(a: Fingerprint, b: Fingerprint): boolean {
  return a.inode === b.inode && a.modified === b.modified;
}

/** The most bytes that the sidecar of a blob of this size can have. */
export function sidecarBytesMax(size: number): number {
  return 512 + 11 * Math.ceil(size / CHUNK_BYTES);
}

/** One line of JSON that ends in a checksum of itself. */
export function printSidecar({ size, digest, crcs, file }: Sidecar): string {
  const body = JSON.stringify({
    version: 1,
    size,
    sha256: digest,
    inode: file.inode,
    modified: file.modified,
    crc32: crcs.map((crc) => crc.toString(16).padStart(8, "0")),
  });
  return `${body.slice(0, -1)},"check":"${hash("sha256", body)}"}\n`;
}

/** Null unless every character is as `printSidecar` prints it and the numbers agree with each other. */
export function parseSidecar(text: string): Sidecar | null {
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
  if (typeof raw !== "object" || raw === null || !Array.isArray(raw["crc32"])) return null;
  const sidecar: Sidecar = {
    size: Number(raw["size"]),
    digest: String(raw["sha256"]),
    crcs: raw["crc32"].map((crc) => Number.parseInt(String(crc), 16)),
    file: { inode: String(raw["inode"]), modified: String(raw["modified"]) },
  };
  const consistent = sidecar.crcs.length === Math.ceil(sidecar.size / CHUNK_BYTES);
  return consistent && printSidecar(sidecar) === text ? sidecar : null;
}
