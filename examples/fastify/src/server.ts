/** A Fastify app with docyard below `/files`, its data in one folder. Everything else of the app is its own. */

import { localDocyard } from "@docyard/adapters/local";
import { createApp } from "@docyard/server";
import { getRequestListener } from "@hono/node-server";
import fastify from "fastify";
import { Hono } from "hono";

const port = Number(process.env["PORT"] ?? 3000);
const yard = await localDocyard({
  folder: process.env["FOLDER"] ?? "docyard",
  publicUrl: process.env["PUBLIC_URL"] ?? `http://localhost:${port}/files`,
});
const firstRun = await yard.provisioning.firstRun();
if (firstRun !== null) console.log("first start:", JSON.stringify(firstRun));

const app = fastify();
app.get("/", async () => "An app with files.\n");

const files = getRequestListener(
  new Hono().mount("/files", createApp({ ...yard, version: "1.0.0" }).fetch).fetch,
);
await app.register(async (scope) => {
  // In this scope alone no body is read before docyard does, whatever its type and size.
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser("*", (_request, _payload, done) => done(null));
  scope.all("/files/*", (request, reply) => {
    reply.hijack();
    void files(request.raw, reply.raw);
  });
});

const background = yard.docyard.runInBackground();
app.addHook("onClose", async () => {
  await background.stop();
  await yard.close();
});
await app.listen({ port });
console.log(`listening on http://localhost:${port}`);

process.once("SIGTERM", () => void app.close());
