/**
 * Certificates for tests, made on the spot: an authority of their own, and pairs of any age signed by it. Where they are
 * written to, and who is made to trust the authority, is each test's affair.
 */

// oxlint-disable-next-line import/no-unassigned-import -- what the library's own injection needs before it is loaded
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

cryptoProvider.set(webcrypto);

const DAY_MS = 24 * 3_600_000;

const ALGORITHMS = {
  ec: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  rsa: {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
  },
  /** Too short for OpenSSL to serve it. */
  "short rsa": {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    modulusLength: 512,
    publicExponent: new Uint8Array([1, 0, 1]),
  },
} as const;

export interface PairInput {
  /** Default: an elliptic curve. */
  readonly algorithm?: keyof typeof ALGORITHMS;
  /** Milliseconds from now. Default: since yesterday, for 90 days. */
  readonly from?: number;
  readonly to?: number;
}

/** PEM. The serial number is what a client sees of it. */
export interface TestPair {
  readonly cert: string;
  readonly key: string;
  readonly serial: string;
  readonly expiresAt: number;
}

export interface Authority {
  /** PEM, for those who are to trust it. */
  readonly cert: string;
  /** A certificate for `localhost` and both loopback addresses. */
  issue(input?: PairInput): Promise<TestPair>;
}

export async function createAuthority(): Promise<Authority> {
  const keys = await newKeys("ec");
  const root: X509Certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: "CN=docyard test authority",
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + 10 * DAY_MS),
    keys,
    signingAlgorithm: ALGORITHMS.ec,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    ],
  });
  return {
    cert: `${root.toString("pem")}\n`,
    async issue({ algorithm = "ec", from = -DAY_MS, to = 90 * DAY_MS } = {}) {
      const own = await newKeys(algorithm);
      const serial = newSerial();
      const leaf = await X509CertificateGenerator.create({
        serialNumber: serial,
        subject: "CN=localhost",
        issuer: root.subject,
        notBefore: new Date(Date.now() + from),
        notAfter: new Date(Date.now() + to),
        signingKey: keys.privateKey,
        publicKey: own.publicKey,
        signingAlgorithm: ALGORITHMS.ec,
        extensions: [
          new SubjectAlternativeNameExtension([
            { type: "dns", value: "localhost" },
            { type: "ip", value: "127.0.0.1" },
            { type: "ip", value: "::1" },
          ]),
        ],
      });
      const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", own.privateKey);
      return {
        cert: `${leaf.toString("pem")}\n`,
        key: pem("PRIVATE KEY", pkcs8),
        serial: serial.toUpperCase(),
        expiresAt: leaf.notAfter.getTime(),
      };
    },
  };
}

function newKeys(algorithm: keyof typeof ALGORITHMS): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHMS[algorithm], true, ["sign", "verify"]);
}

/** Positive, and of eight bytes, so that every tool spells it the same way. */
function newSerial(): string {
  const bytes = Buffer.from(webcrypto.getRandomValues(new Uint8Array(8)));
  bytes[0] = 0x40 | (bytes[0]! & 0x3f);
  return bytes.toString("hex");
}

function pem(label: string, der: ArrayBuffer): string {
  const lines = Buffer.from(der)
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
