/**
 * `key s3-credentials` and `secrets rotate`: the secrets in the database, which the key file seals. What the file is, is
 * keyring.ts's; sealing itself is core's.
 */

import type { S3Credentials, Store } from "@docyard/core";
import { createProvisioning, createSealer } from "@docyard/core";
import type { Answer, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { key } from "./documents.ts";
import { UsageError } from "./failure.ts";
import { addKey, keyFileOf, keyFileSealer, readKeys } from "./keyring.ts";
import { record } from "./print.ts";

export async function setS3Credentials(
  store: Store,
  { positional, flag, has }: Said,
  config: Config,
): Promise<Answer> {
  const credentials = has("clear") ? null : await readCredentials(flag);
  const path = keyFileOf(config);
  // Clearing must stay possible when the keys are lost.
  if (credentials !== null) {
    await checkKeys(
      path,
      (await sealedSecrets(store)).filter(({ id }) => id !== positional),
    );
  }
  const provisioning = createProvisioning(store.accounts);
  const changed = key(await provisioning.setS3Credentials(positional, credentials, keyFileSealer(path)));
  const deed = credentials === null ? "has no S3 credentials any more" : "has S3 credentials";
  return { document: changed, text: record(`Key ${changed.id} ${deed}.`, changed) };
}

/** @throws UsageError without quoting anything. */
async function readCredentials(flag: Said["flag"]): Promise<S3Credentials> {
  const [accessKeyId, region, endpoint] = ["access-key-id", "region", "endpoint"].map(flag);
  if (accessKeyId === undefined) throw new UsageError("key s3-credentials: --access-key-id is missing");
  // Not a flag: every user of the machine can read the command lines of others.
  const secretAccessKey = await secretLine("Secret access key, then Enter: ");
  return {
    accessKeyId,
    secretAccessKey: secretAccessKey.trim(),
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

/** The first line of standard input. On a terminal it is asked for, and not shown: scrollback would keep it. */
async function secretLine(question: string): Promise<string> {
  const [{ createInterface }, { Writable }] = await Promise.all([
    import("node:readline"),
    import("node:stream"),
  ]);
  const { isTTY } = process.stdin;
  if (isTTY) process.stderr.write(question);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({
    input: process.stdin,
    ...(isTTY ? { output: nowhere } : {}),
    terminal: isTTY,
  });
  // A terminal without echo makes no signal of Ctrl-C.
  lines.on("SIGINT", () => {
    lines.close();
    process.kill(process.pid, "SIGINT");
  });
  let said = "";
  for await (const line of lines) {
    said = line;
    break;
  }
  lines.close();
  if (isTTY) process.stderr.write("\n");
  return said;
}

export async function rotateSecrets(store: Store, _: Said, config: Config): Promise<Answer> {
  const path = keyFileOf(config);
  const secrets = await sealedSecrets(store);
  await checkKeys(path, secrets);
  const sealer = createSealer(await addKey(path));
  let resealed = 0;
  for (const { id } of secrets) {
    // As it is now: it may have been set anew, or cleared, since it was checked.
    const sealed = (await store.accounts.find("key", { id }))?.s3Credentials ?? null;
    if (sealed === null) continue;
    const again = await sealer.seal(await sealer.open(sealed, id), id);
    await store.accounts.update("key", id, { s3Credentials: again });
    resealed++;
  }
  const document = { keyFile: path, resealed };
  const text = record("A new key seals from now on. Keep the old ones as long as old backups.", document);
  return { document, text };
}

/** The S3 credentials of an API key. */
interface SealedSecret {
  readonly id: string;
  readonly sealed: string;
}

export async function sealedSecrets({ accounts }: Store): Promise<SealedSecret[]> {
  return (await accounts.list("key")).flatMap(({ id, s3Credentials: sealed }) =>
    sealed === null ? [] : [{ id, sealed }],
  );
}

/**
 * Before anything is sealed: the file must open what was sealed before, else it is another one, or it is gone, and a
 * new key beside the old secrets would show that to nobody until a worker needs them.
 * @throws Failure or DocyardError saying so; a store without secrets needs no file yet.
 */
async function checkKeys(path: string, secrets: readonly SealedSecret[]): Promise<void> {
  if (secrets.length === 0) return;
  const sealer = createSealer(await readKeys(path));
  for (const { id, sealed } of secrets) await sealer.open(sealed, id);
}
