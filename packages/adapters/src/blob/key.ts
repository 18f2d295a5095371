/**
 * Which keys a docyard blob store accepts: the one door that every key passes before it becomes a path or a URL.
 * Knows nothing of disks or HTTP; core makes the keys, so a refused one is a programmer's mistake.
 */

/** Longest key: its path must stay below the 4,096 bytes that Linux allows, root and sidecar suffix included. */
const KEY_LENGTH_MAX = 1024;
/** Longest segment: file systems allow 255 bytes for a name, and the checksum file beside a blob adds four. */
const KEY_SEGMENT_MAX = 250;
/** Suffix of the checksum file beside a large blob on disk; no key may end in it. */
export const SIDECAR_SUFFIX = ".crc";

/** A letter, digit or underscore first: rules out `.`, `..`, hidden names and names that look like options. */
const SEGMENTS = /^[A-Za-z0-9_][A-Za-z0-9_.-]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$/;

/** Why this text is no key, or null. */
export function keyFault(key: string): string | null {
  if (key.length === 0) return "is empty";
  if (key.length > KEY_LENGTH_MAX) return `is longer than ${KEY_LENGTH_MAX} characters`;
  if (!SEGMENTS.test(key)) {
    return "must be segments of A-Z a-z 0-9 _ . - joined by single slashes, none beginning with . or -";
  }
  if (key.length > KEY_SEGMENT_MAX && key.split("/").some(({ length }) => length > KEY_SEGMENT_MAX)) {
    return `has a segment longer than ${KEY_SEGMENT_MAX} characters`;
  }
  if (key.endsWith(SIDECAR_SUFFIX)) return `ends in ${SIDECAR_SUFFIX}, the name of a checksum file`;
  return null;
}

/**
 * Returns the key unchanged.
 * @throws TypeError when it is none: traversal, absolute paths, odd characters and reserved names all end here.
 */
export function checkKey(key: string): string {
  const fault = keyFault(key);
  if (fault !== null) throw new TypeError(`blob key ${JSON.stringify(key.slice(0, 80))} ${fault}`);
  return key;
}

/** Code unit order, as the port's `list` promises; `localeCompare` would differ. */
export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
