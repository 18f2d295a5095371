/**
 * The operator's commands: organisations, docks, clients, keys of all kinds, and the schema. Each opens the store, does
 * one thing, and answers with one document, so that they work while a server runs on the same store.
 */

import type { Provisioning, Quota, RetentionRule, Store } from "@docyard/core";
import { createProvisioning, parseFilter } from "@docyard/core";
import type { Answer, Command, Flag, Said } from "./command.ts";
import type { Config } from "./config.ts";
import { client, clientWithSecret, dock, key, keyWithSecret, organization } from "./documents.ts";
import { migrateStore, openStore } from "./drivers.ts";
import { UsageError } from "./failure.ts";
import { parseDuration, parseSize } from "./measure.ts";
import { OPERATOR_COMMANDS } from "./operator-commands.ts";
import { list, record } from "./print.ts";
import { rotateSecrets, setS3Credentials } from "./secrets.ts";
import { listSigningKeys, rotateSigningKeys } from "./signing.ts";
import { schemeOf } from "./targets.ts";

const DOCK: Flag = {
  describe: "The only dock it may use (default: every dock of the organization)",
  value: "ID",
};
const ORGANIZATION: Flag = { describe: "Needed when there are several", value: "ID" };
const NAME: Flag = { describe: "A name for people", value: "NAME", required: true };
const KEY = { name: "id", describe: "key_…" };
const CLIENT = { name: "id", describe: "mc_… or dyc_…" };

const SHOWN_ONCE = "The secret is shown this once.";

