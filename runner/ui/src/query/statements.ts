// Where statements begin and end in a text of SQL, which strings and comments do not end.

export interface Statement {
  /** Of its first word, behind comments and spaces. */
  from: number;
  to: number;
  text: string;
}

/** What is no statement's end: a string, a quoted name, a comment. */
const PASSED = /'(?:[^']|'')*'?|"(?:[^"]|"")*"?|--[^\n]*|\/\*[^]*?(?:\*\/|$)/y;
const COMMENT_OR_SPACE = /(?:\s+|--[^\n]*|\/\*[^]*?(?:\*\/|$))+/y;

export function statements(text: string): Statement[] {
  const found: Statement[] = [];
  let begun = 0;
  const end = (to: number) => {
    COMMENT_OR_SPACE.lastIndex = begun;
    const from = COMMENT_OR_SPACE.test(text) ? COMMENT_OR_SPACE.lastIndex : begun;
    const own = text.slice(from, to).trimEnd();
    if (from < to && own) found.push({ from, to: from + own.length, text: own });
    begun = to + 1;
  };
  for (let at = 0; at < text.length; ) {
    PASSED.lastIndex = at;
    if (PASSED.test(text)) at = PASSED.lastIndex;
    else {
      if (text[at] === ";") end(at);
      at += 1;
    }
  }
  end(text.length);
  return found;
}

const firstWord = ({ text }: Statement) => /^\(*\s*(\w+)/.exec(text)?.[1]?.toUpperCase() ?? "";

/** It gives rows to who asks, and goes nowhere by itself. */
export const isQuery = (statement: Statement) => ["SELECT", "WITH", "VALUES"].includes(firstWord(statement));

/** It tells of what there is, and never streams. */
export const tells = (statement: Statement) => ["SHOW", "DESCRIBE", "DESC", "EXPLAIN"].includes(firstWord(statement));

/** It is, or may hold, what nobody else should read: options of a connection. */
export const declares = (text: string) => statements(text).some((statement) => ["CREATE", "SET"].includes(firstWord(statement)));

/** Byte offsets of a text as UTF-8, as offsets of the same text here. */
export function places(text: string, bytes: number[]): number[] {
  const wanted = bytes.map((byte, at) => ({ byte, at })).sort((a, b) => a.byte - b.byte);
  const found = bytes.map(() => text.length);
  let passed = 0;
  let at = 0;
  for (const { byte, at: index } of wanted) {
    while (passed < byte && at < text.length) {
      const code = text.codePointAt(at) ?? 0;
      passed += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      at += code < 0x10000 ? 1 : 2;
    }
    found[index] = at;
  }
  return found;
}

const utf8 = new TextEncoder();

export const n_bytes = (text: string) => utf8.encode(text).length;

const WRITES = /^(INSERT\b|CREATE\s+(MODEL|MATERIALIZED)\b|CREATE\s+(TEMPORARY\s+)?TABLE\b[^]*?\bAS\s+(SELECT|WITH|VALUES)\b)/i;

/** It is a job by itself. */
export const writes = ({ text }: Statement) => WRITES.test(text);

const DECLARED = /^CREATE\s+(?:TEMPORARY\s+)?(?:TABLE|VIEW|MATERIALIZED\s+VIEW)\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:"((?:[^"]|"")+)"|(\w+))/i;

/** The name of the table or view that it declares, in lower case. */
export function declared({ text }: Statement): string | undefined {
  const found = DECLARED.exec(text);
  return (found?.[1]?.replaceAll('""', '"') ?? found?.[2])?.toLowerCase();
}

const PLAIN = /^[a-z_]\w*$/i;

/** A name as SQL takes it. */
export const quoted = (name: string) => (PLAIN.test(name) ? name : `"${name.replaceAll('"', '""')}"`);
