/**
 * Laws of `artifact.ts`: the status table, filenames, folded names and digests.
 * What the store does with them is in model.test.ts; SQL constraints are the conformance suite's.
 */
import type { Artifact, ArtifactStatus, Transition } from "@docyard/core";
import {
  FILENAME_BYTES_MAX,
  filenameFault,
  foldName,
  isDocyardError,
  nextStatus,
  parseDigest,
  statusAfter,
} from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { artifactRow } from "./rows.ts";

const STATUSES = [
  "created",
  "upload_started",
  "upload_completed",
  "upload_failed",
  "deleted",
] as const satisfies readonly ArtifactStatus[];

const TRANSITIONS = ["begin", "retry", "finish", "fail", "remove"] as const satisfies readonly Transition[];

/** Every legal move, written out a second time and in another shape than the source has it. */
const LEGAL = new Set([
  "created begin upload_started",
  "created finish upload_completed",
  "created fail upload_failed",
  "created remove deleted",
  "upload_started begin upload_started",
  "upload_started retry upload_started",
  "upload_started finish upload_completed",
  "upload_started fail upload_failed",
  "upload_started remove deleted",
  "upload_completed remove deleted",
  "upload_failed remove deleted",
]);

describe("the status table", () => {
  const pairs = STATUSES.flatMap((status) => TRANSITIONS.map((transition) => [status, transition] as const));

  test.each(pairs)("%s + %s", (status, transition) => {
    const after = statusAfter(status, transition);
    const legal = [...LEGAL].filter((move) => move.startsWith(`${status} ${transition} `));
    expect(after === null ? [] : [`${status} ${transition} ${after}`]).toEqual(legal);

    const artifact = artifactRow({ status });
    if (after === null) {
      const refused = caught(() => nextStatus(artifact, transition));
      expect(isDocyardError(refused, "failed_precondition")).toBe(true);
      expect((refused as Error).message).toContain(status);
    } else {
      expect(nextStatus(artifact, transition)).toBe(after);
    }
  });

  test("nothing leads out of deleted", () => {
    for (const transition of TRANSITIONS) expect(statusAfter("deleted", transition)).toBeNull();
  });

  test("only remove leads out of an ended upload", () => {
    for (const status of ["upload_completed", "upload_failed"] as const) {
      for (const transition of TRANSITIONS) {
        expect(statusAfter(status, transition)).toBe(transition === "remove" ? "deleted" : null);
      }
    }
  });

  /** The row as the commands know it: `ended` and `dead` follow from history alone, not from the table. */
  interface Model {
    history: Transition[];
  }
  interface Real {
    artifact: Artifact;
  }

  class Move implements fc.Command<Model, Real> {
    readonly transition: Transition;
    constructor(transition: Transition) {
      this.transition = transition;
    }
    check(): boolean {
      return true;
    }
    run(model: Model, real: Real): void {
      const dead = model.history.includes("remove");
      const ended = model.history.includes("finish") || model.history.includes("fail");
      const begun = model.history.includes("begin");
      const allowed = {
        begin: !dead && !ended,
        retry: !dead && !ended && begun,
        finish: !dead && !ended,
        fail: !dead && !ended,
        remove: !dead,
      }[this.transition];
      const before = real.artifact;
      if (!allowed) {
        expect(() => nextStatus(before, this.transition)).toThrow(before.status);
        expect(real.artifact).toBe(before);
        return;
      }
      real.artifact = { ...before, status: nextStatus(before, this.transition) };
      model.history.push(this.transition);
      expect(rank(real.artifact.status)).toBeGreaterThanOrEqual(rank(before.status));
    }
    toString(): string {
      return this.transition;
    }
  }

  test("any sequence of transitions: a row ends once, dies once and never moves back", () => {
    fc.assert(
      fc.property(
        fc.commands(
          TRANSITIONS.map((transition) => fc.constant(new Move(transition))),
          { maxCommands: 40 },
        ),
        (commands) => {
          fc.modelRun(() => ({ model: { history: [] }, real: { artifact: artifactRow({}) } }), commands);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe("filenames", () => {
  test.each(HOSTILE_BUT_FINE())("keeps %j verbatim", (name) => {
    expect(filenameFault(name)).toBeNull();
    expect(JSON.parse(JSON.stringify({ name }))).toEqual({ name });
  });

  test.each(REFUSED())("refuses %j", (name) => {
    expect(filenameFault(name)).toMatch(/^filename .{5,80}$/);
  });

  test("there are at least 200 hostile names, each tried once", () => {
    const names = [...HOSTILE_BUT_FINE(), ...REFUSED()];
    expect(new Set(names).size).toBe(names.length);
    expect(names.length).toBeGreaterThanOrEqual(200);
  });

  test("the length limit is in bytes of UTF-8 and exact", () => {
    for (const [letter, width] of [
      ["a", 1],
      ["é", 2],
      ["字", 3],
      ["😀", 4],
    ] as const) {
      const most = Math.floor(FILENAME_BYTES_MAX / width);
      expect(filenameFault(letter.repeat(most))).toBeNull();
      expect(filenameFault(letter.repeat(most + 1))).toContain("at most");
    }
  });

  test("every refused code point is refused wherever it stands, every other one is kept", () => {
    // Written out again on purpose: the ranges that must never reach a header, a terminal or a path.
    const refused = (code: number): boolean =>
      code <= 0x1f ||
      (code >= 0x7f && code <= 0x9f) ||
      code === 0x2f ||
      code === 0x5c ||
      code === 0x2028 ||
      code === 0x2029 ||
      (code >= 0x202a && code <= 0x202e) ||
      (code >= 0x2066 && code <= 0x2069) ||
      (code >= 0xd800 && code <= 0xdfff);
    const wrong: string[] = [];
    for (let code = 0; code <= 0x10ffff; code++) {
      const char = String.fromCodePoint(code);
      const isRefused = filenameFault(`a${char}b`) !== null;
      if (isRefused !== refused(code)) wrong.push(code.toString(16));
    }
    expect(wrong).toEqual([]);
  });

  test("an accepted name survives JSON and UTF-8 and names no directory", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (name) => {
        fc.pre(filenameFault(name) === null);
        expect(JSON.parse(JSON.stringify(name))).toBe(name);
        const bytes = new TextEncoder().encode(name);
        expect(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)).toBe(name);
        expect(bytes.length).toBeLessThanOrEqual(FILENAME_BYTES_MAX);
        expect(name.split(/[/\\]/)).toEqual([name]);
        expect(["", ".", ".."]).not.toContain(name);
      }),
      { numRuns: 500 },
    );
  });

  test("a huge name is refused, not searched", () => {
    expect(filenameFault("a".repeat(5_000_000))).toContain("at most");
  });
});

describe("foldName", () => {
  const text = fc.string({ unit: "binary", maxLength: 20 });
  /** Letters whose case is not one to one, marks that combine, Hangul parts, final sigma. */
  const tricky = fc
    .array(
      fc.constantFrom(
        ...Array.from("aZéÉßẞİıΣσςſKÅΐΰŉǰẖHJTWYﬁﬀЁё"),
        "\u0301",
        "\u0308",
        "\u030c",
        "\u030a",
        "\u0331",
        "\u0345",
        "\u0323",
        "\u1100",
        "\u1161",
        "\u11a8",
        "각",
        "𐐀",
        "𐐨",
        " ",
        ".",
        "_",
        "%",
      ),
      { maxLength: 12 },
    )
    .map((parts) => parts.join(""));
  const name = fc.oneof(text, tricky);

  test("folding twice is folding once", () => {
    fc.assert(
      fc.property(name, (name) => {
        expect(foldName(foldName(name))).toBe(foldName(name));
      }),
      { numRuns: 2_000 },
    );
  });

  test("is blind to case, for every code point there is", () => {
    const wrong: string[] = [];
    for (let code = 0; code <= 0x10ffff; code++) {
      if (code >= 0xd800 && code <= 0xdfff) continue;
      const char = String.fromCodePoint(code);
      const folded = foldName(char);
      if (foldName(char.toUpperCase()) !== folded || foldName(char.toLowerCase()) !== folded) {
        wrong.push(code.toString(16));
      }
    }
    expect(wrong).toEqual([]);
  });

  test("is blind to how a letter is composed", () => {
    fc.assert(
      fc.property(name, (name) => {
        expect(foldName(name.normalize("NFD"))).toBe(foldName(name));
        expect(foldName(name.normalize("NFC"))).toBe(foldName(name));
      }),
      { numRuns: 1_000 },
    );
  });

  /** Whether `right` stands on its own behind anything: it begins neither with a mark nor with a Hangul vowel or tail. */
  const startsFresh = (right: string): boolean => !/^[\p{M}\u1160-\u11ff]/u.test(right);

  test("a folded part is found in the folded whole, wherever a name may be cut between letters", () => {
    fc.assert(
      fc.property(name, name, name, (before, part, after) => {
        fc.pre(before.isWellFormed() && part.isWellFormed() && after.isWellFormed());
        fc.pre(startsFresh(part) && startsFresh(after));
        expect(foldName(before + part + after)).toContain(foldName(part));
        expect(foldName(before + part + after)).toBe(foldName(before) + foldName(part) + foldName(after));
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ["ΟΔΥΣΣΕΥΣ.pdf", "οδυσσευς"],
    ["οδυσσευς.pdf", "ΟΔΥΣΣΕΥΣ"],
    ["ΟΔΥΣΣΕΥΣ", "οδυσ"],
    ["Straße.pdf", "STRASSE"],
    ["STRASSE.pdf", "straße"],
    ["Résumé.pdf", "RE\u0301SUME\u0301"],
    ["re\u0301sume\u0301.pdf", "RÉSUMÉ"],
    ["İstanbul.txt", "i\u0307stanbul"],
    ["H\u0331.txt", "\u1e96"],
    ["REPORT 50%.csv", "50%"],
    ["a_b.txt", "A_B"],
  ])("%s is found by %s", (name, search) => {
    expect(foldName(name)).toContain(foldName(search));
  });

  test.each([
    ["a_b.txt", "axb"],
    ["caf\u00e9", "cafe"],
    ["50%.csv", "5%.csv"],
  ])("%s is not found by %s", (name, search) => {
    expect(foldName(name)).not.toContain(foldName(search));
  });
});

describe("parseDigest", () => {
  const hex = fc.string({
    unit: fc.constantFrom(...Array.from("0123456789abcdefABCDEF")),
    minLength: 64,
    maxLength: 64,
  });

  test("reads bare and prefixed digests of any case as one", () => {
    fc.assert(
      fc.property(hex, fc.constantFrom("", "sha256:", "SHA256:", "Sha256:"), (digits, prefix) => {
        expect(parseDigest(prefix + digits)).toBe(digits.toLowerCase());
        expect(parseDigest(parseDigest(prefix + digits)!)).toBe(digits.toLowerCase());
      }),
    );
  });

  test("what it accepts is 64 lower-case hex digits, what it does not is null", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: "binary" }),
          fc.tuple(hex, fc.nat(63), fc.string({ unit: "binary", maxLength: 2 })).map(
            // One place of a good digest replaced by something else.
            ([digits, at, other]) => digits.slice(0, at) + other + digits.slice(at + 1),
          ),
        ),
        (text) => {
          const digest = parseDigest(text);
          if (digest !== null) {
            expect(digest).toMatch(/^[0-9a-f]{64}$/);
            expect(text.toLowerCase().endsWith(digest)).toBe(true);
          }
        },
      ),
      { numRuns: 1_000 },
    );
  });

  const ok = "0123456789abcdef".repeat(4);
  test.each([
    "",
    "sha256:",
    ok.slice(1),
    `${ok}0`,
    ` ${ok}`,
    `${ok} `,
    `${ok}\n`,
    `sha256: ${ok}`,
    `sha256-${ok}`,
    `sha256:sha256:${ok}`,
    `md5:${ok}`,
    `sha512:${ok}${ok}`,
    `ſha256:${ok}`,
    `g${ok.slice(1)}`,
    `０${ok.slice(1)}`,
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
  ])("refuses %j", (text) => {
    expect(parseDigest(text)).toBeNull();
  });
});

