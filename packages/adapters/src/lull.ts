/**
 * When to do at once what many wait for: what takes as long for one as for many, a sync to the disk above all, is worth
 * a moment's wait for those who are about to come. Who they are and what is done is left to the caller.
 */

/** Longest wait, in milliseconds: about what a sync takes, so that nobody waits much more than twice as long. */
export const WAIT_MAX_MS = 2;

/** What an event loop tells of itself. */
export interface Loop {
  /** Milliseconds on a clock that nobody sets. */
  now(): number;
  /** How many events it has handled so far: of sockets, files, other threads. */
  events(): number;
}

const THIS_LOOP: Loop = {
  now: () => performance.now(),
  events: () => performance.nodeTiming.uvMetricsInfo.events,
};

/**
 * Calls back at the end of the first turn of the event loop in which nothing happened, `WAIT_MAX_MS` from now at the
 * latest: with one client that is this turn, with many there is time to read the others' requests.
 * @param isFull ends the wait early; asked once a turn
 */
export function atLull(go: () => void, isFull: () => boolean = () => false, loop: Loop = THIS_LOOP): void {
  const end = loop.now() + WAIT_MAX_MS;
  const wait = (seen: number): void => {
    setImmediate(() => {
      const events = loop.events();
      if (events === seen || isFull() || loop.now() >= end) go();
      else wait(events);
    });
  };
  wait(loop.events());
}
