// Mistakes in the text of a query, with their places in it.

import type { Diagnostic } from "../read";
import { places } from "./statements";

export interface Place {
  from: number;
  to: number;
  /** From 1; the column counts characters. */
  line: number;
  column: number;
}

export interface Mistake {
  message: string;
  help: string | null;
  /** Without one the whole text is meant. */
  place: Place | undefined;
}

/** With their places in `text`, in the order of these. */
export function mistakesOf(text: string, diagnostics: Diagnostic[]): Mistake[] {
  return diagnostics
    .map(({ message, help, span }): Mistake => {
      if (!span) return { message, help, place: undefined };
      const [from = 0, to = 0] = places(text, span);
      const before = text.slice(0, from).split("\n");
      return { message, help, place: { from, to: Math.max(from, to), line: before.length, column: [...(before.at(-1) ?? "")].length + 1 } };
    })
    .sort((a, b) => (a.place?.from ?? 0) - (b.place?.from ?? 0));
}
