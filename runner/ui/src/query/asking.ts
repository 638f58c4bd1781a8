// A query that is asked: its rows as they come, until it ends, is stopped, or its view is left.

import { useEffect, useState } from "preact/hooks";
import { isTrouble, nextWait, note, pause } from "../live";
import { ask, exactly, Failure, lines, read } from "../read";
import type { VersionView } from "../types";
import { type Header, Result, ROWS_MAX, type Value } from "./result";
import { statements, tells } from "./statements";

/** "away": the runner broke off a stream, which is asked for again as soon as it answers. */
export type Phase = "none" | "asking" | "running" | "away" | "ended" | "stopped" | "failed";

export interface Asked {
  phase: Phase;
  /** That was asked. */
  text: string;
  result: Result | undefined;
  failure: Failure | undefined;
  /** Counts what came, since `result` changes in place. */
  n_seen: number;
  began_ms: number;
  took_ms: number;
  /** Lately. */
  rows_per_second: number;
  /** When a stream began anew, since the runner had been away. */
  again_ms: number | undefined;
  /** What was told beside the rows, the latest last. */
  notices: string[];
}

const NOTHING: Asked = { phase: "none", text: "", result: undefined, failure: undefined, n_seen: 0, began_ms: 0, took_ms: 0, rows_per_second: 0, again_ms: undefined, notices: [] };

const TARGET = "sql/stream";

/** What comes more often than that nobody sees; and of the time at most a tenth goes into drawing. */
const DRAWN_MS = 250;
const REST_FACTOR = 10;
const DRAWN_MS_MAX = 3000;

/** A stream that broke as soon as this was perhaps what broke the runner; it is not asked again for ever. */
const SOON_MS = 10_000;
const BROKEN_MAX = 3;

/** More of them say nothing new. */
const NOTICES_MAX = 5;

/** Over which the rate of rows is told. */
const LATELY_MS = 5000;

class Asking {
  #show: (asked: Asked) => void;
  #stop: AbortController | undefined;
  #asked = NOTHING;
  #drawing: ReturnType<typeof setTimeout> | undefined;
  /** How many had come when. */
  #counts: { at: number; n: number }[] = [];

  constructor(show: (asked: Asked) => void) {
    this.#show = show;
  }

  run(text: string) {
    this.end();
    const stop = new AbortController();
    this.#stop = stop;
    this.#counts = [];
    this.#asked = { ...NOTHING, phase: "asking", text, began_ms: performance.now() };
    this.#draw();
    void this.#follow(text, stop.signal);
  }

  stop() {
    if (!this.#stop) return;
    this.end();
    this.#become("stopped");
  }

  /** Without a word, since nobody looks. */
  end() {
    this.#stop?.abort();
    this.#stop = undefined;
    clearTimeout(this.#drawing);
    this.#drawing = undefined;
    note(TARGET);
  }

  #become(phase: Phase, change: Partial<Asked> = {}) {
    const isOver = phase !== "asking" && phase !== "running" && phase !== "away";
    if (isOver) this.#stop = undefined;
    this.#asked = { ...this.#asked, ...change, phase, took_ms: performance.now() - this.#asked.began_ms };
    this.#draw();
  }

  #draw() {
    clearTimeout(this.#drawing);
    this.#drawing = undefined;
    this.#asked = { ...this.#asked, n_seen: this.#asked.n_seen + 1 };
    const { result } = this.#asked;
    if (result) {
      const now = performance.now();
      this.#counts.push({ at: now, n: result.n_come });
      while (this.#counts.length > 2 && (this.#counts[1]?.at ?? now) < now - LATELY_MS) this.#counts.shift();
      const first = this.#counts[0];
      this.#asked.rows_per_second = first && now > first.at ? ((result.n_come - first.n) / (now - first.at)) * 1000 : 0;
    }
    this.#show(this.#asked);
  }

  /** Soon: not for each row. A stream whose rows have paused is drawn too, for its rate. */
  #drawSoon(drawn_ms = 0) {
    this.#drawing ??= setTimeout(
      async () => {
        const began = performance.now();
        this.#draw();
        if (!document.hidden) await new Promise(requestAnimationFrame);
        if (this.#stop && this.#asked.phase === "running") this.#drawSoon(performance.now() - began);
      },
      Math.min(Math.max(DRAWN_MS, drawn_ms * REST_FACTOR), DRAWN_MS_MAX),
    );
  }

  async #follow(text: string, stop: AbortSignal) {
    for (let n_broken = 0; !stop.aborted; ) {
      const began = performance.now();
      const before = this.#asked.result;
      try {
        await this.#once(text, stop);
        return;
      } catch (error) {
        if (stop.aborted) return;
        const failure = error instanceof Failure ? error : new Failure(0, String(error));
        const { result } = this.#asked;
        // One that ends by itself may have been all but there; whether to ask for it again is not for the page to say.
        const isAway = failure.status === 0 || (isTrouble(failure) && before !== undefined && result === before);
        const goesOn = isAway && result !== undefined && !result.ended && result.bounded !== true;
        n_broken = performance.now() - began < SOON_MS ? n_broken + 1 : 1;
        if (!goesOn || n_broken > BROKEN_MAX) {
          note(TARGET);
          this.#become("failed", { failure });
          return;
        }
        note(TARGET, failure.message);
        this.#become("away");
        await answers(stop);
        if (stop.aborted) return;
        note(TARGET);
        this.#asked = { ...this.#asked, again_ms: Date.now() };
      }
    }
  }

