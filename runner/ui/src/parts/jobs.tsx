// What is said of jobs in more than one view.

import { path, write } from "../read";
import { toJob } from "../route";
import type { JobView } from "../types";
import { Action } from "./action";

export const JobLink = ({ id }: { id: string }) => <a href={toJob(id)}>{id}</a>;

const ENDED = ["finished", "failed", "stopped"];

export const hasEnded = (job: JobView) => ENDED.includes(job.state);

const told = (what: string, subject: string) => `${what}: ${subject}`;

/** Stops a job, or all of a group. */
export function Stop({ subject, what }: { subject: string; what: string }) {
  return (
    <Action
      label="Stop"
      title={`Stop ${what} ${subject}?`}
      danger
      act={async () => {
        await write("POST", path("stop", subject));
        return told("told to stop", subject);
      }}
    >
      <p>A stream takes a last checkpoint first; a later submission with --resume goes on from it.</p>
    </Action>
  );
}

export function Checkpoint({ subject }: { subject: string }) {
  return (
    <Action
      label="Checkpoint"
      title={`Take a checkpoint of ${subject} now?`}
      act={async () => {
        await write("POST", path("checkpoint", subject));
        return told("told to take a checkpoint", subject);
      }}
    >
      <p>It is taken beside the work, as every other one.</p>
    </Action>
  );
}

export function Scale({ job }: { job: JobView }) {
  return (
    <Action
      label="Scale"
      title={`Give ${job.id} another number of tasks?`}
      act={async (form) => {
        const wanted = Number(form.get("parallelism"));
        await write("POST", path("scale", job.id), { parallelism: wanted });
        return told(`told to go on with ${wanted} task${wanted === 1 ? "" : "s"}`, job.id);
      }}
    >
      <p>It takes a last checkpoint and goes on from it.</p>
      <p>
        <label>
          Tasks{" "}
          <input name="parallelism" type="number" min={1} max={1024} required defaultValue={String(job.parallelism)} />
        </label>
      </p>
    </Action>
  );
}
