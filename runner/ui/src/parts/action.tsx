// What changes something: a button, a question, and what came of it.

import { signal } from "@preact/signals";
import type { ComponentChildren, TargetedSubmitEvent } from "preact";
import { useRef, useState } from "preact/hooks";
import { Failure } from "../read";

/** What came of the last change; read out when it changes. */
export const notice = signal<{ text: string; bad: boolean } | undefined>(undefined);

interface Props {
  label: string;
  title: string;
  /** What it does to whom, asked before it is done. */
  children: ComponentChildren;
  /** Does it, with what was filled in, and says what was done. */
  act: (form: FormData) => Promise<string>;
  danger?: boolean;
}

export function Action({ label, title, children, act, danger }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [at, setAt] = useState<"closed" | "open" | "acting">("closed");

  const open = () => {
    setAt("open");
    notice.value = undefined;
    dialog.current?.showModal();
  };
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setAt("acting");
    try {
      notice.value = { text: await act(form), bad: false };
    } catch (error) {
      notice.value = { text: error instanceof Failure ? error.message : String(error), bad: true };
    }
    dialog.current?.close();
  };

  return (
    <>
      <button type="button" class={danger ? "danger" : undefined} onClick={open}>
        {label}
      </button>
      <dialog ref={dialog} aria-label={title} onClose={() => setAt("closed")}>
        {at !== "closed" && (
          <form onSubmit={submit}>
            <h2>{title}</h2>
            {children}
            <p class="buttons">
              <button type="submit" class={danger ? "danger" : "main"} disabled={at === "acting"}>
                {label}
              </button>
              <button type="button" onClick={() => dialog.current?.close()}>
                Cancel
              </button>
            </p>
          </form>
        )}
      </dialog>
    </>
  );
}
