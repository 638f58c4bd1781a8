// Rows of a query or of an operator: values as text, whatever they hold.

import { useMemo } from "preact/hooks";
import { count } from "../format";
import type { Row, Value } from "../query/result";
import { isNumber } from "../query/types";
import { type Column, Table } from "./table";

/** Of a longer text one sees the beginning; what is copied is whole. */
const SHOWN_MAX = 300;

/** On one line. */
const SHORT_MAX = 40;

/** As it stands in a cell; structs and arrays in JSON. */
export const textOf = (value: Value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

export function Cell({ value }: { value: Value }) {
  if (value === null) return <span class="absent">NULL</span>;
  const text = textOf(value);
  if (text === "") return <span class="absent">empty text</span>;
  if (text.length <= SHORT_MAX) return <span class="value short">{text}</span>;
  if (text.length <= SHOWN_MAX) return <span class="value">{text}</span>;
  return (
    <span class="value">
      {text.slice(0, SHOWN_MAX)} <span class="soft">… {count(text.length)} characters</span>
    </span>
  );
}

/** NULL comes first; numbers by what they are worth, also those that are too large for one. */
function order(value: Value, numeric: boolean): number | string {
  if (value === null) return numeric ? Number.NEGATIVE_INFINITY : "";
  return numeric ? Number(value) : textOf(value);
}

interface Props {
  caption: string;
  columns: string[];
  types: string[];
  rows: Row[];
  empty: string;
  perPage?: number;
}

export function Values({ caption, columns, types, rows, empty, perPage = 50 }: Props) {
  const shape = JSON.stringify([columns, types]);
  const shown = useMemo(
    () =>
      columns.map((name, at): Column<Row> => {
        const type = types[at] ?? "";
        const numeric = isNumber(type);
        return {
          name: columns.indexOf(name) === at ? name : `${name} (${at + 1})`,
          note: type,
          cell: ({ cells }) => <Cell value={cells[at] ?? null} />,
          by: ({ cells }) => order(cells[at] ?? null, numeric),
          number: numeric,
        };
      }),
    [shape],
  );
  return <Table caption={caption} rows={rows} columns={shown} id={({ id }) => String(id)} empty={empty} perPage={perPage} dense />;
}
