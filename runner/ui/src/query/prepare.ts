// A query as the file of a job: with the tables of the cluster declared that it names, and, of a SELECT alone, somewhere for
// its rows to go.

import { path, type Diagnostic, read } from "../read";
import type { CatalogView, DataflowView, TableInfo } from "../types";
import { declared, isQuery, n_bytes, quoted, statements, writes } from "./statements";

export interface Prepared {
  text: string;
  /** Names of the tables whose declarations were put before it. */
  added: string[];
  /** Of those, some have options that are not shown to anyone. */
  hidden: string[];
  /** The SELECT alone has become a table of the cluster. */
  kept: boolean;
  /** Places in the text as it was; none of what stands in a part that was added. */
  back: (wrong: Diagnostic[]) => Diagnostic[];
}

/** The text of another job's file has stars in the place of secrets. */
const HIDDEN = /'\*+'/;

/** As the table store would be declared in a file. */
function ofStore({ name, columns, key }: TableInfo): string {
  const parts = columns.map((column) => `    ${quoted(column.name)} ${column.type}`);
  if (key.length) parts.push(`    PRIMARY KEY (${key.map(quoted).join(", ")}) NOT ENFORCED`);
  return `CREATE TABLE ${quoted(name)} (\n${parts.join(",\n")}\n)`;
}

/** As the job's file declares it. */
async function ofJob({ name, job }: TableInfo): Promise<string | undefined> {
  if (!job) return undefined;
  const { text } = await read<DataflowView>(path("jobs", job, "dataflow"));
  return statements(text).find((statement) => declared(statement) === name.toLowerCase())?.text;
}

/** A name as a word of its own, or in quotes. */
const names = (text: string, name: string) => new RegExp(`(?<![\\w])${name.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")}(?![\\w])`, "iu").test(text);

export interface Declarations {
  /** By name. */
  found: Map<string, string>;
  /** Names of tables of which none was found. */
  missing: string[];
}

export async function declarations(text: string, catalog: CatalogView | undefined): Promise<Declarations> {
  const own = new Set(statements(text).map(declared));
  const wanted = (catalog?.tables ?? []).filter(({ name }) => !own.has(name.toLowerCase()) && names(text, name));
  const found = new Map<string, string>();
  for (const table of wanted) {
    const declaration = table.kind === "table" ? ofStore(table) : await ofJob(table).catch(() => undefined);
    if (declaration !== undefined) found.set(table.name, declaration);
  }
  return { found, missing: wanted.map(({ name }) => name).filter((name) => !found.has(name)) };
}

export function prepare(text: string, declared: Map<string, string>, name: string): Prepared {
  const all = statements(text);
  const query = all.some(writes) ? undefined : all.filter(isQuery).pop();
  const head = [...declared.values()].map((declaration) => `${declaration};\n\n`).join("");
  const made = query ? `CREATE MATERIALIZED VIEW ${quoted(name)} AS\n` : "";
  const cut = query?.from ?? 0;
  const [n_head, n_cut, n_made] = [n_bytes(head), n_bytes(text.slice(0, cut)), n_bytes(made)];
  const place = (byte: number) => {
    const at = byte - n_head;
    return at < n_cut ? at : Math.max(n_cut, at - n_made);
  };
  return {
    text: head + text.slice(0, cut) + made + text.slice(cut),
    added: [...declared.keys()],
    hidden: [...declared].filter(([, declaration]) => HIDDEN.test(declaration)).map(([name]) => name),
    kept: query !== undefined,
    back: (wrong) =>
      wrong.map((one) => {
        if (!one.span) return one;
        return { ...one, span: one.span[0] < n_head ? null : [place(one.span[0]), place(one.span[1])] };
      }),
  };
}
