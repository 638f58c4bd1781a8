// In the place of a runner: serves the page, answers as it is told, and sends the rows of a query when a test says so.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A query that was asked, for as long as its answer goes on. */
export class Open {
  readonly sql: string;
  closed = false;
  #answer: ServerResponse;

  constructor(sql: string, answer: ServerResponse) {
    this.sql = sql;
    this.#answer = answer;
    answer.on("close", () => (this.closed = true));
    answer.writeHead(200, { "content-type": "application/x-ndjson" });
    answer.flushHeaders();
  }

  say(...lines: object[]) {
    this.#answer.write(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }

  /** As they are, so that a line may come in pieces. */
  write(text: string | Buffer) {
    this.#answer.write(text);
  }

  end(...lines: object[]) {
    this.say(...lines);
    this.#answer.end();
  }

  /** As when the process is killed. */
  break() {
    this.#answer.destroy();
  }
}

export class StandIn {
  /** By path below `/api/v1/`; a function is given the body of the request. */
  answers: Record<string, unknown> = {};
  /** What was asked of `/sql/stream`, in its order. */
  asked: Open[] = [];
  /** What was sent elsewhere, by path. */
  sent: { path: string; body: unknown }[] = [];
  /** Nobody is there: connections are dropped. */
  away = false;
  url = "";
  #page: Buffer;
  #server: Server;

  constructor(page: Buffer) {
    this.#page = page;
    this.#server = createServer((request, answer) => void this.#answer(request, answer));
  }

  async start() {
    await new Promise<void>((wake) => this.#server.listen(0, "127.0.0.1", wake));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The query that was asked last. */
  get last(): Open {
    const last = this.asked.at(-1);
    if (!last) throw new Error("nothing was asked");
    return last;
  }

  async end() {
    this.#server.closeAllConnections();
    await new Promise((wake) => this.#server.close(wake));
  }

  async #answer(request: IncomingMessage, answer: ServerResponse) {
    if (this.away) return void request.socket.destroy();
    const path = decodeURIComponent(new URL(request.url ?? "", this.url).pathname);
    if (path === "/") return void answer.writeHead(200, { "content-type": "text/html" }).end(this.#page);
    const target = path.replace(/^\/api\/v1\//, "");
    let text = "";
    for await (const piece of request) text += piece;
    const body = text ? JSON.parse(text) : undefined;
    const json = (status: number, said: unknown) => void answer.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(said));
    const known = this.answers[target];
    if (known instanceof Refusal) return json(known.status, known.said);
    if (target === "sql/stream" && known === undefined) return void this.asked.push(new Open(body.sql, answer));
    if (request.method === "POST") this.sent.push({ path: target, body });
    if (known === undefined) return json(404, { error: `there is no '${target}'`, diagnostics: [] });
    json(200, typeof known === "function" ? known(body) : known);
  }
}

export class Refusal {
  readonly status: number;
  readonly said: { error: string; diagnostics: { message: string; span: [number, number] | null; help: string | null }[] };

  constructor(status: number, error: string, diagnostics: Refusal["said"]["diagnostics"] = []) {
    this.status = status;
    this.said = { error, diagnostics };
  }
}
