// Tasks, those that have ended among them, each with the way to its logs.

import { count } from "../format";
import { to } from "../route";
import type { TaskView } from "../types";
import { JobLink } from "./jobs";
import { State } from "./state";
import { type Column, Table } from "./table";

const OF_A_JOB: Column<TaskView>[] = [
  { name: "task", cell: (task) => <a href={to("logs", task.id)}>{task.id}</a>, by: (task) => task.id },
  { name: "state", cell: (task) => <State state={task.state} />, by: (task) => task.state },
  { name: "member", cell: (task) => task.member || `${task.kind} ${task.index}`, by: (task) => task.member || task.index },
  { name: "generation", cell: (task) => count(task.generation), by: (task) => task.generation, number: true, wide: true },
  { name: "agent", cell: (task) => task.agent, by: (task) => task.agent },
  { name: "offer", cell: (task) => task.offer, wide: true },
  { name: "rows in", cell: (task) => (task.rows_in ? count(task.rows_in) : ""), by: (task) => task.rows_in, number: true },
  { name: "rows out", cell: (task) => (task.rows_out ? count(task.rows_out) : ""), by: (task) => task.rows_out, number: true, wide: true },
  { name: "message", cell: (task) => task.message, text: true },
];

const OF_ALL: Column<TaskView>[] = [
  ...OF_A_JOB.slice(0, 2),
  { name: "job", cell: (task) => <JobLink id={task.job} />, by: (task) => task.job },
  ...OF_A_JOB.slice(2),
];

const words = (task: TaskView) => `${task.id} ${task.job} ${task.member} ${task.agent} ${task.state} ${task.message}`;

export function Tasks({ tasks, ofAll }: { tasks: TaskView[]; ofAll?: boolean }) {
  return (
    <Table
      caption="Tasks"
      rows={tasks}
      columns={ofAll ? OF_ALL : OF_A_JOB}
      id={(task) => task.id}
      words={words}
      empty="There is no task."
    />
  );
}
