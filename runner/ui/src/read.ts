// The one way to the API: its token, its failures, its writes.

import { signal } from "@preact/signals";

const KEY = "smack-token";

/** The cluster's token, for as long as the tab is open. */
const token = signal(sessionStorage.getItem(KEY) ?? "");

/** Why the API refused: it was shown no token, or not the right one. */
export const tokenWanted = signal<"none" | "wrong" | undefined>(undefined);

export function setToken(text: string) {
  token.value = text;
  sessionStorage.setItem(KEY, text);
  tokenWanted.value = undefined;
}

/** One mistake in a text. `span` is where, in bytes of the text as UTF-8. */
export interface Diagnostic {
  message: string;
  span: [from: number, to: number] | null;
  help: string | null;
}

/** What the API refused, or that it does not answer (`status` 0). Its message is one sentence. */
export class Failure extends Error {
  readonly status: number;
  /** Of a text that was sent. */
  readonly diagnostics: Diagnostic[];

  constructor(status: number, message: string, diagnostics: Diagnostic[] = []) {
    super(message);
    this.status = status;
    this.diagnostics = diagnostics;
  }
}

/** A path below `/api/v1`; a slash in a part stands between segments, all else is escaped. */
export const path = (...parts: string[]) =>
  parts.map((part) => part.split("/").map(encodeURIComponent).join("/")).join("/");

/** One that hangs for so long counts as not answering; a query may take as long as it likes, since one can stop it. */
const PATIENCE_MS = 15_000;

async function call(target: string, options: RequestInit, stop?: AbortSignal, patience: number | undefined = PATIENCE_MS): Promise<Response> {
  const headers = new Headers(options.headers);
  const shown = token.value;
  if (shown) headers.set("authorization", `Bearer ${shown}`);
  const signal = AbortSignal.any([...(patience === Infinity ? [] : [AbortSignal.timeout(patience)]), ...(stop ? [stop] : [])]);
  let answer: Response;
  try {
    answer = await fetch(`api/v1/${target}`, { ...options, headers, signal, cache: "no-store" });
  } catch (error) {
    if (stop?.aborted) throw error;
    throw new Failure(0, "the runner does not answer");
  }
  if (answer.ok) return answer;
  // One that was shown before the present one says nothing of that.
  if (answer.status === 401 && shown === token.value) tokenWanted.value = shown ? "wrong" : "none";
  const said = (await answer.json().catch(() => null)) as { error?: string; diagnostics?: Diagnostic[] } | null;
  throw new Failure(answer.status, said?.error ?? `the runner answered with status ${answer.status}`, said?.diagnostics ?? []);
}

/** A path that the runner does not know is taken for gRPC there by older ones, and answered with success. */
function isOf(kind: string, answer: Response, target: string): Response {
  if (!answer.headers.get("content-type")?.includes(kind)) throw new Failure(404, `there is no '${target}'`);
  return answer;
}

export async function read<T>(target: string, stop?: AbortSignal): Promise<T> {
  return (await isOf("json", await call(target, {}, stop), target).json()) as T;
}

/** Numbers with all of their digits. */
export async function readExactly<T>(target: string, stop?: AbortSignal): Promise<T> {
  return exactly(await isOf("json", await call(target, {}, stop), target).text()) as T;
}

const inJson = (method: "POST" | "DELETE", body: unknown, accept = "application/json"): RequestInit => ({
  method,
  ...(body === undefined ? {} : { headers: { "content-type": "application/json", accept }, body: JSON.stringify(body) }),
});

export async function write(method: "POST" | "DELETE", target: string, body?: unknown): Promise<void> {
  await call(target, inJson(method, body));
}

/** Sends what is answered with something. */
export async function ask<T>(target: string, body: unknown, stop?: AbortSignal, patience?: number): Promise<T> {
  const answer = isOf("json", await call(target, inJson("POST", body), stop, patience), target);
  return exactly(await answer.text()) as T;
}

/** More in one line are no rows that a page could show. */
const LINE_MAX = 64 << 20;

/**
 * Sends what is answered with lines of JSON, for as long as they come: each batch of those that came together. What is told
 * before the end of them is a `Failure` of status 0.
 */
export async function* lines(target: string, body: unknown, stop: AbortSignal): AsyncGenerator<string[]> {
  const answer = isOf("ndjson", await call(target, inJson("POST", body, "application/x-ndjson"), stop, Infinity), target);
  const reader = answer.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const come = rest.split("\n");
      rest = done ? "" : (come.pop() ?? "");
      if (rest.length > LINE_MAX) throw new Failure(413, "a row is longer than the page can hold");
      const full = come.filter(Boolean);
      if (full.length) yield full;
      if (done) return;
    }
  } catch (error) {
    if (stop.aborted || error instanceof Failure) throw error;
    throw new Failure(0, "the runner broke off its answer");
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** A whole number beyond what JavaScript counts exactly stays as it was written. */
const UNSAFE = /\d{16}/;

export function exactly(text: string): unknown {
  if (!UNSAFE.test(text)) return JSON.parse(text);
  type Revive = (key: string, value: unknown, context?: { source?: string }) => unknown;
  const revive: Revive = (_, value, context) =>
    typeof value === "number" && context?.source && !Number.isSafeInteger(value) && /^-?\d+$/.test(context.source) ? context.source : value;
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}

export interface Piece {
  bytes: Uint8Array;
  /** Where in the log they begin, and how long it is now. */
  offset: number;
  size: number;
}

export async function readLog(task: string, stream: string, offset: number, stop: AbortSignal): Promise<Piece> {
  const answer = await call(`${path("logs", task)}?stream=${stream}&offset=${offset}`, {}, stop);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const number = (name: string, otherwise: number) => Number(answer.headers.get(name) ?? otherwise);
  const begin = number("x-offset", offset);
  return { bytes, offset: begin, size: number("x-size", begin + bytes.length) };
}
