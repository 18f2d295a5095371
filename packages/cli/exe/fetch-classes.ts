/**
 * `Headers`, `Request` and `Response` as the program inside an executable sees them: Node's own, taken from Node when one
 * is first made. Node loads its whole fetch library as soon as one of them is named, @hono/node-server names all three
 * while it is imported, and a server that answers has no need of them: 26 of the 170 ms of a start.
 */

type Class = abstract new (...given: never[]) => object;

/** What these three words mean in the program: @hono/node-server puts its own lighter ones in their place. */
export interface FetchClasses {
  Headers: Class;
  Request: Class;
  Response: Class;
}

/** The free names in the program that are read from the classes; bundle.ts tells the bundler. */
export const FETCH_NAMES: Readonly<Record<string, string>> = {
  Headers: "fetchClasses.Headers",
  Request: "fetchClasses.Request",
  Response: "fetchClasses.Response",
  "globalThis.Headers": "fetchClasses.Headers",
  // Of the same library, and for web sockets, of which we have none: without it @hono/node-server makes its own.
  "globalThis.CloseEvent": "undefined",
};

export function fetchClasses(): FetchClasses {
  return { Headers: standIn("Headers"), Request: standIn("Request"), Response: standIn("Response") };
}

/** A class that can be inherited from and asked about at once, and becomes Node's when an object is made. */
function standIn(name: keyof FetchClasses): Class {
  let own: Class | null = null;
  const load = (): Class => {
    if (own !== null) return own;
    own = globalThis[name];
    // Whoever inherits from the stand-in inherits from Node's class, too.
    Object.setPrototypeOf(StandIn, own);
    Object.setPrototypeOf(StandIn.prototype, own.prototype as object);
    return own;
  };

  class StandIn {
    constructor(...given: never[]) {
      const made = load();
      return Reflect.construct(made, given, new.target === StandIn ? made : new.target) as StandIn;
    }

    static [Symbol.hasInstance](value: unknown): boolean {
      if (Reflect.apply(Function.prototype[Symbol.hasInstance], this, [value])) return true;
      return this === StandIn && !isPlain(value) && value instanceof load();
    }
  }
  return StandIn;
}

/** What is asked about most often: options in braces and lists, of which Node need not be asked. */
function isPlain(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === Array.prototype || prototype === null;
}
