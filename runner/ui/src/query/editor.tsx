// The text of a query, in an editor that is run when it is first wanted.

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { CatalogView } from "../types";
import type * as CodeMirror from "./codemirror";
import type { Mistake } from "./mistakes";

export type Handle = CodeMirror.Made;

declare global {
  /** What the script of the editor leaves, once it has run. */
  var smackEditor: typeof CodeMirror | undefined;
}

/** Where its script stands in the page, as text: a browser reads it only when it is to be run. */
const HELD = "editor-script";

async function codemirror(): Promise<typeof CodeMirror> {
  if (import.meta.env.DEV) return import("./codemirror");
  if (!globalThis.smackEditor) {
    const script = document.createElement("script");
    script.textContent = document.getElementById(HELD)?.textContent ?? "";
    // It runs at once. The page's policy knows it.
    document.head.append(script);
  }
  if (!globalThis.smackEditor) throw new Error("the editor does not run in this browser");
  return globalThis.smackEditor;
}

interface Props {
  handle: RefObject<Handle | null>;
  /** At first. */
  text: string;
  label: string;
  hint: string;
  catalog: CatalogView | undefined;
  mistakes: { text: string; found: Mistake[] };
  onChange: (text: string) => void;
  onRun: () => void;
}

export function Editor({ handle, text, label, hint, catalog, mistakes, onChange, onRun }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [made, setMade] = useState<Handle>();
  // The editor lives longer than what one drawing of the view gave it.
  const told = useRef({ onChange, onRun });
  told.current = { onChange, onRun };

  useEffect(() => {
    let editor: Handle | undefined;
    let left = false;
    void codemirror().then(({ make }) => {
      const host = box.current;
      if (left || !host) return;
      // In a tree of its own, where its styles come as objects: the page's policy takes no style elements but the page's own.
      const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
      editor = make(root, { text, label, hint, onChange: (text) => told.current.onChange(text), onRun: () => told.current.onRun() });
      handle.current = editor;
      setMade(editor);
    });
    return () => {
      left = true;
      handle.current = null;
      editor?.end();
    };
  }, []);

  useEffect(() => made?.know(catalog), [made, JSON.stringify(catalog)]);

  useEffect(() => made?.tell(mistakes), [made, mistakes]);

  return <div class="editor" ref={box} />;
}
