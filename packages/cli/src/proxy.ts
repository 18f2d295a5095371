/**
 * Whose request it is when proxies stand before the server: the address of the TCP peer or, if the operator trusts that
 * peer, what `X-Forwarded-For` and `Forwarded` (RFC 7239) say. Host and scheme are never taken from a header: one
 * public URL decides every URL (ruling 15).
 */

import { BlockList, isIP, SocketAddress } from "node:net";

/** As much of a request of node:http as is looked at. */
export interface ForwardedRequest {
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/** The client's address in its plain form; null when the connection has gone and took it along. */
export type ClientAddress = (request: ForwardedRequest) => string | null;

/** No chain of proxies is this long; what stands further to the left is not looked at. */
const HOPS_MAX = 32;
/** Characters of one hop: an IPv6 address with a port takes 50, an element of `Forwarded` some parameters more. */
const HOP_CHARS_MAX = 512;

/**
 * Headers are believed as far as trusted hands wrote them. Each proxy appends whom it got the request from, so they are
 * read from the right, and the first address that is no trusted proxy's is the client's. What stands left of it, the
 * client may have made up.
 *
 * Where both headers are there and disagree, only one of them is the proxy's, and which is unknown: then the answer is
 * the peer.
 *
 * @param trusted CIDRs, as config.ts has checked them.
 */
export function clientAddressBehind(trusted: readonly string[]): ClientAddress {
  const networks = new BlockList();
  for (const cidr of trusted) {
    const [address = "", bits] = cidr.split("/");
    networks.addSubnet(address, Number(bits), familyOf(address));
  }
  const isTrusted = (address: string): boolean => networks.check(address, familyOf(address));

  return ({ headers, socket }) => {
    const peer = plainAddress((socket.remoteAddress ?? "").split("%", 1)[0]!);
    if (peer === null || trusted.length === 0 || !isTrusted(peer)) return peer;
    const said = new Set<string>();
    for (const [name, nodeOf] of READERS) {
      const value = headers[name];
      if (value === undefined) continue;
      said.add(furthest(peer, hopsFromTheRight(typeof value === "string" ? value : value.join(",")), nodeOf));
    }
    const [one = peer, ...others] = said;
    return others.length === 0 ? one : peer;

    /** The last address that a trusted hop vouches for. */
    function furthest(known: string, hops: Iterable<string>, nodeOf: (hop: string) => string | null): string {
      let address = known;
      for (const hop of hops) {
        const next = plainNode(nodeOf(hop));
        if (next === null) break;
        address = next;
        if (!isTrusted(address)) break;
      }
      return address;
    }
  };
}

/** How each header names the node of a hop; null: not in a way that can be read. */
const READERS: readonly (readonly [header: string, nodeOf: (hop: string) => string | null])[] = [
  ["x-forwarded-for", (hop) => hop],
  ["forwarded", forwardedFor],
];

/**
 * Both headers are lists. Several lines of them are one list, which Node joins. A comma inside a quoted string ends a
 * hop here as well: neither piece can be read then, and nothing left of it is believed.
 */
function* hopsFromTheRight(list: string): Generator<string> {
  let end = list.length;
  for (let hops = 0; hops < HOPS_MAX && end >= 0; hops++) {
    const comma = end === 0 ? -1 : list.lastIndexOf(",", end - 1);
    const hop = list.slice(Math.max(comma + 1, end - HOP_CHARS_MAX - 1), end);
    end = comma;
    // Too long to be one: cut off, it could look like another.
    if (hop.length > HOP_CHARS_MAX) yield "";
    // RFC 9110, 5.6.1: empty elements of a list mean nothing.
    else if (hop.trim() !== "") yield hop.trim();
  }
}

/** RFC 7239, 4: `token "=" (token / quoted-string)`, the pieces of an element as they follow each other. */
const PARAMETER = /[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:([\w!#$%&'*+.^`|~-]+)|"((?:[^"\\]|\\.)*)")[ \t]*(?:;|$)/y;

/** The one `for=` of an element of `Forwarded`. */
function forwardedFor(element: string): string | null {
  let node: string | null = null;
  PARAMETER.lastIndex = 0;
  while (PARAMETER.lastIndex < element.length) {
    const [, name, token, quoted] = PARAMETER.exec(element) ?? [];
    if (name === undefined) return null;
    if (name.toLowerCase() !== "for") continue;
    if (node !== null) return null;
    node = token ?? quoted!.replaceAll(/\\(.)/g, "$1");
  }
  return node;
}

/** `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`. A port may be obfuscated. */
const NODE = /^(?:\[([\da-f:.]+)\]|([\d.]+))(?::(?:\d{1,5}|_[\w.-]+))?$/i;

/** The address of a node; null for `unknown`, obfuscated ids, names, zones and every other thing. */
function plainNode(node: string | null): string | null {
  if (node === null) return null;
  if (isIP(node) === 6) return plainAddress(node);
  const [, inBrackets, bare] = NODE.exec(node) ?? [];
  if (inBrackets !== undefined) return isIP(inBrackets) === 6 ? plainAddress(inBrackets) : null;
  return bare === undefined ? null : plainAddress(bare);
}

/** IPv4 in IPv6's clothes, as sockets that listen for both see it. */
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

/** One spelling for each address: lower case, zeros left out, IPv4 as itself. Null for what is none, or has a zone. */
function plainAddress(text: string): string | null {
  if (isIP(text) === 0 || text.includes("%")) return null;
  if (isIP(text) === 4) return text;
  const { address } = new SocketAddress({ address: text, family: familyOf(text) });
  return MAPPED.exec(address)?.[1] ?? address;
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return isIP(address) === 4 ? "ipv4" : "ipv6";
}
