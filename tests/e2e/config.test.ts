/**
 * How options are read: sizes and times as people write them, where a value may be said, and which saying wins.
 * What a running server does with them is in cli.test.ts and lifecycle.test.ts.
 */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  flagOf,
  OPTION_NAMES,
  OPTIONS,
  readConfig,
  suggestion,
  unknownVariables,
  variableOf,
} from "../../packages/cli/src/config.ts";
import {
  parseDuration,
  parseSize,
  printDuration,
  printRoughSize,
  printSize,
} from "../../packages/cli/src/measure.ts";
import { withoutSecrets } from "../../packages/cli/src/targets.ts";
import { tempFolder } from "./program.ts";

let folder: Awaited<ReturnType<typeof tempFolder>>;

beforeAll(async () => {
  folder = await tempFolder();
});

afterAll(() => folder.remove());

const flags = (said: Readonly<Record<string, string | readonly string[]>>): Map<string, readonly string[]> =>
  new Map(
    Object.entries(said).map(([name, value]) => [name, typeof value === "string" ? [value] : value] as const),
  );

async function configFile(content: unknown): Promise<string> {
  const path = join(folder.path, "docyard.json");
  await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

describe("sizes and times", () => {
  test("what is printed is read back", () => {
    const count = fc.oneof(fc.maxSafeNat(), fc.nat(), fc.nat(5_000));
    fc.assert(
      fc.property(count, (bytes) => {
        expect(parseSize(printSize(bytes))).toBe(bytes);
      }),
    );
    const ms = fc.oneof(fc.nat(2 ** 40), fc.nat(1_000));
    fc.assert(
      fc.property(ms, (time) => {
        expect(parseDuration(printDuration(time))).toBe(time);
      }),
    );
  });

  test("no text makes anything but a whole, safe number or nothing", () => {
    const text = fc.oneof(fc.string(), fc.stringMatching(/^\d{1,20}(\.\d{1,9})?\s?[a-zA-Z]{0,4}$/));
    fc.assert(
      fc.property(text, (said) => {
        for (const value of [parseSize(said), parseDuration(said)]) {
          expect(value === null || (Number.isSafeInteger(value) && value >= 0)).toBe(true);
        }
      }),
    );
  });

  test.each([
    [0, "0 B"],
    [999, "999 B"],
    [1_000, "0.977 KiB"],
    [1_024, "1.00 KiB"],
    [1_023_700, "0.976 MiB"],
    [1_536_000, "1.46 MiB"],
    [5 * 1_024 ** 4, "5.00 TiB"],
  ])("%d bytes are %s to people", (bytes, text) => {
    expect(printRoughSize(bytes)).toBe(text);
  });

  test("what people read has three digits, and is right to one in two hundred", () => {
    fc.assert(
      fc.property(fc.oneof(fc.nat(999_500), fc.nat(2 ** 49)), (bytes) => {
        const text = printRoughSize(bytes);
        expect(text).toMatch(/^(?:\d{1,3}|0\.\d{3}|\d\.\d{2}|\d{2}\.\d) [KMGT]?i?B$/);
        const [value, unit] = text.split(" ") as [string, string];
        expect(Math.abs(Number(value) * parseSize(`1${unit}`)! - bytes)).toBeLessThanOrEqual(bytes / 200);
      }),
    );
  });

  test.each([
    ["0", 0],
    ["1024", 1024],
    ["1kB", 1000],
    ["1KiB", 1024],
    ["5GiB", 5 * 1024 ** 3],
    ["5gib", 5 * 1024 ** 3],
    ["1.5 MiB", 1.5 * 1024 ** 2],
    ["2TB", 2e12],
    ["5G", null],
    ["0.3B", null],
    ["-1", null],
    ["1e9", null],
    ["", null],
    ["9007199254740992", null],
  ])("the size %j is %j", (said, bytes) => {
    expect(parseSize(said)).toBe(bytes);
  });

  test.each([
    ["90s", 90_000],
    ["30m", 1_800_000],
    ["1h30m", 5_400_000],
    ["7d", 604_800_000],
    ["250ms", 250],
    ["60", null],
    ["1.5h", null],
    ["1H", null],
    ["", null],
    ["h", null],
  ])("the time %j is %j", (said, ms) => {
    expect(parseDuration(said)).toBe(ms);
  });
});

describe("where options are said", () => {
  test("each has a flag, a variable and a default that is a valid value", () => {
    expect(new Set(OPTION_NAMES.map(flagOf)).size).toBe(OPTION_NAMES.length);
    expect(new Set(OPTION_NAMES.map(variableOf)).size).toBe(OPTION_NAMES.length);
    expect(flagOf("limitDownload")).toBe("limit-download");
    expect(variableOf("limitDownload")).toBe("DOCYARD_LIMIT_DOWNLOAD");
    const config = readConfig(new Map(), {});
    for (const name of OPTION_NAMES) expect(config[name]).toEqual(OPTIONS[name].parse(OPTIONS[name].default));
  });

  test("the defaults are those that scripts rely on", () => {
    expect(readConfig(new Map(), {})).toMatchObject({
      db: "sqlite:./docyard.db",
      blob: "./data",
      queue: "memory",
      host: "127.0.0.1",
      port: 8080,
      publicUrl: null,
      maxSize: 5 * 1024 ** 3,
      tokenTtl: 3_600_000,
      urlTtl: 3_600_000,
      limitList: 100,
      limitDownload: 1000,
      limitToken: 10,
      json: false,
    });
  });

  test.each([
    ["::1", "::1"],
    ["[::1]", "::1"],
    ["files.example.com", "files.example.com"],
  ])("--host %s listens on %s", (said, host) => {
    expect(readConfig(new Map([["host", [said]]]), {}).host).toBe(host);
  });

  test("a flag wins over a variable, a variable over the file, the file over the default", async () => {
    const port = fc.option(fc.integer({ min: 0, max: 65_535 }), { nil: undefined });
    await fc.assert(
      fc.asyncProperty(port, port, port, async (flag, variable, file) => {
        const path = await configFile(file === undefined ? {} : { port: file });
        const config = readConfig(
          flags({ config: path, ...(flag === undefined ? {} : { port: String(flag) }) }),
          variable === undefined ? {} : { DOCYARD_PORT: String(variable) },
        );
        expect(config.port).toBe(flag ?? variable ?? file ?? 8080);
      }),
    );
  });

  test("an empty variable says nothing", () => {
    expect(readConfig(new Map(), { DOCYARD_PORT: "", DOCYARD_CONFIG: "" }).port).toBe(8080);
  });

  test("the file may be named by a variable, and its values may be numbers, switches and lists", async () => {
    const path = await configFile({
      port: 9_000,
      json: true,
      "max-size": "1GiB",
      "allow-source": ["10.0.0.0/8", "fd00::/8", "192.0.2.7"],
    });
    expect(readConfig(new Map(), { DOCYARD_CONFIG: path })).toMatchObject({
      port: 9_000,
      json: true,
      maxSize: 1024 ** 3,
      allowSource: ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"],
    });
  });

  test("repeatable options collect", () => {
    const said = flags({ "allow-source": ["10.0.0.0/8", "172.16.0.0/12"] });
    expect(readConfig(said, {}).allowSource).toEqual(["10.0.0.0/8", "172.16.0.0/12"]);
    expect(readConfig(new Map(), { DOCYARD_ALLOW_SOURCE: "10.0.0.0/8, ::1" }).allowSource).toEqual([
      "10.0.0.0/8",
      "::1/128",
    ]);
  });
});

describe("what is wrong is said in one line that names it", () => {
  test.each([
    ["port", "65536", '--port: "65536" is not a whole number from 0 to 65535'],
    ["port", "http", '--port: "http" is not a whole number from 0 to 65535'],
    ["max-size", "5G", '--max-size: "5G" is not a size such as 500MB or 5GiB'],
    ["max-size", "0", "--max-size: must be at least 1B"],
    ["token-ttl", "3600", '--token-ttl: "3600" is not a time such as 90s, 30m or 1h'],
    ["token-ttl", "25h", "--token-ttl: must be from 1s to 1d"],
    ["url-ttl", "8d", "--url-ttl: must be from 1s to 7d"],
    [
      "public-url",
      "files.example.com",
      "--public-url: must be a whole URL such as https://files.example.com",
    ],
    ["public-url", "https://u:p@x.example", "--public-url: must have no user, query or fragment"],
    [
      "allow-source",
      "10.0.0.0/33",
      '--allow-source: "10.0.0.0/33" is not a network such as 10.0.0.0/8 or fd00::/8',
    ],
    [
      "log-level",
      "warning",
      '--log-level: "warning" is none of silent, fatal, error, warn, info, debug, trace',
    ],
    ["db", " ", "--db: must not be empty"],
    ["ffmpeg", "no-such-program", "--ffmpeg: there is no such program"],
    ["ffmpeg", import.meta.dirname, "--ffmpeg: there is no such program"],
    ["ffmpeg", import.meta.filename, "--ffmpeg: there is no such program"],
  ])("--%s %j", (flag, text, message) => {
    expect(() => readConfig(flags({ [flag]: text }), {})).toThrow(message);
  });

  test("the place is named: variable, file, flag given twice", async () => {
    expect(() => readConfig(new Map(), { DOCYARD_PORT: "x" })).toThrow('DOCYARD_PORT: "x" is not');
    const path = await configFile({ port: "x" });
    expect(() => readConfig(flags({ config: path }), {})).toThrow(`port in ${path}: "x" is not`);
    expect(() => readConfig(flags({ port: ["1", "2"] }), {})).toThrow("--port is given 2 times");
    expect(() => readConfig(flags({ config: [path, path] }), {})).toThrow("--config is given 2 times");
  });

  test.each([
    [{ "max-sise": 1 }, 'unknown key "max-sise" (did you mean max-size?)'],
    [{ maxSize: 1 }, 'unknown key "maxSize" (did you mean max-size?)'],
    [{ colour: 1 }, 'unknown key "colour"'],
    [{ port: null }, "port must be text, a number, true or false"],
    [{ port: [1] }, "port must be text, a number, true or false"],
    [[], "must hold a JSON object"],
    ['{"db": "postgres://u:hunter2@h/d",}', "is not valid JSON"],
  ])("a config file with %j", async (content, message) => {
    const path = await configFile(content);
    expect(() => readConfig(flags({ config: path }), {})).toThrow(message);
    expect(() => readConfig(flags({ config: path }), {})).not.toThrow("hunter2");
  });

  test("a config file may begin with the mark that some editors put there", async () => {
    const path = await configFile('\uFEFF{"port": 1234}');
    expect(readConfig(flags({ config: path }), {}).port).toBe(1_234);
  });

  test("a config file that is not there", () => {
    const missing = join(folder.path, "missing.json");
    expect(() => readConfig(flags({ config: missing }), {})).toThrow(
      `cannot read the config file ${missing}: no such file or folder (ENOENT)`,
    );
  });

  test("misspelt variables are told, others' are not", () => {
    expect(
      unknownVariables({ DOCYARD_MAXSIZE: "1", DOCYARD_PORT: "1", DOCYARD_TEST_X: "1", PATH: "/" }),
    ).toEqual(["DOCYARD_MAXSIZE is not an option (did you mean DOCYARD_MAX_SIZE?)"]);
  });

  test("a suggestion is one of the candidates, and the word itself where it is among them", () => {
    const words = OPTION_NAMES.map(flagOf);
    fc.assert(
      fc.property(fc.string(), (word) => {
        const found = /\(did you mean (.+)\?\)$/.exec(suggestion(word, words))?.[1];
        expect(found === undefined || words.includes(found)).toBe(true);
      }),
    );
    for (const word of words) expect(suggestion(word, words)).toBe(` (did you mean ${word}?)`);
  });
});

describe("targets in errors", () => {
  test.each([
    ["postgres://user:secret@host:5432/name?sslmode=require", "postgres://…@host:5432/name"],
    ["postgres://user:sec/ret@host/name", "postgres://…@host/name"],
    ["postgres://user:sec@ret@host/name", "postgres://…@host/name"],
    ["postgres://user:sec?ret@host/name", "postgres://…@host/name"],
    ["postgresql:/user:secret@host/name", "postgresql://…@host/name"],
    ["redis://:sec/ret@host:6379", "redis://…@host:6379"],
    ["redis://host:6379/0", "redis://host:6379/0"],
    ["sqlite:/srv/user@host/docyard.db", "sqlite:/srv/user@host/docyard.db"],
    ["/srv/user@host/data", "/srv/user@host/data"],
  ])("%s is shown as %s", (target, shown) => {
    expect(withoutSecrets(target)).toBe(shown);
  });
});
