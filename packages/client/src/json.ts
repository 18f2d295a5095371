/** JSON as a type: what metadata may hold. Whether a value is within a server's limits, the server says. */

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

export interface JsonObject {
  readonly [key: string]: JsonValue | undefined;
}
