/**
 * `signing list` and `signing rotate`: the keys that tokens and blob URLs are signed with, for operators. What a rotation
 * does to them is core's; their secrets never come here.
 */

import type { ServerKey, Store } from "@docyard/core";
import { activeKeys, createProvisioning, SIGNING_KEYS_AGE_MAX_MS } from "@docyard/core";
import type { Answer, Said } from "./command.ts";
import type { SigningKeyDocument } from "./documents.ts";
import { signingKey } from "./documents.ts";
import { UsageError } from "./failure.ts";
import { printDuration } from "./measure.ts";
import { list } from "./print.ts";

/** By what an operator calls it. */
const PURPOSES: ReadonlyMap<string, ServerKey["purpose"]> = new Map([
  ["tokens", "token"],
  ["urls", "url"],
]);
/** When servers that run have followed. */
const WITHIN: string = printDuration(SIGNING_KEYS_AGE_MAX_MS);

export async function listSigningKeys(store: Store): Promise<Answer> {
  const document = await documents(store);
  return { document, text: list(document) };
}

export async function rotateSigningKeys(store: Store, { flag, has }: Said): Promise<Answer> {
  const only = flag("only");
  const purpose = only === undefined ? undefined : PURPOSES.get(only);
  if (only !== undefined && purpose === undefined) {
    throw new UsageError(`signing rotate: --only ${only} is neither of ${[...PURPOSES.keys()].join(", ")}`);
  }
  const { made, revoked } = await createProvisioning(store.accounts).rotateServerKeys({
    revoke: has("revoke"),
    ...(purpose === undefined ? {} : { purposes: [purpose] }),
  });
  const ids = (keys: readonly ServerKey[]): string[] => keys.map(({ id }) => id);
  const document = { made: ids(made), revoked: ids(revoked), within: WITHIN, keys: await documents(store) };
  const told = [
    `From now on ${document.made.join(" and ")} ${made.length === 1 ? "signs" : "sign"}; running servers follow within ${WITHIN}.`,
    has("revoke")
      ? `What older keys signed stops working by then: ${signedBy(only)} handed out so far. Clients have to get new ones.`
      : `What older keys signed stays valid until it runs out: ${signedBy(only)} handed out so far.`,
    ...(only === "tokens"
      ? []
      : [
          "URLs of a bucket (--blob s3://…) are signed with the bucket's own credentials: nothing changes for them.",
        ]),
  ];
  return { document, text: `${told.join("\n")}\n\n${list(document.keys)}` };
}

/** Oldest first. */
async function documents(store: Store): Promise<SigningKeyDocument[]> {
  const stored = await store.accounts.list("serverKey");
  const signing = new Set(Array.from(PURPOSES.values(), (purpose) => activeKeys(stored, purpose)[0]?.id));
  return stored.map((key) => signingKey(key, signing.has(key.id)));
}

function signedBy(only: string | undefined): string {
  if (only === undefined) return "tokens and signed URLs";
  return only === "tokens" ? "tokens" : "signed URLs";
}
