/** What a run found as tables for docs/performance.md, each under the title that the page has for it. */

import type { Section } from "../scaling/report.ts";
import type { Point } from "./picture.ts";

export interface Row {
  readonly section: string;
  readonly workload: string;
  readonly facts: Readonly<Record<string, number>>;
}

export interface Run {
  readonly machine: object;
  readonly at: Date;
  /** Of each loop. */
  readonly seconds: number;
  readonly rows: readonly Row[];
  readonly growth: readonly Point[];
}

export function reported({ machine, at, seconds, rows, growth }: Run): Section[] {
  const named = (section: string): string => section.split(",")[0]!.replace(/^\d+ MiB/, "large bodies");
  const sections = [...new Set(rows.map(({ section }) => section))].map((section): Section => [
    named(section),
    `${section}:\n\n${table(rows.filter((row) => row.section === section))}`,
  ]);
  const facts = Object.entries(machine).map(([name, value]) => `${name} ${String(value)}`);
  return [
    ["where and when", `${at.toISOString()}, ${seconds} s a loop, medians of three; ${facts.join(", ")}.`],
    ...sections,
    ...(growth.length === 0 ? [] : [["growth", grown(growth)] satisfies Section]),
  ];
}

function table(rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap(({ facts }) => Object.keys(facts)))];
  return [
    `| | ${columns.join(" | ")} |`,
    `|---|${columns.map(() => "--:|").join("")}`,
    ...rows.map(
      ({ workload, facts }) =>
        `| ${workload} | ${columns.map((name) => (facts[name] === undefined ? "" : rounded(facts[name]))).join(" | ")} |`,
    ),
  ].join("\n");
}

/** Milliseconds by number of rows, and how often the first fits into the last. */
function grown(growth: readonly Point[]): string {
  const sizes = [...new Set(growth.map((point) => point.rows))];
  const lines: string[] = [];
  for (const shape of new Set(growth.map((point) => point.shape)))
    for (const subject of new Set(growth.map((point) => point.subject))) {
      const of = growth.filter((point) => point.shape === shape && point.subject === subject);
      if (of.length === 0) continue;
      const times = sizes.map((size) => of.find((point) => point.rows === size)?.p50);
      const cells = times.map((ms) => (ms === undefined ? "" : rounded(ms)));
      lines.push(
        `| ${shape} | ${subject} | ${cells.join(" | ")} | ${rounded(of.at(-1)!.p50 / of[0]!.p50)} |`,
      );
    }
  return [
    `| p50 of one connection, ms | | ${sizes.map((size) => size.toLocaleString("en")).join(" | ")} | × |`,
    `|---|---|${"--:|".repeat(sizes.length + 1)}`,
    ...lines,
  ].join("\n");
}

function rounded(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
