// Sweeps: what is tried, and which trial is the best so far.

import { count, figure, moment } from "../format";
import { useLive } from "../live";
import { JobLink } from "../parts/jobs";
import { State } from "../parts/state";
import { type Column, Table } from "../parts/table";
import { Figures, Nothing, View } from "../parts/view";
import { path } from "../read";
import { to } from "../route";
import type { SweepDetail, SweepsView, SweepView, TrialView } from "../types";

const COLUMNS: Column<SweepView>[] = [
  { name: "sweep", cell: ({ name }) => <a href={to("sweeps", name)}>{name}</a>, by: ({ name }) => name },
  { name: "state", cell: ({ state }) => <State state={state} />, by: ({ state }) => state },
  { name: "model", cell: ({ model }) => model, by: ({ model }) => model },
  { name: "how", cell: ({ algorithm }) => algorithm, by: ({ algorithm }) => algorithm },
  { name: "trials", cell: (sweep) => `${count(sweep.n_done)} of ${count(sweep.n_trials)} done`, by: ({ n_trials }) => n_trials, number: true },
  { name: "best", cell: ({ best, metric_name }) => (best ? `trial ${best.number}: ${metric_name} ${figure(best.metric)}` : "") },
  { name: "began", cell: ({ began_ms }) => moment(began_ms), by: ({ began_ms }) => began_ms },
  { name: "what is to be said", cell: ({ text }) => text, text: true },
];

export function Sweeps() {
  const live = useLive<SweepsView>("sweeps", 2000);
  return (
    <View title="Sweeps">
      {live.value ? (
        <Table
          caption="Sweeps"
          rows={live.value.sweeps}
          columns={COLUMNS}
          id={({ name }) => name}
          empty="There is no sweep. `smack sweep FILE` begins one."
        />
      ) : (
        <Nothing live={live} />
      )}
    </View>
  );
}

const settings = (trial: TrialView) =>
  Object.entries(trial.settings)
    .map(([name, value]) => `${name} = ${value}`)
    .join(", ");

const TRIALS: Column<TrialView>[] = [
  { name: "trial", cell: ({ number }) => count(number), by: ({ number }) => number },
  { name: "state", cell: ({ state }) => <State state={state} />, by: ({ state }) => state },
  { name: "metric", cell: ({ metric }) => figure(metric), by: ({ metric }) => metric ?? Number.NEGATIVE_INFINITY, number: true },
  { name: "epochs", cell: ({ rung }) => (rung === null ? "" : count(rung)), by: ({ rung }) => rung ?? 0, number: true },
  { name: "tries", cell: settings, text: true },
  { name: "job", cell: ({ job }) => <JobLink id={job} />, wide: true },
  { name: "run", cell: ({ run }) => (run ? <a href={to("runs", run)}>{run}</a> : "") },
  { name: "error", cell: ({ error }) => error ?? "", text: true },
];

/** As many curves as can be told apart. */
const COMPARED_MAX = 8;

export function Sweep({ name }: { name: string }) {
  const live = useLive<SweepDetail>(path("sweeps", name), 2000);
  const sweep = live.value?.sweep;
  const runs = live.value?.trials.flatMap(({ run }) => run ?? []) ?? [];
  return (
    <View title={name} above={<a href={to("sweeps")}>Sweeps</a>} aside={sweep && <State state={sweep.state} />}>
      {live.value && sweep ? (
        <>
          {sweep.text && <p>{sweep.text}</p>}
          <Figures
            figures={[
              ["done", `${count(sweep.n_done)} of ${count(sweep.n_trials)}`],
              ["running", count(sweep.n_running)],
              ["waiting", count(sweep.n_waiting)],
              ["paused", count(sweep.n_paused)],
              ["failed", count(sweep.n_failed)],
              ["at once", count(sweep.parallel)],
              ["compared by", `${sweep.metric_name}, ${sweep.larger_is_better ? "larger" : "smaller"} is better`],
              ["best", sweep.best ? `trial ${sweep.best.number}: ${figure(sweep.best.metric)}` : null],
              ["published", sweep.version === null ? null : <a href={to("models", sweep.model, String(sweep.version))}>{sweep.model} {sweep.version}</a>],
              ["file", sweep.file],
            ]}
          />
          {runs.length > 1 && (
            <p>
              <a href={to("runs", runs.slice(0, COMPARED_MAX).join(","))}>Curves of its first {count(Math.min(runs.length, COMPARED_MAX))} runs</a>
            </p>
          )}
          <Table caption="Trials" rows={live.value.trials} columns={TRIALS} id={({ number }) => String(number)} words={(trial) => `${trial.number} ${trial.state} ${settings(trial)}`} empty="No trial has begun." />
        </>
      ) : (
        <Nothing live={live} />
      )}
    </View>
  );
}