  async #once(text: string, stop: AbortSignal) {
    const last = statements(text).pop();
    if (last && tells(last)) return await this.#whole(text, stop);
    let result: Result | undefined;
    try {
      for await (const come of lines(TARGET, { sql: text }, stop)) {
        if (stop.aborted) return;
        for (const line of come) {
          const said = exactly(line) as Partial<Header> & { rows?: Record<string, Value>[]; end?: boolean; error?: string; notice?: string };
          if (said.error !== undefined) throw new Failure(500, said.error);
          if (said.notice !== undefined) {
            const before = this.#asked.notices.filter((notice) => notice !== said.notice);
            this.#asked = { ...this.#asked, notices: [...before, said.notice].slice(-NOTICES_MAX) };
          } else if (said.columns) {
            result = new Result({ columns: said.columns, types: said.types ?? [], ...said });
            this.#counts = [];
            this.#become("running", { result });
          } else if (said.rows && result && !result.add(said.rows, line.length)) {
            if (result.changes) throw new Failure(413, "more rows are there at a time than the page can hold; group by less, or take the first ones of them (ORDER BY … LIMIT n)");
            result.ended = true;
            this.#become("ended");
            return;
          } else if (said.end && result) {
            result.ended = true;
            this.#become("ended");
            return;
          }
        }
        this.#drawSoon();
      }
    } catch (error) {
      // A runner of before there was such a thing answers what ends, all at once.
      if (!result && error instanceof Failure && (error.status === 404 || error.status === 405)) return await this.#whole(text, stop);
      throw error;
    }
    if (!stop.aborted) throw new Failure(0, "the runner broke off its answer");
  }

  async #whole(text: string, stop: AbortSignal) {
    const said = await ask<Header & { rows: Record<string, Value>[]; truncated?: boolean }>("sql", { sql: text, limit: ROWS_MAX }, stop, Infinity);
    if (stop.aborted) return;
    const result = new Result({ columns: said.columns, types: said.types, bounded: true });
    result.add(said.rows, 0);
    result.ended = true;
    result.truncated ||= said.truncated ?? false;
    this.#become("ended", { result });
  }
}

/** Waits until the runner answers again, which costs it little. */
async function answers(stop: AbortSignal) {
  for (let n_failed = 1; !stop.aborted; n_failed += 1) {
    await pause(nextWait(1000, n_failed), stop);
    try {
      await read<VersionView>("version", stop);
      return;
    } catch (error) {
      if (error instanceof Failure && !isTrouble(error)) return;
    }
  }
}

/** A query of the view that asks, which ends with it. */
export function useAsking(): [Asked, Asking] {
  const [asked, setAsked] = useState(NOTHING);
  const [asking] = useState(() => new Asking(setAsked));
  useEffect(() => () => asking.end(), [asking]);
  return [asked, asking];
}
