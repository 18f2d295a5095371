/**
 * Who may do what where: the whole matrix of ruling 5, credentials, blob admission and the limits that go with them.
 * How records come to be is in provision.test.ts; how HTTP says it is the faces' tests.
 */
import type { ArtifactStatus, BlobGrant, ErrorCode, MachineClient, Principal, Scope } from "@docyard/core";
import {
  createProvisioning,
  digestSecret,
  digestsEqual,
  DocyardError,
  isDockId,
  isDocyardError,
  isScope,
  requireDock,
  requireScope,
  SCOPES,
} from "@docyard/core";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { artifactRow } from "./rows.ts";
import type { World } from "./world.ts";
import { bytesOf, createWorld, MINUTE_MS, principal, stage } from "./world.ts";

describe("the matrix of ruling 5: scope, then dock", () => {
  const scopeSets: readonly (readonly Scope[])[] = [
    [],
    ["artifacts:read"],
    ["artifacts:write"],
    ["artifacts:read", "artifacts:write"],
    ["policies:read", "recipients:read", "audit:read"],
    SCOPES,
  ];
  const bindings = [null, "dock_a", "dock_b", "dock_z", "dock_gone"];
  const docks = [
    "dock_a",
    "dock_b",
    "dock_z",
    "dock_missing",
    "",
    "dock a",
    "../dock_a",
    "dock_a\0",
    "x".repeat(500),
  ];
  const wanted = ["artifacts:read", "artifacts:write"] as const;
  const organizations = ["org_x", "org_y", "org_gone"];
  const owners: Record<string, string> = { dock_a: "org_x", dock_b: "org_x", dock_z: "org_y" };

  const rows = scopeSets.flatMap((scopes) =>
    bindings.flatMap((binding) =>
      docks.flatMap((dock) =>
        wanted.flatMap((scope) =>
          organizations.map((organization) => ({ scopes, binding, dock, scope, organization })),
        ),
      ),
    ),
  );

  test(`all ${rows.length} combinations`, async () => {
    const world = await createWorld();
    const wrong: unknown[] = [];
    for (const row of rows) {
      const { scopes, binding, dock, scope, organization } = row;
      const expected: ErrorCode | "opens" = !scopes.includes(scope)
        ? "permission_denied"
        : binding !== null && binding !== dock
          ? "permission_denied"
          : owners[dock] !== organization
            ? "not_found"
            : "opens";
      const found = await world.docyard.open(principal(organization, binding, scopes), dock, scope).then(
        (handle) => (handle.dock.id === dock ? "opens" : "opened another"),
        (error: unknown) => (isDocyardError(error) ? error.code : error),
      );
      if (found !== expected) wrong.push({ ...row, expected, found });
    }
    expect(wrong).toEqual([]);
  });

  test("a scope that is missing is named in the vendor's words, before the dock is looked at", async () => {
    const world = await createWorld();
    const calls: string[] = [];
    const docyard = world.hooked((call, run) => {
      calls.push(call);
      return run();
    });
    await expect(
      docyard.open(principal("org_x", null, ["artifacts:read"]), "dock_a", "artifacts:write"),
    ).rejects.toThrow("Insufficient scope. Required: artifacts:write");
    expect(calls).toEqual([]);
  });

  test("a foreign dock is refused without a look, whether or not it exists", async () => {
    const world = await createWorld();
    const calls: string[] = [];
    const docyard = world.hooked((call, run) => {
      calls.push(call);
      return run();
    });
    const messages: string[] = [];
    for (const dock of ["dock_b", "dock_z", "dock_missing"]) {
      await docyard.open(principal("org_x", "dock_a"), dock, "artifacts:read").catch((error: unknown) => {
        expect(isDocyardError(error, "permission_denied")).toBe(true);
        messages.push((error as Error).message.replace(dock, "*"));
      });
    }
    expect(calls).toEqual([]);
    expect(new Set(messages)).toEqual(new Set(["Access denied to dock *"]));
  });

  test("another organisation's dock cannot be told from one that does not exist", async () => {
    const world = await createWorld();
    const message = async (dock: string): Promise<string> => {
      const error = await world.docyard
        .open(principal("org_x"), dock, "artifacts:read")
        .catch((error: unknown) => error);
      return (error as Error).message.replaceAll(dock, "*");
    };
    expect(await message("dock_z")).toBe(await message("dock_missing"));
  });

  test("a handle can do what its scope allows and nothing else", async () => {
    const world = await createWorld();
    const reader = await world.reader("dock_a");
    const writer = await world.writer("dock_a");
    expect(Object.keys(reader).toSorted()).toEqual(["dock", "get", "list"]);
    expect(Object.keys(writer).toSorted()).toEqual(["complete", "create", "dock", "remove"]);
  });

  test("more rights never open less", () => {
    const scope = fc.constantFrom(...SCOPES);
    fc.assert(
      fc.property(fc.subarray([...SCOPES]), fc.subarray([...SCOPES]), scope, (scopes, more, scope) => {
        const opens = (held: readonly Scope[]): boolean => {
          try {
            requireScope(principal("org_x", null, held), scope);
            return true;
          } catch {
            return false;
          }
        };
        expect(opens(scopes)).toBe(scopes.includes(scope));
        if (opens(scopes)) expect(opens([...scopes, ...more])).toBe(true);
      }),
    );
  });

  test("requireDock never lets a principal out of its organisation or its dock", () => {
    const name = fc.constantFrom("dock_a", "dock_b");
    const organization = fc.constantFrom("org_x", "org_y");
    fc.assert(
      fc.property(
        fc.option(name),
        organization,
        name,
        fc.option(organization),
        (binding, of, dockId, owner) => {
          const dock =
            owner === null
              ? null
              : ({ kind: "dock", id: dockId, organizationId: owner, name: "", createdAt: 0 } as const);
          try {
            expect(requireDock(principal(of, binding), dockId, dock)).toBe(dock);
            expect(owner).toBe(of);
            expect(binding === null || binding === dockId).toBe(true);
          } catch (error) {
            if (!isDocyardError(error)) throw error;
            expect(owner !== of || (binding !== null && binding !== dockId)).toBe(true);
          }
        },
      ),
    );
  });
});

