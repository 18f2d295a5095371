/**
 * Faults on demand: stands in front of every method of every port and, where it was told so, fails the call, delays
 * it, or lets the process die at it. Which ports there are, and what a death means, is double.ts's affair.
 */

import type {
  AccountStore,
  ArtifactStore,
  BlobStore,
  FetchUrl,
  Media,
  Queue,
  RateLimit,
  S3Source,
} from "@docyard/core";
import type { MemoryWrite } from "../blob/memory.ts";
import type { TimeSpan } from "./clock.ts";
import { milliseconds } from "./clock.ts";

/** The ports by the names that faults have for them. */
export interface FaultyPorts {
  readonly artifacts: ArtifactStore;
  readonly accounts: AccountStore;
  readonly blobs: BlobStore;
  readonly queue: Pick<Queue, "push" | "ready">;
  readonly limit: Pick<RateLimit, "take">;
  readonly fetchUrl: Pick<FetchUrl, "open">;
  readonly s3: Pick<S3Source, "open">;
  readonly media: Pick<Media, "contentType" | "probe" | "join">;
}

type PortName = keyof FaultyPorts;
/** A blob store's service counts as one method: whatever comes in by a signed URL. */
type MethodOf<P> = {
  [K in keyof P & string]-?: K extends "serve"
    ? K
    : NonNullable<P[K]> extends (...args: never[]) => unknown
      ? K
      : never;
}[keyof P & string];

/** A method of a port, such as `blobs.copy` or `artifacts.update`; `blobs.serve` is whatever a signed URL brings. */
export type PortCall = { [P in PortName]: `${P}.${MethodOf<FaultyPorts[P]>}` }[PortName];

/** The same, for callers whom no compiler checks: a method that is missing here, or not there, does not compile. */
const METHODS: { readonly [P in PortName]: Readonly<Record<MethodOf<FaultyPorts[P]>, true>> } = {
  artifacts: {
    insert: true,
    get: true,
    status: true,
    update: true,
    find: true,
    findByDigest: true,
    isBlobInUse: true,
    usage: true,
    walk: true,
    due: true,
    events: true,
  },
  accounts: { insert: true, find: true, list: true, update: true },
  blobs: {
    put: true,
    get: true,
    stat: true,
    digest: true,
    copy: true,
    delete: true,
    list: true,
    dropUnfinished: true,
    signPut: true,
    signGet: true,
    serve: true,
    space: true,
    ready: true,
    close: true,
  },
  queue: { push: true, ready: true },
  limit: { take: true },
  fetchUrl: { open: true },
  s3: { open: true },
  media: { contentType: true, probe: true, join: true },
};

/** Every method that can be told to fail. */
export const PORT_CALLS: readonly PortCall[] = Object.entries(METHODS).flatMap(([port, methods]) =>
  Object.keys(methods).map((method) => `${port}.${method}` as PortCall),
);

type ArgumentsOf<C extends PortCall> = C extends `${infer P extends PortName}.${infer M}`
  ? M extends keyof FaultyPorts[P]
    ? NonNullable<FaultyPorts[P][M]> extends (...args: infer A) => unknown
      ? A
      : readonly unknown[]
    : never
  : never;

export interface Which<C extends PortCall = PortCall> {
  /** The first call that it happens to, counted from 1 and from now on. Default 1. */
  readonly nth?: number;
  /** How many calls in a row it happens to. Default 1. */
  readonly times?: number;
  /** Counts only calls with such arguments. */
  readonly only?: (...args: ArgumentsOf<C>) => boolean;
}

/** `after`: the call takes effect, and its answer is lost. */
export type Moment = "before" | "after";

/** What was asked for, and what has come of it. */
export interface Fault {
  readonly call: PortCall;
  readonly kind: "fail" | "delay" | "crash" | "tear";
  /** How many calls it counted. */
  readonly seen: number;
  /** How many of them it happened to. */
  readonly fired: number;
  /** It happens no more. */
  clear(): void;
}

export interface Faults {
  /** The call rejects: with this error, or else with one that core must take for a driver's own. */
  fail<C extends PortCall>(
    call: C,
    options?: Which<C> & { readonly error?: Error; readonly when?: Moment },
  ): Fault;
  /** The call begins so much later, by the double's clock: whoever awaits it must `advance` meanwhile. */
  delay<C extends PortCall>(call: C, time: TimeSpan, options?: Which<C>): Fault;
  /** The process dies at the call. What was durable by then is there after `restart`; everything else is lost. */
  crash<C extends PortCall>(call: C, options?: Which<C> & { readonly when?: Moment }): Fault;
  /** Only the first `bytes` of what is written reach the disk, and nobody notices. */
  tear(
    call: `blobs.${MemoryWrite}`,
    bytes: number,
    options?: { readonly nth?: number; readonly times?: number },
  ): Fault;
  /**
   * A power cut takes what was never synced: uploads that have not been completed, since only completing promises that
   * their name lasts. Does not end the process; `crash` or `restart` does. Returns how many are gone.
   */
  dropUnsynced(): number;
  /** All that was asked for so far, cleared ones left out. */
  list(): readonly Fault[];
  /** Nothing happens any more. */
  clear(): void;
}

/** The error of a call that was told to fail and not with what. */
export class InjectedFault extends Error {
  override readonly name = "InjectedFault";
}

/** The process is dead: whoever was talking to it gets no answer, and neither does whoever tries until `restart`. */
export class Crashed extends Error {
  override readonly name = "Crashed";
}

