// Who trains a run together: the tasks of its gang, its generations, and the checkpoints that these went on from.

import { count } from "../format";
import { useLive } from "../live";
import { Events } from "../parts/events";
import { JobLink } from "../parts/jobs";
import { Tasks } from "../parts/tasks";
import { Figures } from "../parts/view";
import { path } from "../read";
import type { JobView, RunView } from "../types";

/** How the runner's events speak of what becomes of a gang. */
const OF_GANG = /generation|checkpoint|task|worker|server|launched|goes on|starts again/i;

export function Gang({ run }: { run: RunView }) {
  const job = useLive<JobView>(path("jobs", run.job), 2000).value;
  // The job may have been submitted anew since, and its tasks are then of another run.
  const own = job?.tasks.filter(({ id }) => id.endsWith(`.${run.submission}`)) ?? [];
  if (!job || own.length === 0) return null;
  const steps = run.settings["train.checkpoint_steps"] ?? run.settings.checkpoint_steps;
  return (
    <>
      <h2>Gang</h2>
      <Figures
        figures={[
          ["generation", count(job.generation)],
          ["restarts", count(job.restarts)],
          ["a checkpoint every", steps === undefined ? null : `${steps} steps`],
          ["of job", <JobLink id={run.job} />],
        ]}
      />
      <Tasks tasks={own} />
      <h3>Its generations and checkpoints</h3>
      <Events caption="Generations and checkpoints" events={job.events.filter(({ text }) => OF_GANG.test(text))} empty="None since the runner started." />
    </>
  );
}
