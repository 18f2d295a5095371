/**
 * Simulated time: processes as generators that hold for a while, take and give back gates; a seeded source of chance.
 * Knows nothing of docyard; `simulation.ts` says what the processes are.
 */

/** Lets so many in at a time, first come, first served. */
export interface Gate {
  readonly capacity: number;
  /** Mean of how many were in, over the time counted. */
  busy(): number;
}

/** What a process asks for: some time to pass, a place in a gate, or to leave one. */
export type Step = { readonly holdMs: number } | { readonly take: Gate } | { readonly give: Gate };
export type Process = Generator<Step, void, void>;

export interface World {
  /** Milliseconds since the beginning. */
  now(): number;
  gate(capacity: number): Gate;
  /** Begins a process at a time from now on. */
  start(atMs: number, process: Process): void;
  /** Lets everything happen that begins before `untilMs`; gates count from `fromMs` on. */
  run(fromMs: number, untilMs: number): void;
}

interface GateState extends Gate {
  inside: number;
  area: number;
  since: number;
  readonly waiting: Process[];
  next: number;
}

export function createWorld(): World {
  const heap: { at: number; order: number; process: Process }[] = [];
  let now = 0;
  let order = 0;
  let countFrom = 0;

  const isBefore = (a: number, b: number): boolean => {
    const [x, y] = [heap[a]!, heap[b]!];
    return x.at < y.at || (x.at === y.at && x.order < y.order);
  };
  const swap = (a: number, b: number): void => {
    [heap[a], heap[b]] = [heap[b]!, heap[a]!];
  };
  const push = (at: number, process: Process): void => {
    heap.push({ at, order: order++, process });
    for (let i = heap.length - 1; i > 0 && isBefore(i, (i - 1) >> 1); i = (i - 1) >> 1) swap(i, (i - 1) >> 1);
  };
  const pop = (): { at: number; process: Process } => {
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) heap[0] = last;
    for (let i = 0; ;) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < heap.length && isBefore(child, least)) least = child;
      if (least === i) return top;
      swap(i, least);
      i = least;
    }
  };

  const account = (gate: GateState): void => {
    gate.area += gate.inside * Math.max(0, now - Math.max(gate.since, countFrom));
    gate.since = now;
  };
  /** Runs a process until it has to wait. */
  const advance = (process: Process): void => {
    for (;;) {
      const { done, value: step } = process.next();
      if (done === true) return;
      if ("holdMs" in step) return push(now + step.holdMs, process);
      const gate = ("take" in step ? step.take : step.give) as GateState;
      account(gate);
      if ("take" in step) {
        if (gate.inside === gate.capacity) return void gate.waiting.push(process);
        gate.inside++;
        continue;
      }
      // Whoever waits longest takes the place over; the queue is a list with a moving head.
      const heir = gate.waiting[gate.next];
      if (heir === undefined) gate.inside--;
      else {
        gate.next++;
        if (gate.next > 1_000) {
          gate.waiting.splice(0, gate.next);
          gate.next = 0;
        }
        push(now, heir);
      }
    }
  };

  return {
    now: () => now,
    gate(capacity) {
      const gate: GateState = {
        capacity,
        inside: 0,
        area: 0,
        since: 0,
        waiting: [],
        next: 0,
        busy() {
          account(gate);
          return gate.area / (now - countFrom);
        },
      };
      return gate;
    },
    start: push,
    run(fromMs, untilMs) {
      countFrom = fromMs;
      while (heap.length > 0 && heap[0]!.at < untilMs) {
        const { at, process } = pop();
        now = at;
        advance(process);
      }
      now = untilMs;
    },
  };
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
