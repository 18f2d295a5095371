/**
 * Which addresses a URL source may be read from: the public internet, and networks the operator opened by CIDR.
 * Pure arithmetic on addresses that are already resolved; resolving and dialling are `http.ts`'s affair.
 */

import ipaddr from "ipaddr.js";
import { isIP } from "node:net";

type Address = ipaddr.IPv4 | ipaddr.IPv6;
type Cidr = readonly [Address, number];

export interface AddressPolicy {
  /** The operator opened a network that holds this address: every port of it may be used. */
  isAllowed(address: string): boolean;
  /** Globally routable unicast, in its plain form. False for anything that is not a bare IP address. */
  isPublic(address: string): boolean;
}

/**
 * Builds the policy of ruling 12.
 * @throws TypeError if an entry of `allow` is no CIDR (`10.0.0.0/8`, `fd00::/8`) or single address.
 */
export function addressPolicy(allow: readonly string[]): AddressPolicy {
  const networks = allow.map(parseNetwork);
  const isAllowed = (text: string): boolean => {
    const address = parseAddress(text);
    if (address === null) return false;
    if (!networks.some((network) => contains(network, address))) return false;
    // A network that holds an IPv6 transition form (NAT64 on an IPv6-only host) opens what is inside only if that
    // may be read on its own account: 64:ff9b::/96 must not open 64:ff9b::127.0.0.1.
    const inner = embeddedIPv4(address);
    return inner === null || isAllowed(inner.toString()) || isPublicAddress(inner);
  };
  const isPublic = (text: string): boolean => {
    const address = parseAddress(text);
    return address !== null && isPublicAddress(address);
  };
  return { isAllowed, isPublic };
}

function parseNetwork(text: string): Cidr {
  try {
    if (isIP(text) !== 0) {
      const address = ipaddr.parse(text);
      return [address, address.kind() === "ipv4" ? 32 : 128];
    }
    const slash = text.lastIndexOf("/");
    // ipaddr.js reads octal and shortened IPv4 too, which would open another network than the one meant.
    if (slash > 0 && isIP(text.slice(0, slash)) !== 0) return ipaddr.parseCIDR(text);
  } catch {
    // Falls through to the one message.
  }
  throw new TypeError(`"${text}" is not a network in CIDR notation, such as 10.0.0.0/8 or fd00::/8`);
}

/** Null for zones (`fe80::1%eth0`), names and every loose spelling: resolvers hand out bare addresses only. */
function parseAddress(text: string): Address | null {
  if (isIP(text) === 0 || text.includes("%")) return null;
  return ipaddr.parse(text);
}

function contains([network, bits]: Cidr, address: Address): boolean {
  return network.kind() === address.kind() && address.match(network, bits);
}

/** IPv4 space that is not the public internet: the IANA special-purpose registry, and what clouds hide behind. */
const IPV4_REFUSED: readonly Cidr[] = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.31.196.0/24",
  "192.52.193.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "192.175.48.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
  // Azure's host agent and metadata server: a public number that every Azure machine reaches as its own host.
  "168.63.129.16/32",
].map((text) => ipaddr.parseCIDR(text));

/** Global unicast, the only IPv6 space in use for the public internet. */
const IPV6_GLOBAL: Cidr = ipaddr.parseCIDR("2000::/3");

/** Special-purpose space inside `2000::/3`: protocol assignments with Teredo and ORCHID, documentation, 6to4, AS112. */
const IPV6_REFUSED: readonly Cidr[] = [
  "2001::/23",
  "2001:db8::/32",
  "2002::/16",
  "2620:4f:8000::/48",
  "3fff::/20",
].map((text) => ipaddr.parseCIDR(text));

function isPublicAddress(address: Address): boolean {
  if (address.kind() === "ipv4") return !IPV4_REFUSED.some((network) => contains(network, address));
  if (!contains(IPV6_GLOBAL, address) || IPV6_REFUSED.some((network) => contains(network, address))) {
    return false;
  }
  // What is left and still carries an IPv4 address (ISATAP under a global prefix) is a tunnel, not a host.
  return embeddedIPv4(address) === null;
}

/** Where each IPv6 transition form keeps its IPv4 address: prefix, byte offset, and whether the bits are inverted. */
const EMBEDDINGS: readonly {
  readonly network: Cidr;
  readonly offset: number;
  readonly inverted?: boolean;
}[] = [
  // IPv4-compatible (RFC 4291, deprecated), with `::` and `::1` at its bottom.
  { network: ipaddr.parseCIDR("::/96"), offset: 12 },
  // IPv4-mapped, and IPv4-translated (RFC 2765).
  { network: ipaddr.parseCIDR("::ffff:0:0/96"), offset: 12 },
  { network: ipaddr.parseCIDR("::ffff:0:0:0/96"), offset: 12 },
  // NAT64 (RFC 6052) and its local-use prefix (RFC 8215).
  { network: ipaddr.parseCIDR("64:ff9b::/96"), offset: 12 },
  { network: ipaddr.parseCIDR("64:ff9b:1::/48"), offset: 12 },
  // 6to4 (RFC 3056).
  { network: ipaddr.parseCIDR("2002::/16"), offset: 2 },
  // Teredo (RFC 4380) hides the client's address by inverting it.
  { network: ipaddr.parseCIDR("2001::/32"), offset: 12, inverted: true },
];

/** The IPv4 address inside an IPv6 transition form, or null. */
function embeddedIPv4(address: Address): ipaddr.IPv4 | null {
  if (address.kind() === "ipv4") return null;
  const bytes = address.toByteArray();
  for (const { network, offset, inverted } of EMBEDDINGS) {
    if (!contains(network, address)) continue;
    return new ipaddr.IPv4(bytes.slice(offset, offset + 4).map((byte) => (inverted ? byte ^ 0xff : byte)));
  }
  // ISATAP (RFC 5214): an interface identifier of 0000:5efe or 0200:5efe under any prefix.
  const isatap =
    (bytes[8] === 0 || bytes[8] === 2) && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe;
  return isatap ? new ipaddr.IPv4(bytes.slice(12)) : null;
}
