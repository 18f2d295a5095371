/**
 * What tests read of the documentation: fenced blocks with their roles, headings with their anchors, and links.
 * Reads Markdown as this repository writes it, no more; what is done with the parts is up to the tests.
 */

import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const ROOT: string = join(import.meta.dirname, "../..");

/** What becomes of a block, said behind the language in its fence; CONTRIBUTING.md explains each to writers. */
export const ROLES = ["run", "server", "background", "file", "output", "norun"] as const;
export type Role = (typeof ROLES)[number];

export interface Block {
  /** From the root, with slashes. */
  readonly page: string;
  /** Of the opening fence, from 1. */
  readonly line: number;
  readonly language: string;
  /** Null where the fence says none. */
  readonly role: Role | null;
  /** Words behind the role: `fails`, `restart`, or why it is not run. */
  readonly words: readonly string[];
  /** `file=NAME`. */
  readonly file: string | null;
  readonly text: string;
}

/** Every page of the repository that people read, as paths from the root. */
export function allPages(): string[] {
  const isOurs = (path: string): boolean => !/(^|\/)(node_modules|dist|\.cache|\.git)(\/|$)/.test(path);
  return globSync(["*.md", "docs/**/*.md", "packages/*/*.md", "examples/**/*.md"], {
    cwd: ROOT,
    exclude: (path) => !isOurs(path),
  })
    .filter(isOurs)
    .map((path) => path.replaceAll("\\", "/"))
    .toSorted();
}

export function readPage(page: string): string {
  return readFileSync(join(ROOT, page), "utf8");
}

const FENCE = /^( *)(`{3,})(.*)$/;

/** @throws Error naming page and line for a fence that never ends, or a role that there is not. */
export function blocksOf(page: string, text: string = readPage(page)): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; at++) {
    const [, indent = "", ticks, info = ""] = FENCE.exec(lines[at]!) ?? [];
    if (ticks === undefined) continue;
    const end = lines.findIndex((line, index) => index > at && line.trim() === ticks);
    if (end < 0) throw new Error(`${page}:${at + 1}: the fence never ends`);
    const body = lines.slice(at + 1, end).map((line) => line.slice(indent.length));
    blocks.push({ page, line: at + 1, ...fence(page, at + 1, info), text: body.join("\n") + "\n" });
    at = end;
  }
  return blocks;
}

function fence(
  page: string,
  line: number,
  info: string,
): Pick<Block, "language" | "role" | "words" | "file"> {
  const [language = "", ...rest] = info.trim().split(/\s+/);
  const file = rest.find((word) => word.startsWith("file="))?.slice("file=".length) ?? null;
  const [said, ...words] = rest.filter((word) => !word.startsWith("file="));
  const role = ROLES.find((one) => one === said) ?? (said === undefined && file !== null ? "file" : null);
  if (said !== undefined && role === null) {
    throw new Error(`${page}:${line}: ${said} is none of ${ROLES.join(", ")}`);
  }
  return { language, role, words, file };
}

/** The page without its blocks, each line where it was. */
export function proseOf(text: string): string {
  const lines = text.split("\n");
  let ticks: string | null = null;
  return lines
    .map((line) => {
      if (ticks !== null) {
        if (line.trim() === ticks) ticks = null;
        return "";
      }
      ticks = FENCE.exec(line)?.[2] ?? null;
      return ticks === null ? line : "";
    })
    .join("\n");
}

/** What `#…` may name on a page, as GitHub makes it of headings. */
export function anchorsOf(text: string): Set<string> {
  const seen = new Map<string, number>();
  const anchors = new Set<string>();
  for (const [, heading = ""] of proseOf(text).matchAll(/^#{1,6} +(.+?) *#*$/gm)) {
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").replaceAll("`", "");
    const slug = plain
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, "")
      .replaceAll(" ", "-");
    const count = seen.get(slug) ?? 0;
    seen.set(slug, count + 1);
    anchors.add(count === 0 ? slug : `${slug}-${count}`);
  }
  for (const [, id = ""] of text.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id);
  return anchors;
}

export interface Link {
  readonly page: string;
  readonly line: number;
  readonly target: string;
}

/** Links and pictures outside of blocks and code, HTML's too. */
export function linksOf(page: string, text: string = readPage(page)): Link[] {
  return proseOf(text)
    .split("\n")
    .flatMap((line, index) => {
      const plain = line.replaceAll(/`[^`]*`/g, "");
      const found = [
        ...plain.matchAll(/\]\(([^()\s]+(?:\([^()]*\))?)(?: "[^"]*")?\)|(?:href|src|srcset)="([^"]+)"/g),
      ];
      return found.map(([, markdown, html]) => ({ page, line: index + 1, target: (markdown ?? html)! }));
    });
}