function rank(status: ArtifactStatus): number {
  return { created: 0, upload_started: 1, upload_completed: 2, upload_failed: 2, deleted: 3 }[status];
}

function caught(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("expected it to throw");
}

/** Odd, but every one is somebody's real file name, and none can hurt what only ever quotes it (lesson R-28). */
function HOSTILE_BUT_FINE(): string[] {
  const devices = [
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "COM1",
    "COM9",
    "LPT1",
    "LPT9",
    "CLOCK$",
    "con.txt",
    "nul.tar.gz",
  ];
  const quoting = [
    `"`,
    `""`,
    `'`,
    "`",
    `";`,
    `"; filename="x.exe`,
    `a"b.txt`,
    "a;b.txt",
    "a,b.txt",
    "a=b",
    `filename*=UTF-8''x`,
  ];
  const markup = [
    "<script>alert(1)</script".replaceAll("/", "|"),
    "<img src=x onerror=alert(1)>",
    "&lt;",
    "{{7*7}}",
    "${7*7}",
    "#{7*7}",
    "<%= 7*7 %>",
    "<svg onload=alert(1)>",
    "]]>",
    "<!--",
    "-->",
  ];
  const shell = [
    "-rf",
    "--help",
    "-",
    "--",
    "; rm -rf ~",
    "$(reboot)",
    "`reboot`",
    "| cat",
    "&& ls",
    "> out",
    "< in",
    "*",
    "?",
    "[a-z]",
    "~",
    "~root",
    "!history",
    "%PATH%",
    "$HOME",
    "a b",
    "a\u00a0b",
    "#",
    "#!",
    "file&",
    "@file",
    "=cmd|' '!A0",
    "+1",
    "%s%n%x",
    "%00",
    "%2e%2e%2f",
    "..%2f",
    "%0d%0aSet-Cookie: a=b",
  ];
  const sql = [
    "'; DROP TABLE artifacts; --",
    "1' OR '1'='1",
    `" OR ""="`,
    "%",
    "_",
    "%%",
    "a%b_c",
    "\u02bc",
    "Robert'); --",
    "x' AND SLEEP(5)--",
    "NULL",
    "null",
    "undefined",
    "true",
    "0",
    "-1",
    "1e400",
    "NaN",
    "Infinity",
    "__proto__",
    "constructor",
    "prototype",
    "toString",
    "hasOwnProperty",
    "then",
    "toJSON",
  ];
  const dots = [
    "...Array.from(",
    ")....Array.from(",
    "). .",
    ".hidden",
    "..hidden",
    "a.",
    "a..",
    "a. ",
    " a",
    " ",
    "  ",
    ".git",
    ".env",
    "a..b",
    "..a",
    "…",
    "‥",
    "．．",
    ". ",
  ];
  const unicode = [
    "é",
    "e\u0301",
    "ﬁ",
    "ﬀ",
    "İ",
    "ı",
    "ß",
    "ẞ",
    "Σίσυφος",
    "ΣΑΣ",
    "ǆ",
    "Ǆ",
    "ŉ",
    "日本語.txt",
    "한글.hwp",
    "\u1112\u1161\u11ab.hwp",
    "العربية.pdf",
    "עברית.doc",
    "हिन्दी.txt",
    "ไทย.txt",
    "русский.doc",
    "emoji😀.png",
    "👨‍👩‍👧‍👦.jpg",
    "🏳️‍🌈",
    "🇩🇪",
    "a\u200bb",
    "\ufeffbom.txt",
    "a\u200db",
    "a\u200eb",
    "a\u200fb",
    "a\u061cb",
    "\u00ad",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
    "\ufffd",
    "\uffff",
    "\ufdd0",
    "\u{10ffff}",
    "𝕳𝖊𝖑𝖑𝖔",
    "ｆｕｌｌ",
    "／etc／passwd",
    "＼",
    "∕etc∕passwd",
    "⧵",
    "a∶b",
    "C:",
    "C:x",
    "file:",
    "http:example",
    "a:b",
    "a|b",
    "١٢٣",
    "½",
    "①",
    "™",
    "Ω",
    "Å",
    "K",
    "µ",
    "\ue000",
    "𐀀",
    "\u3000",
    "\u2003",
    "\u202f",
    "\u205f",
  ];
  const long = [
    "a".repeat(255),
    "é".repeat(127),
    `${"字".repeat(84)}abc`,
    `${"😀".repeat(63)}abc`,
    `.${"x".repeat(254)}`,
    `${"a".repeat(251)}.pdf`,
  ];
  return [...devices, ...quoting, ...markup, ...shell, ...sql, ...dots, ...unicode, ...long];
}

