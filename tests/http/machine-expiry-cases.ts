/** The machine face's black-box tests 21 and 58 (contract 5): what an hour does to tokens and to download URLs. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Clock, ErrorJson, Target, World } from "./target.ts";
import { answer, dockClient, openWorld, requestToken, someBytes } from "./target.ts";

const HOUR_MS = 3_600_000;

export function machineExpiryCases(
  name: string,
  open: () => Promise<Target & { readonly clock: Clock }>,
): void {
  describe(`expiry on the machine face on ${name}`, () => {
    let target: Target & { readonly clock: Clock };
    let world: World;

    beforeAll(async () => {
      target = await open();
    });
    afterAll(async () => {
      await target.close();
    });
    beforeEach(async () => {
      world = await openWorld(target);
    });

    test("21. an expired token is 401", async () => {
      expect((await world.w.create({ filename: "a" })).status).toBe(201);
      target.clock.advance(HOUR_MS);
      expect(await world.w.create({ filename: "a" })).toMatchObject({
        status: 401,
        body: { statusCode: 401, error: "Unauthorized" },
      });
    });

    test("58. an expired downloadUrl is refused, a fresh list works", async () => {
      await world.w.upload(someBytes());
      const url = async (reader: typeof world.r): Promise<string> =>
        (await reader.list()).body.data[0]?.downloadUrl ?? "";
      const old = await url(world.r);
      expect((await target.fetch(old)).status).toBe(200);
      target.clock.advance(HOUR_MS + 1_000);
      expect(await answer<ErrorJson>(target.fetch(old))).toMatchObject({
        status: 403,
        body: { statusCode: 403, error: "Forbidden" },
      });
      const again = dockClient(target, world.dockId, await requestToken(target, world.client));
      expect((await target.fetch(await url(again))).status).toBe(200);
    });

    test("an uploadUrl dies after an hour too", async () => {
      const { body } = await world.w.create({ filename: "a" });
      target.clock.advance(HOUR_MS + 1_000);
      expect((await world.w.put(body.uploadUrl, someBytes())).status).toBe(403);
    });
  });
}
