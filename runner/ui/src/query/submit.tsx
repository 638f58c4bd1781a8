// The text as a job of the cluster: what it is called, and what is added to it so that it can be one.

import { useRef, useState } from "preact/hooks";
import { ask, Failure } from "../read";
import { toJob } from "../route";
import type { CatalogView, Submitted } from "../types";
import { type Declarations, declarations, prepare } from "./prepare";
import { statements } from "./statements";

const NAME = "[A-Za-z0-9_][A-Za-z0-9_.\\-]*";

interface Props {
  text: () => string;
  catalog: CatalogView | undefined;
  /** Of the text as it is in the editor. */
  onMistakes: (text: string, failure: Failure) => void;
}

export function Submit({ text, catalog, onMistakes }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState<{ text: string; declared: Declarations }>();
  const [acting, setActing] = useState(false);
  const [name, setName] = useState("");
  const [refused, setRefused] = useState("");
  const prepared = open && prepare(open.text, open.declared.found, name || "name");

  const show = async () => {
    const asked = text();
    setRefused("");
    setOpen({ text: asked, declared: await declarations(asked, catalog) });
    dialog.current?.showModal();
  };
  const submit = async () => {
    if (!open || !prepared) return;
    setActing(true);
    setRefused("");
    try {
      const { jobs } = await ask<Submitted>("jobs", { text: prepared.text, file: `${name}.sql`, base_dir: "" });
      dialog.current?.close();
      const [first] = jobs;
      if (first) location.hash = toJob(first);
    } catch (error) {
      const failure = error instanceof Failure ? error : new Failure(0, String(error));
      if (failure.diagnostics.length) {
        dialog.current?.close();
        onMistakes(open.text, new Failure(failure.status, failure.message, prepared.back(failure.diagnostics)));
      } else setRefused(failure.message);
    }
    setActing(false);
  };

  return (
    <>
      <button type="button" onClick={show}>
        Submit as job
      </button>
      <dialog ref={dialog} aria-label="Submit as job" class="broad" onClose={() => setOpen(undefined)}>
        {open && prepared && (
          <form
            onSubmit={(event) => {
              event.preventDefault();
              void submit();
            }}
          >
            <h2>Submit as job</h2>
            {statements(open.text).length === 0 ? (
              <p>There is no text to be submitted.</p>
            ) : (
              <>
                <p>A job runs on the cluster, takes checkpoints, and goes on after a crash. Paths in it have to be absolute.</p>
                <p>
                  <label>
                    Name{" "}
                    <input name="name" type="text" required pattern={NAME} maxLength={60} title="letters, digits, '_', '-' and '.'" autocomplete="off" value={name} onInput={(event) => setName(event.currentTarget.value)} />
                  </label>
                </p>
              </>
            )}
            {prepared.kept && <p>A SELECT by itself goes nowhere: as a job its rows are kept in a table of the cluster with the same name. To write them elsewhere, put INSERT INTO a table of your own before it.</p>}
            {prepared.added.length > 0 && <p>It is to declare what it reads, so that is added: {prepared.added.join(", ")}.</p>}
            {prepared.hidden.length > 0 && <p>Of {prepared.hidden.join(", ")} there are options that are shown to nobody, such as a password; copy the declaration into the query and put them in.</p>}
            {open.declared.missing.length > 0 && <p>It is to declare {open.declared.missing.join(", ")} as well, of which no declaration was found: put it in before.</p>}
            {(prepared.kept || prepared.added.length > 0) && (
              <pre class="code" tabIndex={0} role="region" aria-label="What is submitted">
                {prepared.text}
              </pre>
            )}
            <p role="alert" class="refusal">
              {refused}
            </p>
            <p class="buttons">
              <button type="submit" class="main" disabled={acting || statements(open.text).length === 0}>
                Submit
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