/** By their words: `client create` is typed as two. */
export const COMMANDS: Readonly<Record<string, Command>> = {
  "org create": {
    describe: "Create an organization",
    positional: { name: "name", describe: "Its name, for people" },
    flags: {},
    isBeginning: true,
    run: onAccounts("Organization", "created.", async (accounts, { positional }) =>
      organization(await accounts.createOrganization(positional)),
    ),
  },
  "org list": {
    describe: "List organizations",
    flags: {},
    run: onStore(async (store) => listing((await store.accounts.list("organization")).map(organization))),
  },
  "dock create": {
    describe: "Create a dock",
    positional: { name: "id", describe: "1 to 64 letters, digits, _ or -" },
    flags: {
      name: { ...NAME, required: false, describe: "A name for people (default: the id)" },
      org: ORGANIZATION,
    },
    run: onAccounts("Dock", "created.", async (accounts, { positional, flag }) =>
      dock(
        await accounts.createDock(positional, {
          ...given("name", flag("name")),
          ...given("organizationId", flag("org")),
        }),
      ),
    ),
  },
  "dock quota": {
    describe: "Say what a dock may hold; a bound that is not named goes, and uploads over one are refused",
    positional: { name: "id", describe: "The dock" },
    flags: {
      bytes: { describe: "Sizes of its artifacts together", value: "SIZE" },
      artifacts: { describe: "How many artifacts", value: "N" },
      open: { describe: "How many unfinished uploads at a time", value: "N" },
    },
    run: onStore(async (store, { positional, flag }) => {
      const set = await createProvisioning(store.accounts).setQuota(positional, quota(flag));
      const usage = await store.artifacts.usage(set.id);
      const document = { ...dock(set), usage };
      return { document, text: record(`Dock ${set.id} has a new quota.`, document) };
    }),
  },
  "dock retention": {
    describe: "Say when artifacts of a dock are deleted by age: adds a rule, or clears them all",
    positional: { name: "id", describe: "The dock" },
    flags: {
      after: { describe: "Age at which they go, such as 90d", value: "TIME" },
      metadata: { describe: 'Only those with this metadata, such as {"kind":"scan"}', value: "JSON" },
      clear: { describe: "Take all rules away" },
    },
    run: onStore(async (store, { positional, flag, has }) => {
      if (has("clear") && (flag("after") ?? flag("metadata")) !== undefined) {
        throw new UsageError("dock retention: --clear takes all rules away: say it alone");
      }
      const provisioning = createProvisioning(store.accounts);
      const before = (await store.accounts.find("dock", { id: positional }))?.retention ?? [];
      const set = await provisioning.setRetention(positional, has("clear") ? [] : [...before, rule(flag)]);
      const document = dock(set);
      return { document, text: record(`Dock ${set.id} has ${set.retention?.length ?? 0} rules.`, document) };
    }),
  },
  retention: {
    describe: "Show what the docks' retention rules would delete now, or delete it; servers do so every hour",
    flags: { apply: { describe: "Delete, instead of showing" } },
    options: ["blob"],
    run: async (said, config) => (await import("./retention.ts")).retention(said, config),
  },
  "dock list": {
    describe: "List docks",
    flags: { org: { describe: "Only of this organization", value: "ID" } },
    run: onStore(async (store, { flag }) =>
      listing((await store.accounts.list("dock", flag("org"))).map(dock)),
    ),
  },
  "client create": {
    describe: "Create a machine client; its secret is shown once",
    flags: {
      name: NAME,
      dock: DOCK,
      org: ORGANIZATION,
      scopes: { describe: 'Such as "artifacts:read artifacts:write" (default: all)', value: "SCOPES" },
    },
    run: onAccounts("Client", `created. ${SHOWN_ONCE}`, async (accounts, { flag }) => {
      const scopes = flag("scopes")?.split(/[\s,]+/);
      return clientWithSecret(
        await accounts.createClient({
          name: flag("name")!,
          ...given("dockId", flag("dock")),
          ...given("organizationId", flag("org")),
          ...given(
            "scopes",
            scopes?.filter((scope) => scope !== ""),
          ),
        }),
      );
    }),
  },
  "client disable": {
    describe: "Stop a machine client at once, tokens included",
    positional: CLIENT,
    flags: {},
    run: onAccounts("Client", "disabled.", async (accounts, { positional }) =>
      client(await accounts.disableClient(positional)),
    ),
  },
  "client rotate": {
    describe: "Give a machine client a new secret, shown once; the old one stops at once",
    positional: CLIENT,
    flags: {},
    run: onAccounts("Client", `has a new secret. ${SHOWN_ONCE}`, async (accounts, { positional }) =>
      clientWithSecret(await accounts.rotateClient(positional)),
    ),
  },
  "client list": {
    describe: "List machine clients, without secrets",
    flags: { org: { describe: "Only of this organization", value: "ID" } },
    run: onStore(async (store, { flag }) =>
      listing((await store.accounts.list("client", flag("org"))).map(client)),
    ),
  },
  "key create": {
    describe: "Create a Studio API key, shown once",
    flags: { name: NAME, dock: { ...DOCK, describe: "The dock it opens", required: true } },
    run: onAccounts("Key", `created. ${SHOWN_ONCE}`, async (accounts, { flag }) =>
      keyWithSecret(await accounts.createKey({ name: flag("name")!, dockId: flag("dock")! })),
    ),
  },
  "key disable": {
    describe: "Stop a Studio API key at once",
    positional: KEY,
    flags: {},
    run: onAccounts("Key", "disabled.", async (accounts, { positional }) =>
      key(await accounts.disableKey(positional)),
    ),
  },
  "key rotate": {
    describe: "Give a Studio API key a new text, shown once; the old one stops at once",
    positional: KEY,
    flags: {},
    run: onAccounts("Key", `has a new text. ${SHOWN_ONCE}`, async (accounts, { positional }) =>
      keyWithSecret(await accounts.rotateKey(positional)),
    ),
  },
  "key s3-credentials": {
    describe:
      "Let a Studio API key read a client's own S3; the secret access key is read from standard input",
    positional: KEY,
    flags: {
      "access-key-id": { describe: "Needed unless they are cleared", value: "ID" },
      region: { describe: "Region of the buckets", value: "REGION" },
      endpoint: { describe: "Of an S3-compatible server other than AWS", value: "URL" },
      clear: { describe: "Take the credentials away" },
    },
    run: onStore(setS3Credentials),
  },
  "key list": {
    describe: "List Studio API keys, without secrets",
    flags: { org: { describe: "Only of this organization", value: "ID" } },
    run: onStore(async (store, { flag }) =>
      listing((await store.accounts.list("key", flag("org"))).map(key)),
    ),
  },
  "secrets rotate": {
    describe: "Add a key to the key file and seal every stored secret with it; servers notice by themselves",
    flags: {},
    run: onStore(rotateSecrets),
  },
  "signing list": {
    describe: "List the keys that sign tokens and URLs, without secrets",
    flags: {},
    run: onStore(listSigningKeys),
  },
  "signing rotate": {
    describe: "Add a key that signs tokens and one that signs URLs; servers notice by themselves",
    flags: {
      revoke: { describe: "Revoke all older ones: tokens and signed URLs handed out so far stop working" },
      only: { describe: "Only this kind of key: tokens, urls", value: "WHAT" },
    },
    run: onStore(rotateSigningKeys),
  },
  doctor: {
    describe: "Try the store, bytes, queue and public URL, and say what is wrong and how to mend it",
    flags: {},
    options: ["blob", "queue", "publicUrl", "maxSize"],
    isBeginning: true,
    run: async (_, config) => (await import("./doctor.ts")).doctor(config),
  },
  ...OPERATOR_COMMANDS,
  health: {
    describe:
      "Ask the server on --host and --port whether it is ready, for health checks; exit code 1: it is not",
    flags: {},
    options: ["host", "port", "tlsCert"],
    isBeginning: true,
    run: async (_, config) => (await import("./health.ts")).health(config),
  },
  migrate: {
    describe: "Bring the tables up to this version (every start does this as well)",
    flags: {},
    isBeginning: true,
    async run(_, config) {
      const { from, to } = await migrateStore(config);
      const text =
        from === to ? `The tables are up to date (schema ${to}).` : `Migrated from schema ${from} to ${to}.`;
      return { document: { db: schemeOf(config.db), from, to }, text: `${text}\n` };
    },
  },
};

