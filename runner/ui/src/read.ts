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

/** What the API refused, or that it does not answer (`status` 0). Its message is one sentence. */
export class Failure extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A path below `/api/v1`; a slash in a part stands between segments, all else is escaped. */
export const path = (...parts: string[]) =>
  parts.map((part) => part.split("/").map(encodeURIComponent).join("/")).join("/");

/** One that hangs for so long counts as not answering. */
const PATIENCE_MS = 15_000;

async function call(target: string, options: RequestInit, stop?: AbortSignal): Promise<Response> {
  const headers = new Headers(options.headers);
  const shown = token.value;
  if (shown) headers.set("authorization", `Bearer ${shown}`);
  const signal = AbortSignal.any([AbortSignal.timeout(PATIENCE_MS), ...(stop ? [stop] : [])]);
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
  const said = (await answer.json().catch(() => null)) as { error?: string } | null;
  throw new Failure(answer.status, said?.error ?? `the runner answered with status ${answer.status}`);
}

export async function read<T>(target: string, stop?: AbortSignal): Promise<T> {
  const answer = await call(target, {}, stop);
  // A path that the runner does not know is taken for gRPC there, and answered with success.
  if (!answer.headers.get("content-type")?.includes("json")) throw new Failure(404, `there is no '${target}'`);
  return (await answer.json()) as T;
}

export async function write(method: "POST" | "DELETE", target: string, body?: unknown): Promise<void> {
  await call(target, {
    method,
    ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
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
