// What may come next in a query: words of SQL, functions, and the tables, columns and models of the cluster.

import { type Completion, type CompletionContext, type CompletionResult, type CompletionSource, completeFromList, ifNotIn } from "@codemirror/autocomplete";
import { keywordCompletionSource, schemaCompletionSource } from "@codemirror/lang-sql";
import type { CatalogView } from "../types";
import { Dialect } from "./dialect";
import { quoted } from "./statements";

/** Where a name of the cluster, or a function, would be a mistake. */
const ELSEWHERE = ["QuotedIdentifier", "String", "LineComment", "BlockComment", "."];

const IN_PREDICT = /\b(?:predict|predict_version|ml_predict)\s*\(\s*'[\w.@-]*$/i;

export function sources(catalog: CatalogView | undefined): CompletionSource[] {
  const words = keywordCompletionSource(Dialect, true, (label, type) => ({ label: label.toUpperCase(), type, boost: -1 }));
  if (!catalog) return [words];
  const { tables = [], functions = [], models = [] } = catalog;
  const schema = Object.fromEntries(
    tables.map(({ name, kind, columns }) => [
      name,
      { self: { label: name, apply: quoted(name), type: "type", detail: kind, boost: 1 }, children: columns.map((column) => columnOf(column, undefined)) },
    ]),
  );
  const calls: Completion[] = functions.map((name) => ({ label: name, type: "function", apply: `${name}(` }));
  return [
    words,
    schemaCompletionSource({ dialect: Dialect, schema }),
    ifNotIn(ELSEWHERE, completeFromList(calls)),
    ifNotIn(ELSEWHERE, columnsOf(catalog)),
    modelsOf(models),
  ];
}

const columnOf = ({ name, type }: { name: string; type: string }, table: string | undefined): Completion => ({
  label: name,
  apply: quoted(name),
  type: "property",
  detail: table === undefined ? type : `${type} of ${table}`,
});

/** Of the tables that the text names. */
function columnsOf({ tables }: CatalogView) {
  return (context: CompletionContext): CompletionResult | null => {
    const word = context.matchBefore(/\w*/);
    if (!word || (word.from === word.to && !context.explicit)) return null;
    const text = context.state.doc.toString().toLowerCase();
    const named = tables.filter(({ name }) => text.includes(name.toLowerCase()));
    return { from: word.from, options: named.flatMap(({ name, columns }) => columns.map((column) => columnOf(column, name))), validFor: /^\w*$/ };
  };
}

/** Within the text that `predict` takes. */
function modelsOf(models: string[]) {
  return (context: CompletionContext): CompletionResult | null => {
    if (!context.matchBefore(IN_PREDICT)) return null;
    const begun = context.matchBefore(/[\w.@-]*/);
    return { from: begun?.from ?? context.pos, options: models.map((label) => ({ label, type: "constant", detail: "model" })), validFor: /^[\w.@-]*$/ };
  };
}
