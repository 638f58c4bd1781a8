// Mistakes at their place: underlined, and below the line in words, as `smack check` shows them.

import { type ChangeDesc, type EditorState, type Extension, MapMode, StateEffect, StateField } from "@codemirror/state";
import { Decoration, type DecorationSet, EditorView, WidgetType } from "@codemirror/view";
import type { Mistake } from "./mistakes";

class Below extends WidgetType {
  readonly mistake: Mistake;
  constructor(mistake: Mistake) {
    super();
    this.mistake = mistake;
  }

  override eq(other: Below) {
    return JSON.stringify(other.mistake) === JSON.stringify(this.mistake);
  }

  override toDOM() {
    const { message, help, place } = this.mistake;
    const box = document.createElement("div");
    box.className = "cm-mistake-below";
    // The list of mistakes below the editor says the same to who hears it.
    box.setAttribute("aria-hidden", "true");
    box.style.paddingLeft = `calc(6px + ${Math.min((place?.column ?? 1) - 1, INDENT_MAX)}ch)`;
    const line = (kind: string, text: string) => {
      const part = box.appendChild(document.createElement("div"));
      part.className = kind;
      part.textContent = text;
    };
    line("error", `▲ ${message}`);
    if (help) line("help", help);
    return box;
  }

  override ignoreEvent() {
    return true;
  }
}

/** Further to the right there is no room for words. */
const INDENT_MAX = 40;

const told = StateEffect.define<Mistake[]>();

interface Marks {
  mistakes: Mistake[];
  shown: DecorationSet;
}

function marks(state: EditorState, mistakes: Mistake[]): Marks {
  const length = state.doc.length;
  const all = mistakes.flatMap((mistake) => {
    if (!mistake.place) return [];
    const { from, to } = mistake.place;
    const begin = Math.min(from, length);
    const line = state.doc.lineAt(begin);
    const below = Decoration.widget({ widget: new Below(mistake), block: true, side: 1 }).range(line.to);
    // What is missing at the end of a line has nothing to be underlined but what stands before it.
    const end = Math.min(Math.max(to, begin + 1), length);
    return end > begin ? [Decoration.mark({ class: "cm-mistake" }).range(begin, end), below] : [below];
  });
  return { mistakes, shown: Decoration.set(all, true) };
}

/** They go along with what is written around them; one whose text is gone goes with it. */
function moved(state: EditorState, changes: ChangeDesc, { mistakes }: Marks): Marks {
  const left = mistakes.flatMap((mistake) => {
    if (!mistake.place) return [];
    const from = changes.mapPos(mistake.place.from, 1, MapMode.TrackAfter);
    const to = changes.mapPos(mistake.place.to, -1);
    return from === null ? [] : [{ ...mistake, place: { ...mistake.place, from, to: Math.max(from, to) } }];
  });
  return marks(state, left);
}

const field = StateField.define<Marks>({
  create: () => ({ mistakes: [], shown: Decoration.none }),
  update(now, change) {
    const said = change.effects.find((effect) => effect.is(told));
    if (said) return marks(change.state, said.value);
    return change.docChanged ? moved(change.state, change.changes, now) : now;
  },
  provide: (own) => EditorView.decorations.from(own, ({ shown }) => shown),
});

export const mistakes: Extension = field;

export const tell = (view: EditorView, now: Mistake[]) => view.dispatch({ effects: told.of(now) });