describe("names", () => {
  test.each(["dock_default", "a", "A-1_b", "0", "x".repeat(64)])("%s may name a dock", (id) => {
    expect(isDockId(id)).toBe(true);
  });

  test.each(["", "_a", "-a", "a/b", "a.b", "..", "a b", "a\n", "a\0", "é", "x".repeat(65), "a%2f", "dock:a"])(
    "%j may not",
    (id) => {
      expect(isDockId(id)).toBe(false);
    },
  );

  test("scopes are exactly the vendor's five", () => {
    expect(SCOPES).toEqual([
      "artifacts:read",
      "artifacts:write",
      "policies:read",
      "recipients:read",
      "audit:read",
    ]);
    for (const text of [
      "",
      "artifacts",
      "artifacts:*",
      "Artifacts:read",
      "artifacts:read ",
      "__proto__",
      "length",
    ]) {
      expect(isScope(text)).toBe(false);
    }
  });
});

describe("digests of secrets", () => {
  test("digestsEqual is equality", () => {
    const hex = fc.string({ unit: fc.constantFrom(...Array.from("0123456789abcdef")), maxLength: 66 });
    fc.assert(
      fc.property(hex, hex, (a, b) => {
        expect(digestsEqual(a, a)).toBe(true);
        expect(digestsEqual(a, b)).toBe(a === b);
        expect(digestsEqual(a, `${a}0`)).toBe(false);
      }),
    );
  });

  test("one digit that differs, wherever it stands, makes digests differ", () => {
    const digest = "0123456789abcdef".repeat(4);
    for (let at = 0; at < digest.length; at++) {
      const other = digest.slice(0, at) + (digest[at] === "0" ? "1" : "0") + digest.slice(at + 1);
      expect(digestsEqual(digest, other)).toBe(false);
    }
  });

  test("digestSecret is SHA-256 in hex", async () => {
    expect(await digestSecret("abc")).toBe(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    expect(await digestSecret("")).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(await digestSecret("é")).not.toBe(await digestSecret("e\u0301"));
  });
});

describe("authenticate", () => {
  const withClient = async (scopes: readonly Scope[] = SCOPES, settings = {}) => {
    const world = await createWorld({ settings });
    const provisioning = createProvisioning(world.store.accounts, { now: world.now });
    const { client, clientSecret } = await provisioning.createClient({
      name: "Ingest",
      dockId: "dock_a",
      scopes,
    });
    return {
      world,
      provisioning,
      client,
      clientSecret,
      credentials: { clientId: client.clientId, clientSecret },
    };
  };
  const codeOf = (call: Promise<unknown>): Promise<unknown> =>
    call.then(
      () => "accepted",
      (error: unknown) => (isDocyardError(error) ? error.code : error),
    );

  test("the right credentials are the client, with all of its scopes", async () => {
    const { world, client, credentials } = await withClient(["artifacts:read", "audit:read"]);
    expect(await world.docyard.authenticate(credentials)).toEqual({
      id: client.id,
      organizationId: "org_x",
      dockId: "dock_a",
      scopes: ["artifacts:read", "audit:read"],
    } satisfies Principal);
  });

  test("scopes can be narrowed, never widened", async () => {
    const held: readonly Scope[] = ["artifacts:read", "artifacts:write", "audit:read"];
    const { world, credentials } = await withClient(held);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.constantFrom<string>(...SCOPES), fc.constantFrom("", "x", "artifacts:*"))),
        async (scopes) => {
          const call = world.docyard.authenticate({ ...credentials, scopes });
          if (scopes.some((scope) => !held.includes(scope as Scope))) {
            expect(await codeOf(call)).toBe("invalid_argument");
            return;
          }
          const granted = (await call).scopes;
          expect(granted).toEqual(held.filter((scope) => scopes.length === 0 || scopes.includes(scope)));
        },
      ),
    );
  });

  test.each([
    ["an unknown client", { clientId: "dyc_nobody_0" }],
    ["no client", { clientId: "" }],
    ["a client id that is no id", { clientId: "\0" }],
    ["a huge client id", { clientId: "x".repeat(100_000) }],
    ["no secret", { clientSecret: "" }],
    ["a wrong secret", { clientSecret: "dys_live_wrong" }],
    ["the digest instead of the secret", "digest"],
    ["the right secret with a space", "space"],
    ["the record's id instead of the client id", "id"],
  ] as const)("%s is unauthenticated, in one sentence for all", async (_, change) => {
    const { world, client, credentials } = await withClient();
    const changed =
      change === "digest"
        ? { clientSecret: client.secretDigest }
        : change === "space"
          ? { clientSecret: `${credentials.clientSecret} ` }
          : change === "id"
            ? { clientId: client.id }
            : change;
    const error = await world.docyard
      .authenticate({ ...credentials, ...changed })
      .catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "unauthenticated", message: "Invalid client credentials" });
  });

  test("a deactivated client is told so only with the right secret, and its principal is gone at once", async () => {
    const { world, provisioning, client, credentials } = await withClient();
    expect(await world.docyard.principal(client.id, SCOPES)).toMatchObject({ id: client.id });
    await provisioning.disableClient(client.id);
    expect(await codeOf(world.docyard.authenticate(credentials))).toBe("permission_denied");
    expect(await codeOf(world.docyard.authenticate({ ...credentials, clientSecret: "x" }))).toBe(
      "unauthenticated",
    );
    expect(await codeOf(world.docyard.principal(client.id, SCOPES))).toBe("unauthenticated");
  });

  test("a rotated secret replaces the old one at once; what was proved before stays", async () => {
    const { world, provisioning, client, credentials } = await withClient();
    const { clientSecret } = await provisioning.rotateClient(client.id);
    expect(clientSecret).not.toBe(credentials.clientSecret);
    expect(await codeOf(world.docyard.authenticate(credentials))).toBe("unauthenticated");
    expect(await codeOf(world.docyard.authenticate({ ...credentials, clientSecret }))).toBe("accepted");
    expect(await codeOf(world.docyard.principal(client.id, SCOPES))).toBe("accepted");
  });

  test("scopes that a client has lost are lost to its tokens too", async () => {
    const { world, client } = await withClient();
    const change: Partial<MachineClient> = { scopes: ["artifacts:read"] };
    await world.store.accounts.update("client", client.id, change);
    const principal = await world.docyard.principal(client.id, [
      "artifacts:read",
      "artifacts:write",
      "nonsense",
    ]);
    expect(principal.scopes).toEqual(["artifacts:read"]);
  });

  test.each(["", "\0", "mc_unknown", "x".repeat(10_000)])("principal(%j) is unauthenticated", async (id) => {
    const { world } = await withClient();
    expect(await codeOf(world.docyard.principal(id, SCOPES))).toBe("unauthenticated");
  });

  test("tokens are limited per client, and a wrong guess takes none of the rightful client's", async () => {
    const settings = { limits: { token: { max: 3, windowMs: MINUTE_MS } } };
    const { world, credentials } = await withClient(SCOPES, settings);
    for (let i = 0; i < 50; i++) {
      expect(await codeOf(world.docyard.authenticate({ ...credentials, clientSecret: "guess" }))).toBe(
        "unauthenticated",
      );
    }
    for (let i = 0; i < 3; i++)
      expect(await codeOf(world.docyard.authenticate(credentials))).toBe("accepted");
    world.advance(20_000);
    const refused = await world.docyard.authenticate(credentials).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "resource_exhausted", retryAfterMs: 40_000 });
    expect((refused as Error).message).toBe("Rate limit exceeded: 3 tokens per minute");
    world.advance(40_000);
    expect(await codeOf(world.docyard.authenticate(credentials))).toBe("accepted");
  });

  test("no error says anything about secrets", async () => {
    const { world, client, credentials } = await withClient();
    for (const clientSecret of [credentials.clientSecret.slice(0, -1), "hunter2"]) {
      const error = await world.docyard
        .authenticate({ ...credentials, clientSecret })
        .catch((error: unknown) => error);
      const text = `${(error as Error).stack} ${JSON.stringify(error)}`;
      for (const secret of [clientSecret, client.secretDigest]) expect(text).not.toContain(secret);
    }
  });
});

