// What there is to be asked: tables with their columns, each with a first query of it.

import { useState } from "preact/hooks";
import { count } from "../format";
import type { Live } from "../live";
import { JobLink } from "../parts/jobs";
import { Nothing } from "../parts/view";
import type { CatalogView, TableInfo } from "../types";
import { quoted } from "./statements";

const SHOWN_MAX = 100;

interface Props {
  live: Live<CatalogView>;
  /** Puts a query into the editor. */
  begin: (text: string) => void;
}

export function Catalog({ live, begin }: Props) {
  const [sought, setSought] = useState("");
  const all = live.value?.tables ?? [];
  const needle = sought.toLowerCase();
  const found = all.filter(({ name, columns }) => `${name} ${columns.map((column) => column.name).join(" ")}`.toLowerCase().includes(needle));
  return (
    <section class="catalog" aria-label="Tables">
      <h2>Tables</h2>
      {all.length > 8 && (
        <p>
          <label>
            <span class="unseen">Find a table or column</span>
            <input type="search" placeholder="Find …" value={sought} onInput={(event) => setSought(event.currentTarget.value)} />
          </label>
        </p>
      )}
      {!live.value && <Nothing live={live} />}
      {live.value && all.length === 0 && <p class="soft">There is none yet. A job that writes one makes it, and a query may declare its own: CREATE TABLE … WITH (…).</p>}
      <ul>
        {found.slice(0, SHOWN_MAX).map((table) => (
          <li key={table.name}>
            <Table table={table} begin={begin} />
          </li>
        ))}
      </ul>
      {found.length > SHOWN_MAX && <p class="soft">and {count(found.length - SHOWN_MAX)} more</p>}
    </section>
  );
}

/** A table is as it is now; a stream goes on. */
const first = ({ name, kind }: TableInfo) => `SELECT *\nFROM ${quoted(name)}${kind === "stream" ? "" : "\nLIMIT 100"};`;

function Table({ table, begin }: { table: TableInfo; begin: (text: string) => void }) {
  const { name, kind, columns, key, job } = table;
  return (
    <details>
      <summary>
        {name} <span class="soft">{kind}</span>
      </summary>
      <table>
        <caption class="unseen">Columns of {name}</caption>
        <tbody>
          {columns.map((column) => (
            <tr key={column.name}>
              <th scope="row">{column.name}</th>
              <td class="soft">
                {column.type}
                {key.includes(column.name) && " · key"}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p>
        <button type="button" onClick={() => begin(first(table))}>
          Ask for its rows
        </button>
        {job && (
          <>
            {" "}
            <JobLink id={job} />
          </>
        )}
      </p>
    </details>
  );
}
