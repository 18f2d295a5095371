/**
 * How a zod shape becomes a described schema: the shape says what a field is, words beside it say what it means and
 * where its bounds are. Shapes of requests are the wire files'; routes are described in the files beside this one.
 */

import { extendZodWithOpenApi } from "@asteasolutions/zod-to-openapi";
import { z } from "zod";

extendZodWithOpenApi(z);

/** JSON Schema keywords and vendor extensions; `type` where the shape's own does not say it all. */
export type Words = Readonly<Record<string, unknown>> & { readonly description: string };

/** A copy with these words. A copy, because only what is made after the extension above can be described. */
export function described<S extends z.ZodType>(schema: S, words: Words): S {
  return schema.clone().openapi(words);
}

/** Under a name of its own, which other schemas refer to. */
export function named(name: string, schema: z.ZodType, words: Words): z.ZodType {
  return schema.clone().openapi(name, words);
}

/**
 * The shape that requests are parsed with, each of its fields in words.
 * @throws TypeError when a field has no words or words have no field: the document would not be the server's.
 */
export function request(
  name: string,
  shape: z.ZodObject,
  fields: Readonly<Record<string, Words>>,
  words: Words,
): z.ZodType {
  const parsed = Object.entries(shape.shape);
  const [known, told] = [parsed.map(([key]) => key), Object.keys(fields)];
  const odd = [...known.filter((key) => !told.includes(key)), ...told.filter((key) => !known.includes(key))];
  if (odd.length > 0) throw new TypeError(`${name}: ${odd.join(", ")} must be both parsed and described`);
  const entries = parsed.map(([key, field]) => [key, described(field as z.ZodType, fields[key]!)] as const);
  return named(name, z.object(Object.fromEntries(entries)), words);
}

/** An answer: exactly these fields. */
export function response(name: string, fields: z.ZodRawShape, description: string): z.ZodType {
  return named(name, z.strictObject(fields), { description });
}

export function text(description: string, words: Readonly<Record<string, unknown>> = {}): z.ZodString {
  return described(z.string(), { description, ...words });
}

export function textOrNull(
  description: string,
  words: Readonly<Record<string, unknown>> = {},
): z.ZodNullable<z.ZodString> {
  return described(z.string().nullable(), { description, ...words });
}

export function timestamp(description: string): z.ZodString {
  return text(`${description}, UTC, with milliseconds`, { format: "date-time" });
}

export function count(description: string, minimum: number = 0): z.ZodType {
  return described(z.int(), { description, minimum });
}

export function url(description: string): z.ZodString {
  return text(description, { format: "uri" });
}
