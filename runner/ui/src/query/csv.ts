// Rows as comma-separated values (RFC 4180). NULL is nothing, and a text without letters a pair of quotes.

import { textOf } from "../parts/values";
import type { Row, Value } from "./result";

function cell(value: Value): string {
  if (value === null) return "";
  const text = textOf(value);
  return text === "" || /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export const csv = (columns: string[], rows: Row[]) =>
  [columns, ...rows.map(({ cells }) => cells)].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");

/** Through the browser, which asks nobody for it. */
export function save(name: string, text: string) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
