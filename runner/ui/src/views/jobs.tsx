// All jobs, by group: what runs and how fast, and why what does not run does not.

import { useMemo } from "preact/hooks";
import { bytes, count, counted, duration, percent, rate } from "../format";
import { useLive } from "../live";
import { hasEnded, JobLink, Stop } from "../parts/jobs";
import { State } from "../parts/state";
import { type Column, Table } from "../parts/table";
import { Nothing, View } from "../parts/view";
import type { JobsView, JobView } from "../types";

const COLUMNS: Column<JobView>[] = [
  {
    name: "job",
    cell: (job) => (
      <>
        <JobLink id={job.id} />
        {whyNot(job) && <span class="narrow soft">{whyNot(job)}</span>}
      </>
    ),
    by: (job) => job.id,
  },
  { name: "state", cell: (job) => <State state={job.state} />, by: (job) => job.state },
  { name: "kind", cell: (job) => job.kind, by: (job) => job.kind, wide: true },
  {
    name: "tasks",
    cell: (job) => (hasEnded(job) ? "" : `${count(job.tasks.filter((task) => task.state === "running").length)} of ${count(job.parallelism)}`),
    by: (job) => job.parallelism,
    number: true,
    wide: true,
  },
  { name: "progress", cell: progress, number: true },
  {
    name: "lag",
    cell: (job) => (job.metrics.watermark_lag_ms === null ? "" : duration(job.metrics.watermark_lag_ms)),
    by: (job) => job.metrics.watermark_lag_ms ?? -1,
    number: true,
  },
  { name: "state size", cell: (job) => (job.metrics.state_bytes ? bytes(job.metrics.state_bytes) : ""), by: (job) => job.metrics.state_bytes, number: true, wide: true },
  {
    name: "checkpoint",
    cell: (job) => (job.metrics.checkpoint_age_ms === null ? "" : `${duration(job.metrics.checkpoint_age_ms)} ago`),
    by: (job) => job.metrics.checkpoint_age_ms ?? -1,
    number: true,
    wide: true,
  },
  { name: "why", cell: whyNot, text: true, wide: true },
];

/** The figures of one that runs stand in their columns. */
function whyNot(job: JobView): string {
  return job.state === "running" ? "" : job.why;
}

function progress({ kind, state, metrics }: JobView): string {
  if (kind === "train" && metrics.steps_total > 0) {
    return `${percent(metrics.step / metrics.steps_total)} of steps`;
  }
  if (metrics.restore_bytes) {
    return `${percent((metrics.restored_bytes ?? 0) / metrics.restore_bytes)} of state restored`;
  }
  return kind === "stream" && state === "running" ? `${rate(metrics.rows_per_second)} rows/s` : "";
}

const words = (job: JobView) => `${job.id} ${job.kind} ${job.state} ${job.why}`;

export function Jobs() {
  const live = useLive<JobsView>("jobs");
  const jobs = useMemo(
    () => live.value?.jobs.slice().sort((a, b) => (a.group < b.group ? -1 : a.group > b.group ? 1 : 0)),
    [live.value],
  );
  return (
    <View title="Jobs">
      {jobs ? (
        <>
          <Summary jobs={jobs} />
          <Table
            caption="Jobs"
            rows={jobs}
            columns={COLUMNS}
            id={(job) => job.id}
            words={words}
            group={(job) => job.group}
            groupHead={(group, members) => members.length > 1 && <Group name={group} jobs={members} />}
            empty="There is no job. `smack submit FILE` hands one to the cluster."
          />
        </>
      ) : (
        <Nothing live={live} />
      )}
    </View>
  );
}

function Summary({ jobs }: { jobs: JobView[] }) {
  const states = new Map<string, number>();
  for (const { state } of jobs) states.set(state, (states.get(state) ?? 0) + 1);
  const perSecond = jobs.reduce((sum, job) => sum + (job.state === "running" ? job.metrics.rows_per_second : 0), 0);
  return (
    <p class="summary">
      {counted(jobs.length, "job")}
      {[...states].map(([state, n]) => (
        <span key={state}>
          {count(n)} <State state={state} />
        </span>
      ))}
      {perSecond > 0 && <span>{rate(perSecond)} rows/s in all</span>}
    </p>
  );
}

function Group({ name, jobs }: { name: string; jobs: JobView[] }) {
  return (
    <span class="grouphead">
      {name}
      {jobs.some((job) => !hasEnded(job)) && <Stop subject={name} what="all jobs of" />}
    </span>
  );
}
