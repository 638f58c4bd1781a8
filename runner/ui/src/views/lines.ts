// The lines of a log as its bytes come in. It holds the last ones, so that a long log does not fill the tab.

const HELD_MAX = 20_000;

/** More in one element make a browser slow. */
const SHOWN_MAX = 2_000;

/** A line longer than this goes on in the next one, since some programs never end theirs. */
const LENGTH_MAX = 4_000;

export interface Found {
  n: number;
  /** The last of them. */
  shown: string[];
}

export class Lines {
  #decoder = new TextDecoder();
  #lines: string[] = [];
  /** What came after the last line end. */
  #rest = "";
  n_dropped = 0;

  get n(): number {
    return this.#lines.length + (this.#rest ? 1 : 0);
  }

  add(bytes: Uint8Array) {
    const text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    const lines = text.split("\n");
    const rest = lines.pop() ?? "";
    for (const line of lines) this.#lines.push(...pieces(line));
    const begun = pieces(rest);
    this.#rest = begun.pop() ?? "";
    this.#lines.push(...begun);
    const n_over = this.#lines.length - HELD_MAX;
    // Dropping a few at a time would move all of them each time.
    if (n_over > HELD_MAX / 10) {
      this.#lines.splice(0, n_over);
      this.n_dropped += n_over;
    }
  }

  find(sought: string): Found {
    const all = this.#rest ? [...this.#lines, this.#rest] : this.#lines;
    if (!sought) return { n: all.length, shown: all.slice(-SHOWN_MAX) };
    const needle = sought.toLowerCase();
    const found = all.filter((line) => line.toLowerCase().includes(needle));
    return { n: found.length, shown: found.slice(-SHOWN_MAX) };
  }
}

function pieces(text: string): string[] {
  const line = clean(text);
  if (line.length <= LENGTH_MAX) return [line];
  return Array.from({ length: Math.ceil(line.length / LENGTH_MAX) }, (_, at) => line.slice(at * LENGTH_MAX, (at + 1) * LENGTH_MAX));
}

/** Without the colours of a terminal. */
const clean = (line: string) => line.replace(/\u001b\[[0-9;?]*[A-Za-z]|\r$/g, "");