/** A process: ports that were made for it are of no use once it is dead. */
export interface Life {
  readonly isOver: boolean;
  end(): void;
}

export interface FaultRegistry extends Faults {
  /** The port with the faults in front of each of its methods, for one life. */
  before<P extends object>(name: PortName, port: P, life: Life): P;
  /** How many calls the ports have had. */
  calls(): number;
  /** What is kept of bytes that are written. */
  keep(write: MemoryWrite, bytes: Uint8Array): Uint8Array;
}

interface Rule extends Fault {
  seen: number;
  fired: number;
  readonly when: Moment;
  /** What happens; true: the process dies of it. */
  readonly act: () => Promise<void> | boolean;
  readonly matches: (args: readonly unknown[]) => boolean;
  readonly first: number;
  readonly last: number;
  /** Bytes kept of a torn write. */
  readonly bytes: number;
}

export function createFaults(options: {
  /** Resolves when so much virtual time has passed. */
  readonly sleep: (ms: number) => Promise<void>;
  readonly dropUnsynced: () => number;
}): FaultRegistry {
  const rules = new Set<Rule>();
  let calls = 0;

  const add = (
    call: PortCall,
    kind: Fault["kind"],
    which: Which<never>,
    what: Partial<Pick<Rule, "when" | "act" | "bytes">>,
  ): Fault => {
    if (!PORT_CALLS.includes(call)) throw new TypeError(`there is no ${JSON.stringify(call)} to fail`);
    const { nth = 1, times = 1 } = which;
    const { when = "before", ...rest } = what;
    if (when !== "before" && when !== "after") {
      throw new TypeError(`when is before or after, not ${JSON.stringify(when)}`);
    }
    for (const [name, count] of Object.entries({ nth, times })) {
      if (!(count >= 1 && (Number.isSafeInteger(count) || count === Number.POSITIVE_INFINITY))) {
        throw new TypeError(`${name} is a whole number from 1, not ${String(count)}`);
      }
    }
    const rule: Rule = {
      call,
      kind,
      seen: 0,
      fired: 0,
      when,
      act: () => false,
      bytes: 0,
      ...rest,
      matches: (args) => which.only === undefined || Reflect.apply(which.only, null, args),
      first: nth,
      last: nth + times - 1,
      clear: () => void rules.delete(rule),
    };
    rules.add(rule);
    return rule;
  };

  /** Those that happen to this call, each having counted it. */
  const firing = (call: string, args: readonly unknown[], isTearing = false): Rule[] => {
    const found: Rule[] = [];
    for (const rule of rules) {
      if (rule.call !== call || (rule.kind === "tear") !== isTearing || !rule.matches(args)) continue;
      rule.seen++;
      if (rule.seen < rule.first || rule.seen > rule.last) continue;
      rule.fired++;
      found.push(rule);
    }
    return found;
  };

  const interposed =
    (call: string, method: (...args: never[]) => unknown, port: object, life: Life) =>
    async (...args: unknown[]): Promise<unknown> => {
      const lives = (): void => {
        if (life.isOver) throw new Crashed("the process has crashed");
      };
      const suffer = async (hits: readonly Rule[], when: Moment): Promise<void> => {
        for (const rule of hits) {
          if (rule.when !== when) continue;
          if ((await rule.act()) === true) life.end();
          lives();
        }
      };
      lives();
      calls++;
      const hits = rules.size === 0 ? [] : firing(call, args);
      if (hits.length > 0) await suffer(hits, "before");
      const answer: unknown = await Reflect.apply(method, port, args);
      lives();
      if (hits.length > 0) await suffer(hits, "after");
      return answer;
    };

  return {
    fail: (call, { error, when = "before", ...which } = {}) =>
      add(call, "fail", which, {
        when,
        act: () => {
          throw error ?? new InjectedFault(`${call} was told to fail`);
        },
      }),
    delay(call, time, which = {}) {
      const ms = milliseconds(time);
      return add(call, "delay", which, { act: () => options.sleep(ms) });
    },
    crash: (call, { when = "before", ...which } = {}) =>
      add(call, "crash", which, {
        when,
        act: () => true,
      }),
    tear(call, bytes, which = {}) {
      const writes: readonly string[] = ["blobs.put", "blobs.copy", "blobs.serve"];
      if (!writes.includes(call)) throw new TypeError(`only ${writes.join(", ")} can be torn`);
      if (!(Number.isSafeInteger(bytes) && bytes >= 0)) throw new TypeError("bytes is a whole number from 0");
      return add(call, "tear", which, { bytes });
    },
    dropUnsynced: options.dropUnsynced,
    list: () => [...rules],
    clear: () => rules.clear(),

    before<P extends object>(name: PortName, port: P, life: Life): P {
      const members = Object.entries(port).map(([key, member]: [string, unknown]) => {
        const call = `${name}.${key}`;
        if (typeof member === "function") return [key, interposed(call, member as () => unknown, port, life)];
        if (key !== "serve") return [key, member];
        const parts = Object.entries(member as object).map(([part, one]: [string, unknown]) => [
          part,
          typeof one === "function" ? interposed(call, one as () => unknown, member as object, life) : one,
        ]);
        return [key, Object.fromEntries(parts) as unknown];
      });
      return Object.fromEntries(members) as P;
    },

    calls: () => calls,

    keep(write, bytes) {
      const [torn] = firing(`blobs.${write}`, [], true);
      return torn === undefined ? bytes : bytes.slice(0, torn.bytes);
    },
  };
}
