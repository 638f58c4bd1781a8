// The lines of a log as its bytes come in. It holds the last ones, so that a long log does not fill the tab.

const HELD_MAX = 50_000;

/** More in one element make a browser slow. */
const SHOWN_MAX = 2_000;

/** A line longer than this is cut where it is shown. */
const LENGTH_MAX = 10_000;

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
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#lines.push(clean(line));
    const n_over = this.#lines.length - HELD_MAX;
    // Dropping a few at a time would move all of them each time.
    if (n_over > HELD_MAX / 10) {
      this.#lines.splice(0, n_over);
      this.n_dropped += n_over;
    }
  }

  find(sought: string): Found {
    const all = this.#rest ? [...this.#lines, clean(this.#rest)] : this.#lines;
    if (!sought) return { n: all.length, shown: all.slice(-SHOWN_MAX) };
    const needle = sought.toLowerCase();
    const found = all.filter((line) => line.toLowerCase().includes(needle));
    return { n: found.length, shown: found.slice(-SHOWN_MAX) };
  }
}

/** Without the colours of a terminal. */
const clean = (line: string) => line.slice(0, LENGTH_MAX).replace(/\u001b\[[0-9;?]*[A-Za-z]|\r$/g, "");
