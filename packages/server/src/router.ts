/**
 * Hono's router with a memory: machine clients ask for the same few paths for ever, and walking the tree of routes for
 * each takes a tenth of a small request. Which routes there are is left to those who mount them.
 */

import type { Result, Router } from "hono/router";
import { TrieRouter } from "hono/router/trie-router";

/** Paths remembered; those of single uploads and downloads come by once, and make room for each other. */
const REMEMBERED_MAX = 1_000;
/** Longest of them, in characters with the method: what strangers send must not fill the memory. */
const LENGTH_MAX = 256;

/** Hono's tree, since its faster router takes no literal beside a parameter, as the vendors' paths have it. */
export function rememberingRouter<T>(): Router<T> {
  const routes = new TrieRouter<T>();
  const remembered = new Map<string, Result<T>>();
  return {
    name: "RememberingRouter",
    add(method, path, handler) {
      remembered.clear();
      routes.add(method, path, handler);
    },
    match(method, path) {
      const key = `${method} ${path}`;
      const known = remembered.get(key);
      if (known !== undefined) return known;
      // Cut out of the key: parts of the path as it came would keep the whole URL in memory.
      const found = routes.match(method, key.slice(method.length + 1));
      if (key.length > LENGTH_MAX) return found;
      if (remembered.size >= REMEMBERED_MAX) remembered.clear();
      remembered.set(key, found);
      return found;
    },
  };
}
