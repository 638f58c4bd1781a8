// Rows that leave an operator just now, when one asks for them.

import { useEffect, useRef, useState } from "preact/hooks";
import { clock, counted, duration } from "../format";
import { Values } from "../parts/values";
import { Failure, path, readExactly } from "../read";
import type { SampleView } from "../types";

const ROWS = 20;

type State = { at: "none" } | { at: "asking" } | { at: "failed"; text: string } | { at: "come"; sample: SampleView; when: number };

export function Sample({ job, operator, runs }: { job: string; operator: string; runs: boolean }) {
  const [state, setState] = useState<State>({ at: "none" });
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);
  const ask = async () => {
    stop.current?.abort();
    const own = new AbortController();
    stop.current = own;
    setState({ at: "asking" });
    try {
      const sample = await readExactly<SampleView>(`${path("jobs", job, "sample", operator)}?rows=${ROWS}`, own.signal);
      if (!own.signal.aborted) setState({ at: "come", sample, when: Date.now() });
    } catch (error) {
      if (!own.signal.aborted) setState({ at: "failed", text: error instanceof Failure ? error.message : String(error) });
    }
  };
  return (
    <div class="sample">
      <p>
        <button type="button" onClick={ask} disabled={!runs || state.at === "asking"}>
          {state.at === "come" ? "Look again" : "Look at its rows"}
        </button>{" "}
        <span class="soft" role="status">
          {said(state)}
        </span>
      </p>
      {state.at === "failed" && <p class="refusal">{state.text}.</p>}
      {state.at === "come" && state.sample.rows.length > 0 && <Come sample={state.sample} />}
    </div>
  );
}

function said(state: State): string {
  switch (state.at) {
    case "none":
      return "those that leave it just then";
    case "asking":
      return "waits for rows, up to five seconds …";
    case "failed":
      return "";
    case "come": {
      const { rows, waited_ms } = state.sample;
      if (rows.length === 0) return `no row left it in ${duration(waited_ms)}`;
      return `${counted(rows.length, "row")} that left it at ${clock(state.when)}, after ${duration(waited_ms)}`;
    }
  }
}

function Come({ sample: { columns, types, rows, changes, operator } }: { sample: SampleView }) {
  return (
    <>
      {changes && <p class="soft">op: + a row that came, - one that was taken back.</p>}
      <Values caption={`Rows of ${operator}`} columns={columns} types={types} rows={rows.map((row, id) => ({ id, cells: columns.map((name) => row[name] ?? null) }))} empty="" perPage={ROWS} />
    </>
  );
}
