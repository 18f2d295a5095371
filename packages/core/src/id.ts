/** Identifiers: ULIDs behind a prefix, and Studio's 24 hex digits. Both sort by the time they were made. */

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** Of one id. */
const ENTROPY_BYTES = 10;

/** Makes ids that grow strictly within one process, also inside one millisecond. */
export interface IdSource {
  /** `prefix_` and a ULID: 48 bits of milliseconds, 80 random bits. */
  ulid(prefix: string): string;
  /** 24 hex digits (contract 61): 48 bits of milliseconds, 48 random bits. */
  hex24(): string;
}

/**
 * @param now milliseconds since 1970 UTC; may stand still or go back, ids still grow
 * @param random fills a buffer with unpredictable bytes
 */
export function createIdSource(
  now: () => number,
  random: (bytes: Uint8Array<ArrayBuffer>) => void = (bytes) => void crypto.getRandomValues(bytes),
): IdSource {
  let lastTime = -1;
  const entropy = new Uint8Array(ENTROPY_BYTES);
  // A call to the system for many ids at once: for one at a time it costs more than the rest of an id.
  const pool = new Uint8Array(100 * ENTROPY_BYTES);
  let used = pool.length;
  const refresh = (): void => {
    if (used === pool.length) {
      random(pool);
      used = 0;
    }
    entropy.set(pool.subarray(used, used + ENTROPY_BYTES));
    used += ENTROPY_BYTES;
  };

  /** Fresh randomness in a new millisecond, the old plus one in the same: that is what keeps ids growing. */
  const next = (): number => {
    const time = Math.max(now(), lastTime);
    if (time > lastTime) {
      refresh();
      // Room for increments: a leading 1 bit at the very top would leave none.
      entropy[0]! &= 0x7f;
      entropy[4]! &= 0x7f;
    } else {
      for (let i = entropy.length - 1; i >= 0; i--) {
        entropy[i] = (entropy[i]! + 1) & 0xff;
        if (entropy[i] !== 0) break;
      }
    }
    lastTime = time;
    return time;
  };

  return {
    ulid(prefix) {
      let time = next();
      let text = "";
      for (let i = 0; i < 10; i++) {
        text = CROCKFORD[time % 32]! + text;
        time = Math.floor(time / 32);
      }
      let bits = 0;
      let held = 0;
      for (const byte of entropy) {
        held = (held << 8) | byte;
        bits += 8;
        while (bits >= 5) {
          bits -= 5;
          text += CROCKFORD[(held >> bits) & 31]!;
        }
        held &= (1 << bits) - 1;
      }
      return `${prefix}_${text}`;
    },
    hex24() {
      const time = next().toString(16).padStart(12, "0");
      // The last six bytes: they hold the increments.
      return time + Array.from(entropy.subarray(4), (b) => b.toString(16).padStart(2, "0")).join("");
    },
  };
}

/** Digits of a ULID behind its time. */
const ULID_RANDOM_DIGITS = 16;

/**
 * An id of the same kind and time, whose random part follows from a digest.
 * @param hex at least 32 hex digits
 */
export function siblingId(id: string, hex: string): string {
  // The 48 bits of time that every `hex24` begins with are twelve digits.
  if (!id.includes("_")) return id.slice(0, 12) + hex.slice(0, 12);
  const random = Array.from(
    { length: ULID_RANDOM_DIGITS },
    (_, i) => CROCKFORD[Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16) % 32]!,
  );
  return id.slice(0, -ULID_RANDOM_DIGITS) + random.join("");
}

const SECRET_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** `prefix` and 43 letters and digits: 256 unpredictable bits, for client secrets and API keys. */
export function newSecret(prefix: string): string {
  let text = "";
  const bytes = new Uint8Array(64);
  while (text.length < 43) {
    for (const byte of crypto.getRandomValues(bytes)) {
      // 248 = 4 × 62: what lies above would favour the first letters.
      if (byte < 248 && text.length < 43) text += SECRET_ALPHABET[byte % 62]!;
    }
  }
  return prefix + text;
}
