/**
 * Maps that remember a bounded number of things: what was set longest ago is forgotten first. Any `Map` will do, and is
 * read as ever; what forgetting costs, and how many entries are worth their memory, is left to whoever keeps one.
 */

/** Sets an entry as the map's newest, also where it has the key already, and forgets the oldest one beyond `max`. */
export function setBounded<K, V>(map: Map<K, V>, key: K, value: V, max: number): void {
  map.delete(key);
  map.set(key, value);
  // A map is walked in the order in which its keys were set.
  if (map.size > max) map.delete(map.keys().next().value!);
}
