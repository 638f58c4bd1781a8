// Training runs, and which of them are laid over each other.

import { useState } from "preact/hooks";
import { count, duration, figure, moment, rate } from "../format";
import { useLive } from "../live";
import { JobLink } from "../parts/jobs";
import { State } from "../parts/state";
import { type Column, Table } from "../parts/table";
import { Nothing, View } from "../parts/view";
import { to } from "../route";
import type { RunsView, RunView } from "../types";
import { LOOKS_MAX } from "./curve";

const RUN: Column<RunView> = { name: "run", cell: ({ id }) => <a href={to("runs", id)}>{id}</a>, by: ({ id }) => id };

const COLUMNS: Column<RunView>[] = [
  { name: "outcome", cell: ({ outcome }) => <State state={outcome} />, by: ({ outcome }) => outcome },
  { name: "job", cell: ({ job }) => <JobLink id={job} />, by: ({ job }) => job, wide: true },
  { name: "step", cell: ({ last }) => `${count(last.step)} of ${count(last.steps_total)}`, by: ({ last }) => last.step, number: true },
  { name: "loss", cell: ({ last }) => figure(last.loss), by: ({ last }) => last.loss ?? Infinity, number: true },
  {
    name: "metric",
    cell: ({ last }) => (last.metric === null ? "" : `${last.metric_name} ${figure(last.metric)}`),
    by: ({ last }) => last.metric ?? -Infinity,
    number: true,
  },
  { name: "rows/s", cell: ({ last }) => rate(last.rows_per_second), by: ({ last }) => last.rows_per_second, number: true, wide: true },
  { name: "workers", cell: ({ workers }) => count(workers), by: ({ workers }) => workers, number: true, wide: true },
  { name: "began", cell: ({ started_ms }) => moment(started_ms), by: ({ started_ms }) => started_ms },
  { name: "took", cell: ({ started_ms, ended_ms }) => (ended_ms === null ? "" : duration(ended_ms - started_ms)), by: ({ started_ms, ended_ms }) => (ended_ms ?? Infinity) - started_ms, number: true, wide: true },
  { name: "error", cell: ({ error }) => error ?? "", text: true },
];

const words = ({ id, job, model, outcome, error }: RunView) => `${id} ${job} ${model} ${outcome} ${error ?? ""}`;

export function Runs() {
  const live = useLive<RunsView>("runs", 2000);
  const [chosen, setChosen] = useState<string[]>([]);
  const choose: Column<RunView> = {
    name: "compare",
    cell: ({ id }) => (
      <input
        type="checkbox"
        aria-label={`compare ${id}`}
        checked={chosen.includes(id)}
        disabled={!chosen.includes(id) && chosen.length >= LOOKS_MAX}
        onChange={({ currentTarget: { checked } }) => setChosen(checked ? [...chosen, id] : chosen.filter((other) => other !== id))}
      />
    ),
  };
  return (
    <View
      title="Training runs"
      aside={
        chosen.length > 1 && (
          <a class="button" href={to("runs", chosen.join(","))}>
            Compare {count(chosen.length)} runs
          </a>
        )
      }
    >
      {live.value ? (
        <Table
          caption="Training runs, the newest first"
          rows={live.value.runs}
          columns={[RUN, choose, ...COLUMNS]}
          id={({ id }) => id}
          words={words}
          empty="No model has been trained yet. `smack submit examples/digits.toml` trains one."
        />
      ) : (
        <Nothing live={live} />
      )}
    </View>
  );
}
