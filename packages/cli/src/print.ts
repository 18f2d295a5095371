/**
 * Documents as text for people: a record field by field, a list as a table.
 * Programs get the same documents as JSON and nothing from here.
 */

/** A sentence, and the document's fields below it. */
export function record(sentence: string, document: object): string {
  const fields = Object.entries(document);
  const width = Math.max(...fields.map(([name]) => name.length));
  const lines = fields.map(([name, value]) => `  ${name.padEnd(width)}  ${cell(value)}\n`);
  return `${sentence}\n\n${lines.join("")}`;
}

/** One line per document below a line of field names; a word when there are none. */
export function list(documents: readonly object[]): string {
  const [first] = documents;
  if (first === undefined) return "none\n";
  const names = [...new Set(documents.flatMap((one) => Object.keys(one)))];
  const rows = [names, ...documents.map((one) => names.map((name) => cell(one[name as keyof typeof one])))];
  const widths = names.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "-";
  if (Array.isArray(value)) return value.map(cell).join(" ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
