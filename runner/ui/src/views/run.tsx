// One training run, or several laid over each other: their curves, how they ended, and in what they differ.

import { useMemo, useState } from "preact/hooks";
import { count, duration, figure, moment, rate } from "../format";
import { useLive, useLives } from "../live";
import { JobLink } from "../parts/jobs";
import { Judged } from "../parts/judged";
import { State } from "../parts/state";
import { type Column, Table } from "../parts/table";
import { Figures, Nothing, View } from "../parts/view";
import { path } from "../read";
import { to } from "../route";
import type { PointView, RunDetail, RunsView, RunView } from "../types";
import { Chart, type Curve, DASHES, LOOKS_MAX } from "./curve";
import { Gang } from "./gang";

const ENDED_MS = 30_000;

export function Run({ ids }: { ids: string[] }) {
  const [every, setEvery] = useState(1000);
  const lives = useLives<RunDetail>(ids.map((id) => path("runs", id)), every);
  const details = lives.flatMap(({ value }) => value ?? []);
  const wanted = details.length === ids.length && details.every(({ run }) => run.ended_ms !== null) ? ENDED_MS : 1000;
  if (wanted !== every) setEvery(wanted);
  const [first] = details;
  const missing = lives.find(({ failure }) => failure);
  return (
    <View
      title={ids.length === 1 ? (ids[0] ?? "") : `${count(ids.length)} runs`}
      above={<a href={to("runs")}>Training runs</a>}
      aside={ids.length === 1 && first && <State state={first.run.outcome} />}
    >
      {missing && details.length > 0 && <Nothing live={missing} />}
      {first ? (
        <>
          {ids.length === 1 && <Summary run={first.run} />}
          <Curves details={details} ids={ids} />
          {ids.length === 1 && <Judged judged={first.evaluation} />}
          <Evaluations details={details} />
          {ids.length === 1 && <Gang run={first.run} />}
          <Settings runs={details.map(({ run }) => run)} />
        </>
      ) : (
        <Nothing live={missing ?? lives[0] ?? { value: undefined, failure: undefined }} />
      )}
    </View>
  );
}

function Summary({ run }: { run: RunView }) {
  const { last } = run;
  return (
    <>
      {run.error && <p class="why">{run.error}</p>}
      <Figures
        figures={[
          ["step", `${count(last.step)} of ${count(last.steps_total)}`],
          ["epoch", count(last.epoch)],
          ["loss", figure(last.loss)],
          [last.metric_name || "metric", figure(last.metric)],
          ["learning rate", figure(last.learning_rate)],
          ["rows per second", rate(last.rows_per_second)],
          ["workers", count(run.workers)],
          ["job", <JobLink id={run.job} />],
          ["began", moment(run.started_ms)],
          ["took", run.ended_ms === null ? null : duration(run.ended_ms - run.started_ms)],
          [
            "wrote",
            run.versions.length
              ? run.versions.map((version) => (
                  <a key={version} class="item" href={to("models", run.model, String(version))}>
                    {run.model} {version}
                  </a>
                ))
              : null,
          ],
        ]}
      />
    </>
  );
}

interface Kind {
  title: string;
  of: (point: PointView) => number | null;
}

const THROUGHPUT = "rows per second";

function kinds(details: RunDetail[]): Kind[] {
  const names = new Set(details.flatMap(({ run }) => run.last.metric_name || []));
  return [
    { title: "loss", of: ({ loss }) => loss },
    ...[...names].map((name): Kind => ({ title: name, of: ({ metric, metric_name }) => (metric_name === name ? metric : null) })),
    { title: "learning rate", of: ({ learning_rate }) => learning_rate },
    { title: THROUGHPUT, of: ({ rows_per_second }) => rows_per_second },
  ];
}

function curvesOf<P extends { at_ms: number; step: number }>(
  details: RunDetail[],
  points: (detail: RunDetail) => P[],
  of: (point: P) => number | null | undefined,
  unit: string,
): Curve[] {
  return details.flatMap((detail, look) => {
    const { run } = detail;
    const line = points(detail).flatMap((point): [number, number][] => {
      const y = of(point);
      return y === null || y === undefined ? [] : [[unit === "step" ? point.step : (point.at_ms - run.started_ms) / 1000, y]];
    });
    return line.length ? [{ name: run.id, look, points: line }] : [];
  });
}

