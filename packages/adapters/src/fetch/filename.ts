/**
 * The filename that an HTTP answer suggests: from `Content-Disposition` (RFC 6266), else from the URL's path.
 * Only says what the origin suggests; whether the name is used is core's decision.
 */

import { filenameFault } from "@docyard/core";

/** Characters of the header that are looked at; real ones are far shorter. */
const DISPOSITION_LENGTH_MAX = 4096;

/** The last path segment of the suggestion if it is a name docyard accepts (`filenameFault`), or null. */
export function suggestedFilename(disposition: string | null, url: URL): string | null {
  return acceptable(disposition === null ? null : fromDisposition(disposition)) ?? acceptable(fromPath(url));
}

function acceptable(name: string | null): string | null {
  if (name === null) return null;
  // RFC 6266 section 4.3: a sender's folders are never followed.
  const base = name.slice(Math.max(name.lastIndexOf("/"), name.lastIndexOf("\\")) + 1).trim();
  return filenameFault(base) === null ? base : null;
}

function fromPath(url: URL): string | null {
  const segment = url.pathname.slice(url.pathname.lastIndexOf("/") + 1);
  return percentDecode(segment, "utf-8");
}

/** `filename*` wins over `filename`, wherever it stands (RFC 6266 section 4.3). */
function fromDisposition(header: string): string | null {
  if (header.length > DISPOSITION_LENGTH_MAX) return null;
  const parameters = dispositionParameters(header);
  const extended = parameters.get("filename*");
  return (extended === undefined ? null : decodeExtended(extended)) ?? plainText(parameters.get("filename"));
}

/** One `; name=value` with a token or a quoted string; sticky, so a malformed part ends the walk. */
const PARAMETER = /\s*;\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/gsy;

/** Parameters by lower-case name, the first of each kept. */
function dispositionParameters(header: string): Map<string, string> {
  const parameters = new Map<string, string>();
  const type = header.indexOf(";");
  if (type < 0) return parameters;
  PARAMETER.lastIndex = type;
  for (let match = PARAMETER.exec(header); match !== null; match = PARAMETER.exec(header)) {
    const name = (match[1] ?? "").toLowerCase();
    const value = match[2]?.replaceAll(/\\(.)/gs, "$1") ?? match[3] ?? "";
    if (!parameters.has(name)) parameters.set(name, value);
  }
  return parameters;
}

/** `UTF-8'en'%e2%82%ac%20rates` (RFC 8187); null when it is anything else. */
function decodeExtended(value: string): string | null {
  const match = /^(utf-8|iso-8859-1)'[^']*'([^']*)$/i.exec(value);
  if (match === null) return null;
  return percentDecode(match[2] ?? "", (match[1] ?? "").toLowerCase() === "utf-8" ? "utf-8" : "latin1");
}

/** Header bytes arrive as Latin-1 text; senders mostly mean UTF-8, so it is taken for that where it is valid. */
function plainText(value: string | undefined): string | null {
  if (value === undefined) return null;
  for (const char of value) if ((char.codePointAt(0) ?? 0) > 0xff) return value;
  return utf8(Buffer.from(value, "latin1")) ?? value;
}

/** Null when a `%` is not followed by two hex digits, or the bytes are not in the named encoding. */
function percentDecode(text: string, encoding: "utf-8" | "latin1"): string | null {
  if (/%(?![0-9a-f]{2})/i.test(text)) return null;
  const bytes = Buffer.from(
    Buffer.from(text, "utf8")
      .toString("latin1")
      .replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    "latin1",
  );
  return encoding === "utf-8" ? utf8(bytes) : bytes.toString("latin1");
}

function utf8(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
