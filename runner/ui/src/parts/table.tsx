// A table of rows that may be many: it shows a page of them, and sorts and filters all.

import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { count, counted } from "../format";

export interface Column<T> {
  name: string;
  /** Said beside the name. */
  note?: string;
  cell: (row: T) => ComponentChildren;
  /** What it is sorted by; without it, it is not. */
  by?: (row: T) => number | string;
  number?: boolean;
  /** Not shown where there is little room. */
  wide?: boolean;
  /** Of running text, which may take several lines. */
  text?: boolean;
}

interface Props<T> {
  caption: string;
  rows: T[];
  /** The first one names the row. */
  columns: Column<T>[];
  id: (row: T) => string;
  /** What the filter looks into; without it there is none. */
  words?: (row: T) => string;
  /** Rows of one group follow each other, under its heading, if it has one. */
  group?: (row: T) => string;
  groupHead?: (group: string, rows: T[]) => ComponentChildren;
  empty: string;
  perPage?: number;
  /** Many columns of short values. */
  dense?: boolean;
}

/** Below so many rows one sees all at once, and needs no filter. */
const FILTER_FROM = 12;

export function Table<T>(props: Props<T>) {
  const { caption, columns, id, words, group, groupHead, empty, perPage = 50, dense } = props;
  const [order, setOrder] = useState<{ column: string; falling: boolean }>();
  const [sought, setSought] = useState("");
  const [page, setPage] = useState(0);

  const rows = useMemo(() => {
    const terms = sought.toLowerCase().split(/\s+/).filter(Boolean);
    const left = words && terms.length
      ? props.rows.filter((row) => {
          const text = words(row).toLowerCase();
          return terms.every((term) => text.includes(term));
        })
      : props.rows;
    const by = columns.find((column) => column.name === order?.column)?.by;
    if (!by || !order) return left;
    const sign = order.falling ? -1 : 1;
    return left
      .map((row) => ({ row, key: by(row) }))
      .sort((a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : 0))
      .map(({ row }) => row);
  }, [props.rows, sought, order, columns, words]);

  const n_pages = Math.max(1, Math.ceil(rows.length / perPage));
  const at = Math.min(page, n_pages - 1);
  const shown = rows.slice(at * perPage, (at + 1) * perPage);
  const grouped = group && !order;

  const sort = (column: string) =>
    setOrder(order?.column !== column ? { column, falling: false } : order.falling ? undefined : { column, falling: true });

  let before: string | undefined;
  return (
    <div class={dense ? "table dense" : "table"}>
      {words && (props.rows.length >= FILTER_FROM || sought) && (
        <p class="filter">
          <label>
            Filter <input type="search" value={sought} onInput={(event) => (setSought(event.currentTarget.value), setPage(0))} />
          </label>
          <span class="soft" role="status">
            {sought ? `${count(rows.length)} of ${count(props.rows.length)}` : counted(rows.length, "row")}
          </span>
        </p>
      )}
      <div class="scroll" role="region" aria-label={caption} tabIndex={0}>
        <table>
          <caption class="unseen">{caption}</caption>
          <thead>
            <tr>
              {columns.map((column) => (
                <th
                  scope="col"
                  key={column.name}
                  class={classes(column)}
                  aria-sort={order?.column === column.name ? (order.falling ? "descending" : "ascending") : undefined}
                >
                  {column.by ? (
                    <button type="button" class="sort" onClick={() => sort(column.name)}>
                      {column.name}
                      <span aria-hidden="true">{order?.column === column.name ? (order.falling ? " ↓" : " ↑") : ""}</span>
                    </button>
                  ) : (
                    column.name
                  )}
                  {column.note && <span class="note soft"> {column.note}</span>}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.flatMap((row) => {
              const line = (
                <tr key={id(row)}>
                  {columns.map((column, index) =>
                    index === 0 ? (
                      <th scope="row" key={column.name} class={classes(column)}>
                        {column.cell(row)}
                      </th>
                    ) : (
                      <td key={column.name} class={classes(column)}>
                        {column.cell(row)}
                      </td>
                    ),
                  )}
                </tr>
              );
              const name = grouped ? group(row) : undefined;
              if (name === undefined || name === before || !groupHead) return [line];
              before = name;
              const head = groupHead(name, rows.filter((other) => group?.(other) === name));
              if (!head) return [line];
              return [
                <tr key={`group ${name}`} class="group">
                  <th scope="colgroup" colSpan={columns.length}>
                    {head}
                  </th>
                </tr>,
                line,
              ];
            })}
            {shown.length === 0 && (
              <tr>
                <td colSpan={columns.length} class="soft">
                  {sought ? "nothing matches the filter" : empty}
                </td>
              </tr>
            )}
          </tbody>
        </table>
      </div>
      {n_pages > 1 && (
        <nav class="pager" aria-label={`Pages of: ${caption}`}>
          <button type="button" disabled={at === 0} onClick={() => setPage(at - 1)}>
            Previous
          </button>
          <span role="status">
            {count(at * perPage + 1)}–{count(at * perPage + shown.length)} of {count(rows.length)}
          </span>
          <button type="button" disabled={at === n_pages - 1} onClick={() => setPage(at + 1)}>
            Next
          </button>
        </nav>
      )}
    </div>
  );
}

const classes = <T,>(column: Column<T>) =>
  [column.number && "number", column.wide && "wide", column.text && "text"].filter(Boolean).join(" ") || undefined;
