// One job: why it is in its state, its dataflow, checkpoints, tasks and events, and the text it came from.

import { bytes, count, counted, duration, eventTime, figure, moment, rate } from "../format";
import { useLive } from "../live";
import { Events } from "../parts/events";
import { Checkpoint, hasEnded, Scale, Stop } from "../parts/jobs";
import { State } from "../parts/state";
import { Tasks } from "../parts/tasks";
import { Figures, Nothing, View } from "../parts/view";
import { path } from "../read";
import { remember, to } from "../route";
import type { DataflowView, JobView, NodeView, RunsView, WhyView } from "../types";
import { Checkpoints } from "./checkpoints";
import { DRAWN_MAX, Graph } from "./graph";
import { History } from "./history";
import { OperatorDetails, Operators, Splits } from "./operators";
import { type Links, Source, useLinks } from "./source";

/** `operator`: which one is chosen. */
export function Job({ id, operator }: { id: string; operator: string | undefined }) {
  const live = useLive<JobView>(path("jobs", id));
  const job = live.value;
  return (
    <View title={id} above={<a href={to()}>Jobs</a>} aside={job && <Buttons job={job} />}>
      {job ? <Sections job={job} operator={operator} /> : <Nothing live={live} />}
    </View>
  );
}

function Buttons({ job }: { job: JobView }) {
  return (
    <>
      <State state={job.state} />
      {!hasEnded(job) && (
        <span class="buttons">
          {job.kind === "stream" && job.state === "running" && <Checkpoint subject={job.id} />}
          {job.kind === "stream" && job.state === "running" && <Scale job={job} />}
          <Stop subject={job.id} what="the job" />
        </span>
      )}
    </>
  );
}

function Sections({ job, operator }: { job: JobView; operator: string | undefined }) {
  return (
    <>
      <Why job={job} />
      <Summary job={job} />
      {job.kind === "stream" && <Stream job={job} chosen={operator} />}
      {job.kind === "train" && <Runs job={job} />}
      <h2>Tasks</h2>
      <Tasks tasks={job.tasks} />
      <h2>Events</h2>
      <Events caption="Events" events={job.events} empty="None since the runner started." />
      {job.kind !== "stream" && <Text job={job} />}
    </>
  );
}

function Why({ job }: { job: JobView }) {
  const why = useLive<WhyView>(path("why", job.id), 2000).value;
  return (
    <section aria-label="Why it is in its state" class="why">
      <p>{why?.sentence ?? job.why}</p>
      {why && why.details.length > 0 && (
        <details open={job.state !== "running" || why.details.length <= DETAILS_FEW}>
          <summary>{counted(why.details.length, "detail")}</summary>
          <ul>
            {why.details.slice(0, DETAILS_MAX).map((detail, at) => (
              <li key={at}>{detail}</li>
            ))}
            {why.details.length > DETAILS_MAX && <li class="soft">and {count(why.details.length - DETAILS_MAX)} more</li>}
          </ul>
        </details>
      )}
    </section>
  );
}

/** So few take no room. */
const DETAILS_FEW = 6;

/** More say nothing new: one a task, or one an agent. */
const DETAILS_MAX = 50;

