// What a query has answered so far, of which never more is held than a page can show.

import { isNumber } from "./types";

export type Value = null | boolean | number | string | object;

export interface Header {
  columns: string[];
  types: string[];
  /** Rows come and go: the first column, `op`, says which. */
  changes?: boolean;
  /** Columns that tell the rows apart, if it is known. */
  key?: string[] | null;
  /** It ends by itself. */
  bounded?: boolean;
}

export interface Row {
  /** The same for as long as it is shown. */
  id: number;
  cells: Value[];
}

/** A page of people reads no more. */
export const ROWS_MAX = 1000;

/** Of those that come and go there may be so many at a time. */
const HELD_MAX = 20_000;

/** What replaces a row comes soon behind its removal, perhaps not in the same message, and takes its place. */
const REPLACED_MS = 2000;

/** Of their JSON, on both ends of a result, or of all rows that are there now. */
const CHARS_MAX = 16 << 20;

const OP = "op";

/** Rows that are equal, which are one entry. */
interface Entry {
  row: Row;
  /** How many there are; less than none where one was taken back before it came. */
  n: number;
  chars: number;
}

/** Rows at one end of a result. */
class End {
  rows: Row[] = [];
  #chars: number[] = [];
  #n_chars = 0;

  get isFull(): boolean {
    return this.rows.length >= ROWS_MAX || this.#n_chars >= CHARS_MAX;
  }

  add(row: Row, chars: number) {
    this.rows.push(row);
    this.#chars.push(chars);
    this.#n_chars += chars;
  }

  /** Leaves out the oldest; a few at a time, since all others are moved. */
  trim() {
    let n = this.rows.length - ROWS_MAX;
    if (n < ROWS_MAX / 4 && this.#n_chars <= CHARS_MAX) return;
    n = Math.max(n, 0);
    let chars = this.#chars.slice(0, n).reduce((sum, more) => sum + more, 0);
    while (this.#n_chars - chars > CHARS_MAX && n < this.rows.length - 1) {
      chars += this.#chars[n] ?? 0;
      n += 1;
    }
    this.rows.splice(0, n);
    this.#chars.splice(0, n);
    this.#n_chars -= chars;
  }
}

/**
 * What probably tells rows apart where it is not said: what they are called, not what is counted of them. Where it does not,
 * rows of one name stand together, and nothing else is different.
 */
function likelyKey(types: string[]): number[] {
  const names = types.flatMap((type, at) => (isNumber(type) ? [] : [at]));
  return names.length ? names : [0];
}

export class Result {
  readonly columns: string[];
  readonly types: string[];
  readonly changes: boolean;
  readonly bounded: boolean | undefined;
  /** Rows that came, or changes of them. */
  n_come = 0;
  ended = false;
  /** Rows were left out of what is held. */
  truncated = false;
  #key: number[];
  #ids = 0;
  #first = new End();
  #last = new End();
  /** By what tells rows apart, in the order in which that came; within it by the whole row. */
  #now = new Map<string, Map<string, Entry>>();
  /** Keys of which no row is there, since when. */
  #emptied = new Map<string, number>();
  #n_now = 0;
  #chars_now = 0;

  constructor({ columns, types, changes, key, bounded }: Header) {
    const at = changes ? columns.indexOf(OP) : -1;
    this.changes = at >= 0;
    this.columns = columns.filter((_, index) => index !== at);
    this.types = types.filter((_, index) => index !== at);
    this.bounded = bounded;
    const told = (key ?? []).map((name) => this.columns.indexOf(name)).filter((index) => index >= 0);
    this.#key = told.length ? told : likelyKey(this.types);
  }

  /** `chars`: how long they were in the answer. False: it holds as much as it can, and the others are nothing to it. */
  add(rows: Record<string, Value>[], chars: number): boolean {
    const each = chars / Math.max(rows.length, 1);
    const now = performance.now();
    for (const row of rows) {
      const cells = this.columns.map((name) => row[name] ?? null);
      this.n_come += 1;
      if (this.changes) this.#change(String(row[OP]), cells, each, now);
      else if (!this.#append(cells, each)) return false;
    }
    for (const [key, since] of this.#emptied) {
      if (now - since < REPLACED_MS && this.#emptied.size <= HELD_MAX) break;
      this.#emptied.delete(key);
      this.#now.delete(key);
    }
    this.#last.trim();
    if (this.#n_now > HELD_MAX || this.#chars_now > CHARS_MAX) {
      this.truncated = true;
      return false;
    }
    return true;
  }

  #append(cells: Value[], chars: number): boolean {
    const row = { id: this.#ids++, cells };
    if (!this.#first.isFull) this.#first.add(row, chars);
    else if (this.bounded) {
      this.truncated = true;
      return false;
    }
    if (!this.bounded) this.#last.add(row, chars);
    return true;
  }

  #change(op: string, cells: Value[], chars: number, now: number) {
    const more = op.startsWith("-") ? -1 : 1;
    const whole = JSON.stringify(cells);
    const key = JSON.stringify(this.#key.map((index) => cells[index]));
    let entries = this.#now.get(key);
    if (!entries) this.#now.set(key, (entries = new Map()));
    this.#emptied.delete(key);
    let entry = entries.get(whole);
    if (!entry) {
      entry = { row: { id: this.#ids++, cells }, n: 0, chars };
      entries.set(whole, entry);
      this.#chars_now += chars;
    }
    entry.n += more;
    this.#n_now += more;
    if (entry.n !== 0) return;
    entries.delete(whole);
    this.#chars_now -= entry.chars;
    if (entries.size === 0) this.#emptied.set(key, now);
  }

  /** How many rows there are now; of those that only come, how many came. */
  get n(): number {
    return this.changes ? this.#n_now : this.n_come;
  }

  /** What is shown: the rows that are there now; of those that only come the first, or, while they come, the latest first. */
  shown(): Row[] {
    if (this.changes) {
      const rows: Row[] = [];
      for (const entries of this.#now.values()) {
        for (const { row, n } of entries.values()) {
          // Several that are equal are told apart by their place.
          for (let at = 0; at < n; at += 1) {
            if (rows.length >= ROWS_MAX) return rows;
            rows.push(at === 0 ? row : { id: -(row.id * ROWS_MAX + at), cells: row.cells });
          }
        }
      }
      return rows;
    }
    return this.ended || this.bounded ? this.#first.rows : this.#last.rows.slice(-ROWS_MAX).reverse();
  }

  /** Whether that is the beginning of it, and not its end. */
  get showsFirst(): boolean {
    return this.changes || this.ended || this.bounded === true;
  }
}
