/**
 * The test double speaks both faces as a server does, and refuses what a server refuses: the suites of the contract run
 * on it unchanged, and a table says side by side with the real app what must never pass.
 */

import type { TestDouble } from "@docyard/adapters/testing";
import { testDouble } from "@docyard/adapters/testing";
import { createApp } from "@docyard/server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDouble } from "./double-target.ts";
import { machineCases } from "./machine-cases.ts";
import { machineExpiryCases } from "./machine-expiry-cases.ts";
import { studioCases } from "./studio-cases.ts";

machineCases("the test double", openDouble);
machineExpiryCases("the test double", openDouble);
studioCases("the test double", openDouble);

describe("what would be refused live is refused by the double", () => {
  const SIZE_MAX = 1_000;
  const SETTINGS = {
    sizeMax: SIZE_MAX,
    limits: { list: { max: 2, windowMs: 60_000 }, download: { max: 1, windowMs: 3_600_000 } },
  };
  const ARTIFACTS = "/v1/machine/docks/dock_default/artifacts";
  let double: TestDouble;

  beforeAll(async () => {
    double = await testDouble(createApp, { settings: SETTINGS });
  });
  afterAll(() => double.close());

  const withToken = (token: string, init: RequestInit = {}): RequestInit => ({
    ...init,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  });
  const json = (body: object): RequestInit => ({ method: "POST", body: JSON.stringify(body) });
  const create = async (body: object = {}): Promise<{ uploadUrl: string; uploadId: string }> => {
    const init = withToken(await double.issueToken(), json({ filename: "a.txt", ...body }));
    return (await (await double.fetch(ARTIFACTS, init)).json()) as { uploadUrl: string; uploadId: string };
  };
  const complete = async (uploadId: string): Promise<Response> =>
    double.fetch(`${ARTIFACTS}/upload/complete`, withToken(await double.issueToken(), json({ uploadId })));
  const download = async (): Promise<string> => {
    await double.advance("1m");
    await double.seed({ artifacts: 1 });
    const listed = await double.fetch(ARTIFACTS, withToken(await double.issueToken()));
    return ((await listed.json()) as { data: { downloadUrl: string }[] }).data[0]!.downloadUrl;
  };
  const put = (url: string, body: RequestInit["body"] = "hello"): Promise<Response> =>
    double.fetch(url, { method: "PUT", body: body as NonNullable<RequestInit["body"]> });
  const tampered = (url: string): string => url.replace(/.$/, (digit) => (digit === "0" ? "1" : "0"));
  /** A body that does not say how long it is. */
  const stream = (bytes: number): ReadableStream<Uint8Array> =>
    new ReadableStream({
      start(controller) {
        controller.enqueue(new Uint8Array(bytes));
        controller.close();
      },
    });

  const REFUSED: Record<string, readonly [status: number, ask: () => Promise<Response>]> = {
    "no token": [401, () => double.fetch(ARTIFACTS)],
    "a token of another seed": [
      401,
      async () => {
        await using other = await testDouble(createApp, { seed: "another" });
        return double.fetch(ARTIFACTS, withToken(other.token));
      },
    ],
    "an expired token": [
      401,
      async () => {
        const token = await double.issueToken();
        await double.advance("1h");
        return double.fetch(ARTIFACTS, withToken(token));
      },
    ],
    "the wrong scope": [
      403,
      async () =>
        double.fetch(
          ARTIFACTS,
          withToken(await double.issueToken(["artifacts:read"]), json({ filename: "a" })),
        ),
    ],
    "another dock": [
      403,
      async () => {
        await double.provisioning.createDock(`dock_${double.now()}`);
        return double.fetch(
          ARTIFACTS.replace("dock_default", `dock_${double.now()}`),
          withToken(await double.issueToken()),
        );
      },
    ],
    "a declared size over the limit": [
      409,
      async () =>
        double.fetch(
          ARTIFACTS,
          withToken(await double.issueToken(), json({ filename: "a", size: SIZE_MAX + 1 })),
        ),
    ],
    "a body over the limit": [409, async () => put((await create()).uploadUrl, new Uint8Array(SIZE_MAX + 1))],
    "a body over the limit that does not say so": [
      409,
      async () => {
        const { uploadUrl } = await create();
        return double.fetch(uploadUrl, { method: "PUT", body: stream(SIZE_MAX + 1), duplex: "half" });
      },
    ],
    "an upload URL with another signature": [403, async () => put(tampered((await create()).uploadUrl))],
    "an expired upload URL": [
      403,
      async () => {
        const { uploadUrl } = await create();
        await double.advance("1h1s");
        return put(uploadUrl);
      },
    ],
    "an upload that is complete": [
      409,
      async () => {
        const { uploadUrl, uploadId } = await create();
        await put(uploadUrl, `once ${uploadId}`);
        expect((await complete(uploadId)).status).toBe(200);
        return put(uploadUrl);
      },
    ],
    "completing without bytes": [409, async () => complete((await create()).uploadId)],
    "completing after the window": [
      409,
      async () => {
        const { uploadUrl, uploadId } = await create();
        await put(uploadUrl);
        // The sweep that ends it comes within 30 s, as live.
        await double.advance("24h30s");
        return complete(uploadId);
      },
    ],
    "completing other bytes than were declared": [
      422,
      async () => {
        const { uploadUrl, uploadId } = await create({ size: 4 });
        await put(uploadUrl, "hello");
        return complete(uploadId);
      },
    ],
    "an expired download URL": [
      403,
      async () => {
        const url = await download();
        await double.advance("1h1s");
        return double.fetch(url);
      },
    ],
    "a download URL with another signature": [403, async () => double.fetch(tampered(await download()))],
    "a download over the limit": [
      429,
      async () => {
        const url = await download();
        expect((await double.fetch(url)).status).toBe(200);
        return double.fetch(url);
      },
    ],
    "a list over the limit": [
      429,
      async () => {
        const init = withToken(await double.issueToken());
        for (let i = 0; i < 2; i++) expect((await double.fetch(ARTIFACTS, init)).status).toBe(200);
        return double.fetch(ARTIFACTS, init);
      },
    ],
    "a token over the limit": [
      429,
      async () => {
        const { clientId, clientSecret } = double.client;
        const ask = (): Promise<Response> =>
          double.fetch("/v1/oauth/token", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({
              grant_type: "client_credentials",
              client_id: clientId,
              client_secret: clientSecret,
            }),
          });
        for (let i = 0; i < 10; i++) expect((await ask()).status).toBe(200);
        return ask();
      },
    ],
    "a wrong secret": [
      401,
      () =>
        double.fetch("/v1/oauth/token", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({
            grant_type: "client_credentials",
            client_id: double.client.clientId,
            client_secret: `${double.client.clientSecret}x`,
          }),
        }),
    ],
    "a Studio key that is none": [
      401,
      () => double.fetch("/api/v1/artifacts", { headers: { Authorization: "Bearer dk_live_nobody" } }),
    ],
  };

  test.each(Object.entries(REFUSED))("%s", async (_name, [status, ask]) => {
    // A minute, an hour and a day of limits begin anew for each.
    await double.advance("1h");
    const response = await ask();
    expect([response.status, await response.text()]).toEqual([status, expect.stringMatching(/./)]);
    if (status === 429) expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
  });
});
