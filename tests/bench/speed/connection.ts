/**
 * One HTTP/1.1 connection that stays open, spoken by hand: the client costs a fraction of what a server does, so that
 * the server is what is measured. Understands answers with a Content-Length, which is all that are asked for here.
 */

import { connect, type Socket } from "node:net";
import { once } from "node:events";

export interface Answered {
  readonly status: number;
  readonly body: Buffer;
}

export interface Connection {
  /**
   * Whatever is answered, but for a refusal, which rejects.
   * @param head method and path; @param headers lines that end in CRLF
   */
  ask(head: string, headers: string, body?: Uint8Array | null): Promise<Answered>;
  json<T>(head: string, headers: string, body?: object): Promise<T>;
  close(): void;
}

/** The server answers, and has no time: it says so, and what it was asked for is not done. */
export class Refused extends Error {
  override readonly name = "Refused";
}

/** What a server answers that waits for another one in vain, and one that has too much to do. */
const REFUSALS: readonly number[] = [502, 503];

const HEAD_END = Buffer.from("\r\n\r\n");

export async function openConnection(url: string): Promise<Connection> {
  const { hostname, port, host } = new URL(url);
  const socket: Socket = connect({ host: hostname, port: Number(port), noDelay: true });
  await once(socket, "connect");
  let parts: Buffer[] = [];
  let held = 0;
  let wanted = 0;
  let waiting: { resolve: (answer: Answered) => void; reject: (error: Error) => void } | null = null;

  const look = (): void => {
    if (waiting === null || held < wanted) return;
    const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts, held);
    parts = [all];
    const end = all.indexOf(HEAD_END);
    if (end < 0) return;
    const head = all.toString("latin1", 0, end);
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    wanted = end + HEAD_END.length + length;
    if (held < wanted) return;
    const answer = { status: Number(head.slice(9, 12)), body: all.subarray(end + HEAD_END.length, wanted) };
    parts = held === wanted ? [] : [all.subarray(wanted)];
    held -= wanted;
    wanted = 0;
    const { resolve, reject } = waiting;
    waiting = null;
    if (REFUSALS.includes(answer.status)) reject(new Refused(answer.body.toString("utf8", 0, 200)));
    else resolve(answer);
  };
  socket.on("data", (part: Buffer) => {
    parts.push(part);
    held += part.length;
    look();
  });
  const closed = new Error("the server closed the connection");
  const fail = (error: Error): void => waiting?.reject(error);
  socket.on("error", fail);
  socket.on("close", () => fail(closed));

  const ask: Connection["ask"] = (head, headers, body = null) =>
    new Promise((resolve, reject) => {
      // It may have been closed while nobody waited for an answer.
      if (socket.destroyed) {
        reject(closed);
        return;
      }
      waiting = { resolve, reject };
      const length = body === null ? "" : `Content-Length: ${body.byteLength}\r\n`;
      const text = `${head} HTTP/1.1\r\nHost: ${host}\r\n${headers}${length}\r\n`;
      if (body === null) socket.write(text);
      else if (body.byteLength < 65_536) socket.write(Buffer.concat([Buffer.from(text), body]));
      else {
        socket.write(text);
        socket.write(body);
      }
    });
  return {
    ask,
    async json<T>(head: string, headers: string, body?: object) {
      const said = body === undefined ? null : Buffer.from(JSON.stringify(body));
      const { status, body: answered } = await ask(head, headers, said);
      if (status >= 300)
        throw new Error(`${head.split("?")[0]} answered ${status}: ${answered.toString().slice(0, 200)}`);
      return JSON.parse(answered.toString()) as T;
    },
    close: () => socket.destroy(),
  };
}