/** What no face may accept: separators, controls, overrides, broken Unicode, nothing, too much. */
function REFUSED(): string[] {
  const paths = [
    "/",
    "\\",
    "a/b",
    "a\\b",
    "../x",
    "..\\x",
    "/etc/passwd",
    "C:\\x",
    "\\\\server\\share",
    "a/",
    "./a",
    "x/../y",
  ];
  const controls = [
    "\0",
    "a\0",
    "\0a",
    "a\0.pdf",
    "a\nb",
    "a\rb",
    "a\r\nb",
    "a\tb",
    "\u001b[31m",
    "a\u007f",
    "a\u0080",
    "a\u0085b",
    "a\u009f",
    "\u0001",
    "\u001f",
    "a\u2028b",
    "a\u2029b",
  ];
  const overrides = [
    "\u202a",
    "\u202b",
    "\u202c",
    "\u202d",
    "\u202e",
    "inv\u202efdp.exe",
    "\u2066a",
    "\u2067a",
    "\u2068a",
    "a\u2069",
  ];
  const broken = ["\ud800", "\udc00", "a\ud83d", "\ude00b", "\udc00\ud800", "a\ud800b"];
  const lengths = [
    "",
    ".",
    "..",
    "a".repeat(256),
    "é".repeat(128),
    "字".repeat(86),
    "😀".repeat(64),
    "x".repeat(100_000),
  ];
  return [...paths, ...controls, ...overrides, ...broken, ...lengths];
}
