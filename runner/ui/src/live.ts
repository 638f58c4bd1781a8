// What a view shows, read again and again for as long as it is shown.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { Failure, read, tokenWanted } from "./read";

export interface Live<T> {
  value: T | undefined;
  /** That there is no such thing, or that it may not be seen. Trouble on the way is the page's, not the view's. */
  failure: Failure | undefined;
}

/** Since when reading fails, and why; none while it goes well. */
export const trouble = signal<{ since: number; text: string } | undefined>(undefined);

/** What fails now, by what was to be read: one that goes well does not hide another that does not. */
const failing = new Map<string, string>();

const HIDDEN_MS = 15_000;
const FAILING_MS_MAX = 5_000;
/** Of the time at most a tenth goes into reading and drawing, however much there is. */
const REST_FACTOR = 10;

/** Waits; ends early when it is aborted, or when the page is shown again. */
export function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
      stop.removeEventListener("abort", end);
      resolve();
    };
    const shown = () => {
      if (!document.hidden) end();
    };
    const timer = setTimeout(end, ms);
    document.addEventListener("visibilitychange", shown);
    stop.addEventListener("abort", end);
  });
}

/** Says what an attempt to read `target` came to: no text, that it went well or is over. */
export function note(target: string, text?: string) {
  if (text === undefined) failing.delete(target);
  else failing.set(target, text);
  const [first] = failing.values();
  if (first !== trouble.value?.text) trouble.value = first ? { since: trouble.value?.since ?? Date.now(), text: first } : undefined;
}

/** Trouble passes; that a thing is not there, or may not be seen, is an answer. */
export const isTrouble = (failure: Failure) => failure.status === 0 || failure.status >= 500;

/** One that fails is tried again soon, and then less often. */
export function nextWait(every: number, n_failed: number): number {
  if (document.hidden) return Math.max(every, HIDDEN_MS);
  return n_failed > 0 ? Math.min(500 * 2 ** n_failed, FAILING_MS_MAX) : every;
}

async function follow<T>(target: string, every: number, stop: AbortSignal, show: (live: Live<T>) => void) {
  let n_failed = 0;
  while (!stop.aborted) {
    const began = performance.now();
    try {
      const value = await read<T>(target, stop);
      if (stop.aborted) return;
      n_failed = 0;
      note(target);
      show({ value, failure: undefined });
      // The frame in which it is drawn counts as well; a hidden page draws none.
      if (!document.hidden) await new Promise(requestAnimationFrame);
    } catch (error) {
      if (stop.aborted) return;
      const failure = error instanceof Failure ? error : new Failure(0, String(error));
      if (isTrouble(failure)) {
        n_failed += 1;
        note(target, failure.message);
      } else {
        note(target);
        show({ value: undefined, failure });
      }
    }
    const spent = (performance.now() - began) * REST_FACTOR;
    await pause(Math.max(nextWait(every, n_failed), Math.min(spent, FAILING_MS_MAX)), stop);
  }
}

const NOTHING: Live<never> = { value: undefined, failure: undefined };

/** Reads each of `targets` every second, or as often as is said, for as long as the view is shown. */
export function useLives<T>(targets: string[], every = 1000): Live<T>[] {
  const [seen, see] = useState<Record<string, Live<T>>>({});
  const wanted = tokenWanted.value;
  useEffect(() => {
    if (wanted) return;
    const stop = new AbortController();
    for (const target of targets) {
      void follow<T>(target, every, stop.signal, (live) => see((seen) => ({ ...seen, [target]: live })));
    }
    return () => {
      stop.abort();
      for (const target of targets) note(target);
    };
  }, [targets.join(" "), every, wanted]);
  return targets.map((target) => seen[target] ?? NOTHING);
}

export const useLive = <T>(target: string, every = 1000): Live<T> => useLives<T>([target], every)[0] ?? NOTHING;