test("a list's filter is bounded whoever asks, not only over HTTP", async () => {
  const reader = await (await createWorld()).reader("dock_a");
  const tags = (count: number) => ({ tags: Array.from({ length: count }, (_, i) => i) });
  expect((await reader.list({ filter: tags(31) })).items).toEqual([]);
  await expect(reader.list({ filter: tags(32) })).rejects.toMatchObject({ code: "invalid_argument" });
});

describe("limits of a dock handle", () => {
  test("list requests are counted per client, refused ones with the time to wait", async () => {
    const world = await createWorld({ settings: { limits: { list: { max: 2, windowMs: MINUTE_MS } } } });
    const reader = await world.reader("dock_a");
    const other = await world.docyard.open(principal("org_x", "dock_a"), "dock_a", "artifacts:read");
    await reader.list({});
    // Bad requests count as well: they cost as much.
    await expect(reader.list({ limit: 0 })).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(reader.list({})).rejects.toMatchObject({
      code: "resource_exhausted",
      retryAfterMs: MINUTE_MS,
    });
    expect((await other.list({})).items).toEqual([]);
    world.advance(MINUTE_MS);
    expect((await reader.list({})).items).toEqual([]);
  });
});

describe("blob admission", () => {
  const statuses = [
    "created",
    "upload_started",
    "upload_completed",
    "upload_failed",
    "deleted",
  ] as const satisfies readonly ArtifactStatus[];
  const methods = ["PUT", "GET", "HEAD"] as const;

  const grantOf = (method: BlobGrant["method"], artifactId: string): BlobGrant => ({
    method,
    key: "k",
    artifactId,
    principalId: method === "PUT" ? null : "mc_1",
  });
  const addRow = (world: World, status: ArtifactStatus): Promise<void> =>
    world.store.artifacts.insert(artifactRow({ id: "art_1", status }), {
      type: "artifact.created",
      at: world.now(),
      by: null,
    });
  const codeOf = (world: World, grant: BlobGrant): Promise<unknown> =>
    world.docyard.blobHost.admit(grant).then(
      () => "admitted",
      (error: unknown) => (isDocyardError(error) ? error.code : error),
    );

  test.each(statuses.flatMap((status) => methods.map((method) => [method, status] as const)))(
    "%s of an artifact that is %s",
    async (method, status) => {
      const world = await createWorld();
      await addRow(world, status);
      const expected =
        status === "deleted"
          ? "not_found"
          : method === "PUT" && status !== "created"
            ? "failed_precondition"
            : "admitted";
      expect(await codeOf(world, grantOf(method, "art_1"))).toBe(expected);
    },
  );

  test.each(methods)("%s of an artifact that does not exist is not found", async (method) => {
    expect(await codeOf(await createWorld(), grantOf(method, "art_none"))).toBe("not_found");
  });

  test("downloads are counted when used, per client; asking for headers is free", async () => {
    const world = await createWorld({ settings: { limits: { download: { max: 2, windowMs: MINUTE_MS } } } });
    await addRow(world, "upload_completed");
    const get = grantOf("GET", "art_1");
    for (let i = 0; i < 5; i++) expect(await codeOf(world, grantOf("HEAD", "art_1"))).toBe("admitted");
    expect(await codeOf(world, get)).toBe("admitted");
    expect(await codeOf(world, get)).toBe("admitted");
    expect(await codeOf(world, get)).toBe("resource_exhausted");
    expect(await codeOf(world, { ...get, principalId: "mc_2" })).toBe("admitted");
    world.advance(MINUTE_MS);
    expect(await codeOf(world, get)).toBe("admitted");
  });

  test("a report of corruption is an event, and changes nothing else", async () => {
    const world = await createWorld();
    const writer = await world.writer("dock_a");
    const { artifact: upload } = await writer.create({ filename: "a.txt" });
    await stage(world, upload, bytesOf("a"));
    const { artifact } = await writer.complete({ uploadId: upload.uploadId! });
    const grant: BlobGrant = {
      method: "GET",
      key: artifact.blobKey!,
      artifactId: artifact.id,
      principalId: "mc_1",
    };
    await world.docyard.blobHost.corrupt(grant, "SHA-256 does not match");
    const { version, ...rest } = (await world.store.artifacts.get({ id: artifact.id }))!;
    expect({ ...rest, version: artifact.version }).toEqual(artifact);
    expect(version).toBe(artifact.version + 1);
    const events = await world.store.artifacts.events("dock_a", 0, 100);
    expect(events.at(-1)).toMatchObject({
      type: "artifact.corrupt",
      by: "mc_1",
      data: { key: artifact.blobKey, reason: "SHA-256 does not match" },
    });
    await world.docyard.blobHost.corrupt({ ...grant, artifactId: "art_none" }, "gone");
  });
});

describe("DocyardError", () => {
  test("shows its message and issues, never its cause", () => {
    const error = new DocyardError("internal", "Internal server error", {
      cause: new Error("password=hunter2"),
    });
    expect(JSON.stringify(error)).not.toContain("hunter2");
    expect(String(error)).toBe("DocyardError: Internal server error");
    expect(isDocyardError(error)).toBe(true);
    expect(isDocyardError(error, "internal")).toBe(true);
    expect(isDocyardError(error, "not_found")).toBe(false);
    expect(isDocyardError(new Error("x"))).toBe(false);
    expect(isDocyardError({ code: "internal" })).toBe(false);
  });
});