function Summary({ job }: { job: JobView }) {
  const { metrics } = job;
  const isStream = job.kind === "stream";
  const lag = metrics.watermark_lag_ms;
  return (
    <Figures
      figures={[
        ["rows in per second", isStream && job.state === "running" ? rate(metrics.rows_per_second) : null],
        ["rows in", isStream ? count(metrics.rows_in) : null],
        ["rows out", isStream ? count(metrics.rows_out) : null],
        ["late rows", isStream ? count(metrics.rows_late) : null],
        ["bad rows", isStream ? count(metrics.rows_bad) : null],
        ["watermark lag", lag === null ? null : duration(lag)],
        ["watermark", metrics.watermark_ms === null ? null : eventTime(metrics.watermark_ms)],
        ["state", metrics.state_bytes ? bytes(metrics.state_bytes) : null],
        [
          "restored",
          metrics.restore_bytes ? `${bytes(metrics.restored_bytes ?? 0)} of ${bytes(metrics.restore_bytes)}` : null,
        ],
        ["last checkpoint", metrics.checkpoint_age_ms === null ? null : `${duration(metrics.checkpoint_age_ms)} ago`],
        ["step", metrics.steps_total ? `${count(metrics.step)} of ${count(metrics.steps_total)}` : null],
        ["loss", figure(metrics.loss)],
        [metrics.metric_name || "metric", figure(metrics.metric)],
        ["wrote", metrics.model_version === null ? null : <a href={to("models")}>version {metrics.model_version}</a>],
        ["scores with", Object.keys(job.models).length ? <Models models={job.models} /> : null],
        ["tasks", count(job.parallelism)],
        ["generation", count(job.generation)],
        ["restarts", count(job.restarts)],
        ["role", job.role],
        ["priority", job.priority ? String(job.priority) : null],
        ["submitted", moment(job.submitted_ms)],
      ]}
    />
  );
}

function Models({ models }: { models: Record<string, number> }) {
  return (
    <>
      {Object.entries(models).map(([name, version], at) => (
        <span key={name}>
          {at > 0 && ", "}
          <a href={to("models", name, String(version))}>
            {name} {version}
          </a>
        </span>
      ))}
    </>
  );
}

/** The dataflow does not change while a job runs; what was submitted since may have changed it. */
const DATAFLOW_MS = 30_000;

function Stream({ job, chosen }: { job: JobView; chosen: string | undefined }) {
  const dataflow = useLive<DataflowView>(path("jobs", job.id, "dataflow"), DATAFLOW_MS).value;
  const nodes = dataflow?.nodes ?? NO_NODES;
  const choose = (operator: string | undefined) => remember("jobs", job.group, job.name, ...(operator === undefined ? [] : [operator]));
  const links = useLinks(nodes, chosen, choose);
  const node = nodes.find((node) => node.id === chosen);
  return (
    <>
      {dataflow && nodes.length === 0 && <JobText dataflow={dataflow} />}
      {dataflow && nodes.length > 0 && (
        <>
          <h2>Dataflow</h2>
          <div class="dataflow">
            {nodes.length <= DRAWN_MAX ? (
              <Graph nodes={nodes} job={job} chosen={chosen} choose={choose} lit={links.operators} point={links.pointAt} />
            ) : (
              <p>Its {count(nodes.length)} operators are too many to be drawn; the table below has them all.</p>
            )}
            <div>
              <OperatorDetails key={chosen} job={job} nodes={nodes} node={node} choose={choose} />
              <JobText dataflow={dataflow} links={links} />
            </div>
          </div>
        </>
      )}
      <History job={job} />
      <h2>Operators</h2>
      <Operators job={job} nodes={nodes} />
      <Splits operators={job.operators} />
      <Checkpoints job={job} />
    </>
  );
}

const NO_NODES: NodeView[] = [];

function Text({ job }: { job: JobView }) {
  const dataflow = useLive<DataflowView>(path("jobs", job.id, "dataflow"), DATAFLOW_MS).value;
  return dataflow ? <JobText dataflow={dataflow} /> : null;
}

function JobText({ dataflow, links }: { dataflow: DataflowView; links?: Links | undefined }) {
  if (!dataflow.text) return null;
  return (
    <>
      <h2>Job file{dataflow.file && `: ${dataflow.file}`}</h2>
      <Source text={dataflow.text} links={links} />
    </>
  );
}

function Runs({ job }: { job: JobView }) {
  const runs = useLive<RunsView>("runs", 5000).value?.runs.filter((run) => run.job === job.id) ?? [];
  if (runs.length === 0) return null;
  return (
    <>
      <h2>Training runs</h2>
      <ul>
        {runs.map((run) => (
          <li key={run.id}>
            <a href={to("runs", run.id)}>{run.id}</a> <State state={run.outcome} /> began {moment(run.started_ms)}
          </li>
        ))}
      </ul>
    </>
  );
}