function Curves({ details, ids }: { details: RunDetail[]; ids: string[] }) {
  const [smoothing, setSmoothing] = useState(0.6);
  const [unit, setUnit] = useState("step");
  const [logarithmic, setLogarithmic] = useState(false);
  const seen = details.map(({ run, points, evaluations }) => `${run.id} ${points.length} ${evaluations.length} ${run.last.at_ms}`).join("\n");
  const charts = useMemo(() => {
    const ofPoints = kinds(details).map(({ title, of }) => ({ title, curves: curvesOf(details, ({ points }) => points, of, unit) }));
    const judged = new Set(details.flatMap(({ evaluations }) => evaluations.flatMap(({ metrics }) => Object.keys(metrics))));
    const ofEvaluations = [...judged].map((name) => ({
      title: `${name}, by the evaluator`,
      curves: curvesOf(details, ({ evaluations }) => evaluations, ({ metrics }) => metrics[name], unit),
    }));
    return [...ofPoints, ...ofEvaluations].filter(({ curves }) => curves.length > 0);
  }, [seen, unit]);
  return (
    <>
      <h2>Curves</h2>
      <div class="controls">
        <label>
          Smoothing{" "}
          <input type="range" min={0} max={0.98} step={0.02} value={smoothing} onInput={(event) => setSmoothing(event.currentTarget.valueAsNumber)} />{" "}
          <output>{smoothing.toFixed(2)}</output>
        </label>
        <label>
          Over{" "}
          <select value={unit} onChange={(event) => setUnit(event.currentTarget.value)}>
            <option value="step">steps</option>
            <option value="s">time since the start</option>
          </select>
        </label>
        <label>
          <input type="checkbox" checked={logarithmic} onChange={(event) => setLogarithmic(event.currentTarget.checked)} /> Logarithmic
        </label>
        <Overlay ids={ids} />
      </div>
      <Legend details={details} />
      {charts.length === 0 && <p class="soft">It has not reported a step yet.</p>}
      <div class="charts">
        {charts.map(({ title, curves }) => (
          <Chart key={title} title={title} curves={curves} unit={unit} smoothing={smoothing} logarithmic={logarithmic} fromZero={title === THROUGHPUT} />
        ))}
      </div>
    </>
  );
}

/** Lays another run over those that are shown. */
function Overlay({ ids }: { ids: string[] }) {
  const others = useLive<RunsView>("runs", 10_000).value?.runs.filter((run) => !ids.includes(run.id)) ?? [];
  if (others.length === 0 || ids.length >= LOOKS_MAX) return null;
  return (
    <label>
      Lay over{" "}
      <select
        value=""
        onChange={(event) => {
          location.hash = to("runs", [...ids, event.currentTarget.value].join(","));
        }}
      >
        <option value="">a run …</option>
        {others.slice(0, OVERLAY_MAX).map((run) => (
          <option key={run.id} value={run.id}>
            {run.id} ({run.outcome})
          </option>
        ))}
      </select>
    </label>
  );
}

/** The newest; the others are chosen in the table of runs. */
const OVERLAY_MAX = 100;

function Legend({ details }: { details: RunDetail[] }) {
  return (
    <ul class="runs">
      {details.map(({ run }, look) => (
        <li key={run.id}>
          <svg width="34" height="10" aria-hidden="true">
            <line x1="0" y1="5" x2="34" y2="5" stroke={`var(--run-${look})`} stroke-width="2.5" stroke-dasharray={(DASHES[look] ?? []).join(" ")} />
          </svg>
          <a href={to("runs", run.id)}>{run.id}</a> <State state={run.outcome} />
          <span>
            step {count(run.last.step)}, loss {figure(run.last.loss)}
            {run.last.metric !== null && `, ${run.last.metric_name} ${figure(run.last.metric)}`}
          </span>
        </li>
      ))}
    </ul>
  );
}

interface Judged {
  run: string;
  step: number;
  epoch: number;
  text: string;
}

const EVALUATIONS: Column<Judged>[] = [
  { name: "step", cell: ({ step }) => count(step), by: ({ step }) => step },
  { name: "run", cell: ({ run }) => run, by: ({ run }) => run },
  { name: "epoch", cell: ({ epoch }) => count(epoch), by: ({ epoch }) => epoch, number: true },
  { name: "metrics", cell: ({ text }) => text, text: true },
];

function Evaluations({ details }: { details: RunDetail[] }) {
  const rows = details.flatMap(({ run, evaluations }) =>
    evaluations.map(
      ({ step, epoch, metrics }): Judged => ({
        run: run.id,
        step,
        epoch,
        text: Object.entries(metrics)
          .map(([name, value]) => `${name} ${figure(value)}`)
          .join(", "),
      }),
    ),
  );
  if (rows.length === 0) return null;
  return (
    <>
      <h2>Checkpoints that were judged</h2>
      <Table caption="Checkpoints that were judged" rows={rows.reverse()} columns={EVALUATIONS} id={({ run, step }) => `${run} ${step}`} empty="" perPage={20} />
    </>
  );
}

interface Setting {
  name: string;
  values: (string | undefined)[];
}

/** Of one run all settings; of several those in which they differ. */
function Settings({ runs }: { runs: RunView[] }) {
  const names = [...new Set(runs.flatMap(({ settings }) => Object.keys(settings)))].sort();
  const all = names.map((name): Setting => ({ name, values: runs.map(({ settings }) => settings[name]) }));
  const rows = runs.length === 1 ? all : all.filter(({ values }) => new Set(values).size > 1);
  const columns: Column<Setting>[] = [
    { name: "setting", cell: ({ name }) => name, by: ({ name }) => name },
    ...runs.map(({ id }, at): Column<Setting> => ({ name: id, cell: ({ values }) => values[at] ?? <span class="soft">not told</span>, text: true })),
  ];
  const title = runs.length === 1 ? "Settings" : "In what they differ";
  return (
    <>
      <h2>{title}</h2>
      <Table caption={title} rows={rows} columns={columns} id={({ name }) => name} words={({ name, values }) => `${name} ${values.join(" ")}`} empty="In nothing that was told." />
    </>
  );
}
