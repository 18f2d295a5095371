/**
 * Which face speaks for a path, and the answer in its envelope to what never becomes a request of the app: a head that
 * cannot be parsed, a host that is none. Whoever listens sends it; what the app itself refuses goes through fault.ts.
 */

import { commonHeaders, requestId } from "./exchange.ts";
import type { ErrorFace } from "./fault.ts";
import { machineErrors } from "./machine.ts";
import { studioErrors } from "./studio.ts";

/** Asked in order; the last one speaks for all paths that no other owns. */
const FACES: readonly ErrorFace[] = [studioErrors, machineErrors];

export function faceOf(path: string): ErrorFace {
  return FACES.find((face) => face.owns(path)) ?? machineErrors;
}

/** A whole answer, as any host can send it. */
export interface Refusal {
  readonly requestId: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** @param path Where the request was going, as far as that could be read. */
export function refusal(status: number, message: string, path: string = ""): Refusal {
  const id = requestId(undefined);
  return {
    requestId: id,
    status,
    headers: {
      "Content-Type": "application/json; charset=utf-8",
      "Cache-Control": "no-store",
      ...commonHeaders(id),
    },
    body: JSON.stringify(faceOf(path).envelope(status, message)),
  };
}
