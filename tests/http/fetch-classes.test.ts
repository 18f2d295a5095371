/**
 * Inside an executable the program sees stand-ins for `Headers`, `Request` and `Response`. What is asked here is that
 * nobody can tell them from Node's, and that Node loads its own only when an object is made.
 */

import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { fetchClasses } from "../../packages/cli/exe/fetch-classes.ts";

interface Classes {
  readonly Headers: typeof Headers;
  readonly Request: typeof Request;
  readonly Response: typeof Response;
}
const classes = (): Classes => fetchClasses() as unknown as Classes;

test("what they make is Node's", async () => {
  const { Headers: H, Request: Q, Response: R } = classes();
  expect(Object.getPrototypeOf(new H())).toBe(Headers.prototype);
  expect(Object.getPrototypeOf(new Q("http://host/"))).toBe(Request.prototype);
  expect(Object.getPrototypeOf(new R())).toBe(Response.prototype);
  expect(await new R("text", { status: 201, headers: new H({ a: "b" }) }).text()).toBe("text");
});

test("a class that inherits from one before Node's is loaded inherits from Node's", async () => {
  const { Request: Q, Response: R } = classes();
  class Ours extends Q {
    get twice(): string {
      return this.url + this.url;
    }
  }
  /** As @hono/node-server makes its own. */
  class Light {
    readonly status = 200;
  }
  Object.setPrototypeOf(Light, R);
  Object.setPrototypeOf(Light.prototype, R.prototype);

  const ours = new Ours("http://host/", { method: "POST", body: "text" });
  expect([ours.twice, ours.method, await ours.text()]).toEqual(["http://host/http://host/", "POST", "text"]);
  for (const one of [Ours, Q, Request]) expect(ours).toBeInstanceOf(one);
  expect(new Light()).toBeInstanceOf(R);
  expect(new R()).not.toBeInstanceOf(Light);
  expect(new Light()).toBeInstanceOf(Response);
});

test("they know Node's own objects, and nothing else", () => {
  const { Headers: H, Response: R } = classes();
  expect(new Response()).toBeInstanceOf(R);
  expect(new Headers()).toBeInstanceOf(H);
  for (const other of [undefined, null, "text", {}, [], Object.create(null), new Map(), new Headers()]) {
    expect(other).not.toBeInstanceOf(R);
  }
});

test("they load nothing of Node's before an object is made", () => {
  const module = JSON.stringify(new URL("../../packages/cli/exe/fetch-classes.ts", import.meta.url).href);
  const script = `
    import { fetchClasses } from ${module};
    const { Headers, Request, Response } = fetchClasses();
    const isLoaded = () => process.moduleLoadList.some((name) => name.endsWith("undici/undici"));
    class Ours extends Request {}
    const before = [{} instanceof Headers, [] instanceof Response, Object.create(Ours.prototype) instanceof Request, isLoaded()];
    new Headers();
    console.log(JSON.stringify([...before, isLoaded()]));`;
  const said = execFileSync(process.execPath, ["--input-type=module", "--eval", script], {
    encoding: "utf8",
  });
  expect(JSON.parse(said)).toEqual([false, false, true, false, true]);
});
