/**
 * How long work says on stderr how far it is: a bar on a terminal, a line now and then everywhere else. stdout is the
 * answer's alone.
 */

import type { SingleBar } from "cli-progress";
import { printRoughSize } from "./measure.ts";

/** How far something is. */
export interface Measure {
  readonly done: number;
  /** Null while it is not known. */
  readonly total: number | null;
  readonly bytes: number;
}

export interface Progress {
  /** As often as one likes. */
  tell(stage: string, measure: Measure): void;
  /** Ends the bar; what is written next has a line of its own. */
  stop(): void;
}

export interface ProgressOptions {
  /** What is counted, such as "artifacts"; "bytes" are counted in their own units. */
  readonly noun: string;
  /** Default: stderr. */
  readonly stream?: NodeJS.WriteStream | (NodeJS.WritableStream & { readonly isTTY?: boolean });
  /** Milliseconds between two lines where there is no terminal; default 10,000. */
  readonly everyMs?: number;
}

const EVERY_MS = 10_000;
/** Bars are drawn so often a second: enough to look alive. */
const FPS = 5;

export async function startProgress(options: ProgressOptions): Promise<Progress> {
  const { stream = process.stderr } = options;
  return stream.isTTY === true ? startBar(options, stream) : startLines(options, stream);
}

async function startBar(options: ProgressOptions, stream: NodeJS.WritableStream): Promise<Progress> {
  const { SingleBar: Bar } = await import("cli-progress");
  const isBytes = options.noun === "bytes";
  let bar: SingleBar | null = null;
  let current = "";
  const start = (stage: string, { total }: Measure): SingleBar => {
    const counted = isBytes ? "" : ` {value}/{total} ${options.noun}`;
    const made = new Bar({
      stream,
      fps: FPS,
      hideCursor: true,
      barsize: 24,
      format: `${stage.padEnd(9)} {bar} {percentage}%${counted} {size} {rate} {eta_formatted}`,
      barCompleteChar: "█",
      barIncompleteChar: "░",
    });
    made.start(Math.max(total ?? 1, 1), 0, { size: "", rate: "" });
    return made;
  };
  let pace = pacer();
  return {
    tell(stage, measure) {
      if (stage !== current) {
        bar?.stop();
        bar = start(stage, measure);
        current = stage;
        pace = pacer();
      }
      const { done, total, bytes } = measure;
      bar!.setTotal(Math.max(total ?? done, done, 1));
      bar!.update(done, { size: printRoughSize(bytes), rate: pace(bytes) });
    },
    stop: () => bar?.stop(),
  };
}

function startLines({ noun, everyMs = EVERY_MS }: ProgressOptions, stream: NodeJS.WritableStream): Progress {
  let told: { readonly stage: string; readonly measure: Measure } | null = null;
  const pace = pacer();
  const timer = setInterval(() => {
    if (told === null) return;
    const { stage, measure } = told;
    const { done, total, bytes } = measure;
    const of = total === null ? "" : ` of ${total}`;
    const counted = noun === "bytes" ? [] : [`${done}${of} ${noun}`];
    const parts = [...counted, printRoughSize(bytes), pace(bytes)].filter((part) => part !== "");
    stream.write(`${stage}: ${parts.join(", ")}\n`);
    told = null;
  }, everyMs);
  timer.unref();
  return {
    tell: (stage, measure) => (told = { stage, measure }),
    stop: () => clearInterval(timer),
  };
}

/** Bytes a second since the start, as text. */
function pacer(): (bytes: number) => string {
  const started = performance.now();
  return (bytes) => {
    const seconds = (performance.now() - started) / 1_000;
    return bytes === 0 || seconds < 0.5 ? "" : `${printRoughSize(bytes / seconds)}/s`;
  };
}
