/** Growth as a picture: milliseconds over rows, both logarithmic, one line for each shape and subject. SVG, no library. */

export interface Point {
  readonly shape: string;
  readonly rows: number;
  readonly subject: string;
  readonly p50: number;
}

const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [860, 460, 64, 24, 250, 48];
const COLOURS = [
  "#1b6ca8",
  "#c8553d",
  "#3a7d44",
  "#7b4b94",
  "#b8860b",
  "#2f4858",
  "#d1495b",
  "#5c6b73",
  "#00798c",
  "#8a8d00",
];

export function growthPicture(points: readonly Point[]): string {
  if (points.length === 0) return `<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>\n`;
  const log = (value: number): number => Math.log10(value);
  const [xMin, xMax] = span(points.map(({ rows }) => log(rows)));
  const [yMin, yMax] = span(points.map(({ p50 }) => log(p50)));
  const x = (rows: number): number => LEFT + ((log(rows) - xMin) / (xMax - xMin)) * (WIDTH - LEFT - RIGHT);
  const y = (ms: number): number =>
    HEIGHT - BOTTOM - ((log(ms) - yMin) / (yMax - yMin)) * (HEIGHT - TOP - BOTTOM);
  const parts: string[] = [];
  for (let power = Math.floor(yMin); power <= yMax; power++) {
    const at = y(10 ** power);
    if (at > HEIGHT - BOTTOM + 1) continue;
    parts.push(line(LEFT, at, WIDTH - RIGHT, at, "#ddd"), text(LEFT - 8, at + 4, `${10 ** power} ms`, "end"));
  }
  for (const rows of new Set(points.map((point) => point.rows))) {
    parts.push(text(x(rows), HEIGHT - BOTTOM + 20, rows.toLocaleString("en"), "middle"));
  }
  const shapes = [...new Set(points.map(({ shape }) => shape))];
  const subjects = [...new Set(points.map(({ subject }) => subject))];
  for (const [i, shape] of shapes.entries()) {
    const colour = COLOURS[i % COLOURS.length]!;
    parts.push(
      text(WIDTH - RIGHT + 44, TOP + 12 + i * 18, shape, "start"),
      line(WIDTH - RIGHT + 12, TOP + 8 + i * 18, WIDTH - RIGHT + 36, TOP + 8 + i * 18, colour, 3),
    );
    for (const [j, subject] of subjects.entries()) {
      const own = points.filter((point) => point.shape === shape && point.subject === subject);
      const path = own.map(({ rows, p50 }) => `${x(rows).toFixed(1)},${y(p50).toFixed(1)}`).join(" ");
      parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash(j)}/>`);
      for (const { rows, p50 } of own)
        parts.push(`<circle cx="${x(rows).toFixed(1)}" cy="${y(p50).toFixed(1)}" r="3" fill="${colour}"/>`);
    }
  }
  for (const [j, subject] of subjects.entries()) {
    const at = TOP + 28 + (shapes.length + j) * 18;
    parts.push(
      text(WIDTH - RIGHT + 44, at, subject, "start"),
      `<line x1="${WIDTH - RIGHT + 12}" y1="${at - 4}" x2="${WIDTH - RIGHT + 36}" y2="${at - 4}" stroke="#333"${dash(j)}/>`,
    );
  }
  parts.push(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "rows", "middle"));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${parts.join("\n")}
</svg>
`;
}

/** A little wider than the values, and never of no width. */
function span(values: readonly number[]): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(0.1, (high - low) * 0.05);
  return [low - margin, high + margin];
}

const dash = (subject: number): string =>
  subject === 0 ? "" : ` stroke-dasharray="${["", "6 4", "2 3"][subject % 3]}"`;

function line(x1: number, y1: number, x2: number, y2: number, colour: string, width = 1): string {
  return `<line x1="${x1}" y1="${y1.toFixed(1)}" x2="${x2}" y2="${y2.toFixed(1)}" stroke="${colour}" stroke-width="${width}"/>`;
}

function text(x: number, y: number, words: string, anchor: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${words}</text>`;
}
