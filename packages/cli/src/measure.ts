/**
 * Sizes and durations as people write them: `5GiB`, `1h`, `1h30m`.
 * Pure; whoever asks knows what is too large.
 */

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1_000,
  mb: 1_000 ** 2,
  gb: 1_000 ** 3,
  tb: 1_000 ** 4,
  kib: 1_024,
  mib: 1_024 ** 2,
  gib: 1_024 ** 3,
  tib: 1_024 ** 4,
};

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Bytes, or null for what is not a size. Units are decimal (kB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB), in any case. */
export function parseSize(text: string): number | null {
  const match = /^(\d{1,16}(?:\.\d{1,6})?)\s?([a-z]{0,3})$/i.exec(text.trim());
  const unit = SIZE_UNITS[match?.[2]?.toLowerCase() ?? "-"];
  if (match === null || unit === undefined) return null;
  const bytes = Number(match[1]) * unit;
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** Milliseconds, or null for what is not a duration. A bare number is refused: too many programs mean something else by it. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (!/^(?:\d{1,15}(?:ms|[smhd]))+$/.test(trimmed)) return null;
  let total = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+)(ms|[smhd])/g)) {
    total += Number(count) * DURATION_UNITS_MS[unit!]!;
  }
  return Number.isSafeInteger(total) ? total : null;
}

/** As `parseSize` reads it, in the largest binary unit that leaves a whole number. */
export function printSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"]) {
    const factor = SIZE_UNITS[unit.toLowerCase()]!;
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}

/** For people, in three digits: what has been counted is hardly ever a whole number of anything. */
export function printRoughSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [bytes, 0];
  // What rounds to four digits would be printed as 1.00e+3.
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1_024;
  return `${unit === 0 ? Math.round(value) : value.toPrecision(3)} ${units[unit]}`;
}

/** As `parseDuration` reads it, in the largest unit that leaves a whole number. */
export function printDuration(ms: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    const factor = DURATION_UNITS_MS[unit]!;
    if (ms >= factor && ms % factor === 0) return `${ms / factor}${unit}`;
  }
  return `${ms}ms`;
}
