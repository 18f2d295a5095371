/** Moments in the API: ISO 8601 as clients write it in queries, in the forms that contract 32 names, and as we do. */

const ISO =
  /^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:[Zz]|([+ -])(\d\d):?(\d\d)?)?)?$/;

/**
 * Milliseconds since 1970 UTC, or null for what is no date. A date alone is midnight UTC, a time without a zone is UTC;
 * a `+` that arrived as a space is understood. Parts of a millisecond are rounded up, which keeps both `>=` and `<`
 * exact against whole milliseconds.
 */
export function parseTime(text: string): number | null {
  const parts = ISO.exec(text);
  if (parts === null) return null;
  const number = (at: number): number => Number(parts[at] ?? 0);
  const [year, month, day, hour, minute, second] = [1, 2, 3, 4, 5, 6].map(number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const date = new Date(0);
  // Not Date.UTC: it takes the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(year, month - 1, day);
  const exists = date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  const [zoneHours, zoneMinutes] = [number(9), number(10)];
  if (!exists || hour > 23 || minute > 59 || second > 59 || zoneHours > 23 || zoneMinutes > 59) return null;
  const digits = (parts[7] ?? "").padEnd(3, "0");
  const fraction = Number(digits.slice(0, 3)) + (/[1-9]/.test(digits.slice(3)) ? 1 : 0);
  const zone = (zoneHours * 60 + zoneMinutes) * (parts[8] === "-" ? -60_000 : 60_000);
  return date.getTime() + ((hour * 60 + minute) * 60 + second) * 1_000 + fraction - zone;
}

const DAY_MS = 86_400_000;
/** Days by their number since 1970; a list shows rows of many and URLs that expire today. */
const dates = new Map<number, string>();
/** Days kept: more than most docks have. */
const DATES_MAX = 1_000;
/** The numbers that moments are made of, by themselves: `padStart` costs more than all the rest. */
const TWO: readonly string[] = Array.from({ length: 60 }, (_, number) => String(number).padStart(2, "0"));
const THREE: readonly string[] = Array.from({ length: 1_000 }, (_, number) =>
  String(number).padStart(3, "0"),
);

/** As `Date.prototype.toISOString`, which would be a twelfth of the time that a list takes. */
export function printTime(ms: number): string {
  const day = Math.floor(ms / DAY_MS);
  let date = dates.get(day);
  if (date === undefined) {
    [date = ""] = new Date(day * DAY_MS).toISOString().split("T");
    if (dates.size >= DATES_MAX) dates.clear();
    dates.set(day, date);
  }
  const rest = ms - day * DAY_MS;
  const [seconds, minutes] = [Math.floor(rest / 1_000), Math.floor(rest / 60_000)];
  const clock = `${TWO[Math.floor(minutes / 60)]}:${TWO[minutes % 60]}:${TWO[seconds % 60]}`;
  return `${date}T${clock}.${THREE[rest % 1_000]}Z`;
}