/** @throws UsageError */
function quota(flag: Said["flag"]): Quota {
  const count = (name: string): number | undefined => {
    const text = flag(name);
    if (text === undefined || /^\d{1,15}$/.test(text)) return text === undefined ? undefined : Number(text);
    throw new UsageError(`dock quota: --${name} ${text} is not a whole number`);
  };
  const size = flag("bytes");
  const bytes = size === undefined ? undefined : parseSize(size);
  if (bytes === null) throw new UsageError(`dock quota: --bytes ${size} is not a size such as 10GiB`);
  return {
    ...given("bytes", bytes),
    ...given("artifacts", count("artifacts")),
    ...given("open", count("open")),
  };
}

/** @throws UsageError or DocyardError */
function rule(flag: Said["flag"]): RetentionRule {
  const after = flag("after");
  if (after === undefined) throw new UsageError("dock retention: --after is missing (or --clear)");
  const afterMs = parseDuration(after);
  if (afterMs === null) throw new UsageError(`dock retention: --after ${after} is not a time such as 90d`);
  const metadata = flag("metadata");
  return { afterMs, ...given("metadata", metadata === undefined ? undefined : parseFilter(metadata)) };
}

/** A command that opens the store, does one thing, and closes it. */
function onStore(work: (store: Store, said: Said, config: Config) => Promise<Answer>): Command["run"] {
  return async (said, config) => {
    if (schemeOf(config.db) === "memory") {
      throw new UsageError("--db memory lives inside one server process: no other command can reach it");
    }
    const store = await openStore(config);
    try {
      return await work(store, said, config);
    } finally {
      await store.close();
    }
  };
}

/** One that makes an account or changes it. @param deed what is said of it, behind its id */
function onAccounts(
  noun: string,
  deed: string,
  work: (accounts: Provisioning, said: Said) => Promise<{ readonly id: string }>,
): Command["run"] {
  return onStore(async (store, said) => {
    const document = await work(createProvisioning(store.accounts), said);
    return { document, text: record(`${noun} ${document.id} ${deed}`, document) };
  });
}

function listing(documents: readonly object[]): Answer {
  return { document: documents, text: list(documents) };
}

/** An optional field, left out when there is nothing to say. */
function given<K extends string, V>(name: K, value: V | undefined): { readonly [N in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [N in K]: V });
}
