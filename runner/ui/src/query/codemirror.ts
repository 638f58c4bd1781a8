// The editor of queries: CodeMirror with colours, completion, undo, and mistakes at their place. It is as large as the rest of
// the page, so it stands there by itself and is run when it is wanted (`editor.tsx`).

import { autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { Compartment, EditorSelection, EditorState, type Extension, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightSpecialChars, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { CatalogView } from "../types";
import { sources } from "./completion";
import { Dialect } from "./dialect";
import { mistakes, tell } from "./marks";
import type { Mistake } from "./mistakes";

export interface Settings {
  /** At first. */
  text: string;
  label: string;
  hint: string;
  onChange: (text: string) => void;
  onRun: () => void;
}

/** What the page does with it. */
export interface Made {
  text: () => string;
  /** In the place of all of it, which can be undone. */
  replace: (text: string) => void;
  /** What is offered is not wanted. */
  settle: () => void;
  goTo: (from: number) => void;
  /** What can be named from now on. */
  know: (catalog: CatalogView | undefined) => void;
  /** Those of another text are at no place here. */
  tell: (mistakes: { text: string; found: Mistake[] }) => void;
  end: () => void;
}

const COLOURS = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword], color: "var(--accent)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--between)" },
  { tag: [tags.typeName, tags.standard(tags.name)], color: "var(--run-3)" },
  { tag: [tags.lineComment, tags.blockComment], color: "var(--soft)", fontStyle: "italic" },
]);

const FONT = "13px/1.55 ui-monospace, monospace";

const THEME = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--back)", border: "1px solid var(--soft)", borderRadius: "0.3rem", maxHeight: "min(32rem, 60vh)" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
  ".cm-scroller": { font: FONT },
  // So high from the beginning, with the numbers' column as high as the text's.
  ".cm-content, .cm-gutter": { minHeight: "9rem" },
  ".cm-content": { padding: "0.5rem 0", caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-placeholder": { color: "var(--soft)" },
  ".cm-gutters": { backgroundColor: "var(--raised)", color: "var(--soft)", border: "0", borderRadius: "0.3rem 0 0 0.3rem" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground, ::selection": {
    backgroundColor: "color-mix(in srgb, var(--accent) 28%, var(--back)) !important",
  },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "color-mix(in srgb, var(--accent) 22%, var(--back))" },
  ".cm-mistake": { textDecoration: "underline wavy var(--bad) 1.5px", textUnderlineOffset: "3px", textDecorationSkipInk: "none" },
  ".cm-mistake-below": { font: "12px/1.45 system-ui, sans-serif", paddingTop: "0.1rem", paddingBottom: "0.25rem", whiteSpace: "pre-wrap", overflowWrap: "anywhere" },
  ".cm-mistake-below .error": { color: "var(--bad)", fontWeight: "600" },
  ".cm-mistake-below .help": { color: "var(--soft)" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--text)", border: "1px solid var(--line)", borderRadius: "0.3rem", overflow: "hidden" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { font: FONT, maxHeight: "14rem" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "0.1rem 0.5rem" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionDetail": { color: "var(--soft)", fontStyle: "normal" },
  "li[aria-selected] .cm-completionDetail": { color: "inherit" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "700" },
});

/**
 * What is typed over a selection. A browser would keep the looks of what was selected, as styles of its own which the page's
 * policy refuses, with a word on that in its console.
 */
const typedOver = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { data, inputType } = event;
    const { from, to, empty } = view.state.selection.main;
    if (inputType !== "insertText" || !data || empty || view.composing || view.state.selection.ranges.length > 1) return false;
    const insert = () => view.state.update({ changes: { from, to, insert: data }, selection: EditorSelection.cursor(from + data.length), userEvent: "input.type", scrollIntoView: true });
    const isTaken = view.state.facet(EditorView.inputHandler).some((handle) => handle(view, from, to, data, insert));
    if (!isTaken) view.dispatch(insert());
    event.preventDefault();
    return true;
  },
});

/** Each source is asked for by itself. */
const completions = (catalog: CatalogView | undefined): Extension => sources(catalog).map((source) => Dialect.language.data.of({ autocomplete: source }));

export function make(root: ShadowRoot, { text, label, hint, onChange, onRun }: Settings): Made {
  const known = new Compartment();
  const run = () => {
    onRun();
    return true;
  };
  const editor = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        Prec.highest(keymap.of([{ key: "Mod-Enter", run }])),
        lineNumbers(),
        history(),
        drawSelection(),
        highlightSpecialChars(),
        bracketMatching(),
        closeBrackets(),
        autocompletion({ icons: false }),
        // No key for Tab, which goes on to what comes next, as everywhere else.
        keymap.of([...closeBracketsKeymap, ...completionKeymap, ...defaultKeymap, ...historyKeymap]),
        Dialect.language,
        indentUnit.of("    "),
        known.of(completions(undefined)),
        syntaxHighlighting(COLOURS),
        THEME,
        mistakes,
        typedOver,
        placeholder(hint),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false", autocorrect: "off", autocapitalize: "off" }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onChange(update.state.doc.toString());
        }),
      ],
    }),
  });
  const now = () => editor.state.doc.toString();
  return {
    text: now,
    replace: (text) => editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: text }, selection: EditorSelection.cursor(text.length) }),
    settle: () => closeCompletion(editor),
    goTo: (from) => {
      editor.dispatch({ selection: EditorSelection.cursor(Math.min(from, editor.state.doc.length)), scrollIntoView: true });
      editor.focus();
    },
    know: (catalog) => editor.dispatch({ effects: known.reconfigure(completions(catalog)) }),
    tell: ({ text, found }) => tell(editor, now() === text ? found : []),
    end: () => editor.destroy(),
  };
}
