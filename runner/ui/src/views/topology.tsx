// Who is connected with whom: the master, the frameworks that it makes offers to, and the agents, by where they stand, each
// with the tasks that are on it.

import { useMemo } from "preact/hooks";
import { count, counted } from "../format";
import { useLive } from "../live";
import { State } from "../parts/state";
import { to } from "../route";
import type { AgentView, ClusterView, JobsView, TaskView } from "../types";

/** More are better looked for in the tables. */
const AGENTS_MAX = 40;
const TASKS_MAX = 5;
const FRAMEWORKS_MAX = 12;

/** What agents are said to stand in, from the large to the small. */
const PLACES = ["region", "zone", "rack"];

const placeOf = ({ attributes }: AgentView) => PLACES.flatMap((name) => (attributes[name] ? `${name} ${attributes[name]}` : [])).join(", ");

const ENDED = ["finished", "failed", "killed", "lost", "gone", "error", "dropped", "oom"];

export function Topology({ cluster }: { cluster: ClusterView }) {
  const jobs = useLive<JobsView>("jobs", 2000).value?.jobs;
  const tasks = useMemo(() => {
    const by = new Map<string, TaskView[]>();
    for (const job of jobs ?? []) {
      for (const task of job.tasks) if (!ENDED.includes(task.state)) by.set(task.agent, [...(by.get(task.agent) ?? []), task]);
    }
    return by;
  }, [jobs]);
  const shown = cluster.agents.slice(0, AGENTS_MAX);
  const places = [...new Set(shown.map(placeOf))].sort();
  return (
    <section aria-label="Topology" class="topology" tabIndex={0}>
      <div class="masters">
        <h3>Master</h3>
        <p>
          {cluster.leader_epoch > 0 ? `leader ${count(cluster.leader_epoch)}` : "has no leader"} <span class="soft">makes offers to</span>
        </p>
        <ul>
          {cluster.frameworks.slice(0, FRAMEWORKS_MAX).map(({ id, name, role, connected }) => (
            <li key={id}>
              {name} <span class="soft">role {role}</span> <State state={connected ? "active" : "disconnected"} />
            </li>
          ))}
        </ul>
        {cluster.frameworks.length === 0 && <p class="soft">nobody</p>}
        {cluster.frameworks.length > FRAMEWORKS_MAX && <p class="soft">and {count(cluster.frameworks.length - FRAMEWORKS_MAX)} more</p>}
      </div>
      <div class="places">
        {places.map((place) => (
          <div key={place} class="place">
            <h3>{place || "Agents"}</h3>
            <ul>
              {shown
                .filter((agent) => placeOf(agent) === place)
                .map((agent) => (
                  <li key={agent.id} class="agent">
                    <b>{agent.id}</b> <span class="soft">{agent.host}</span> <State state={agent.state} />
                    <Held agent={agent} tasks={tasks.get(agent.id) ?? []} />
                  </li>
                ))}
            </ul>
          </div>
        ))}
        {cluster.agents.length > AGENTS_MAX && <p class="soft">and {count(cluster.agents.length - AGENTS_MAX)} more agents, which the table has</p>}
      </div>
    </section>
  );
}

function Held({ agent, tasks }: { agent: AgentView; tasks: TaskView[] }) {
  if (tasks.length === 0) return <span class="soft line">{agent.n_tasks ? counted(agent.n_tasks, "task") : "no task"}</span>;
  return (
    <ul>
      {tasks.slice(0, TASKS_MAX).map((task) => (
        <li key={task.id}>
          <a href={to("logs", task.id)} title={`${task.id}: ${task.state}`}>
            {task.job}
          </a>{" "}
          <span class="soft">{task.member || task.index}</span>
        </li>
      ))}
      {tasks.length > TASKS_MAX && <li class="soft">and {count(tasks.length - TASKS_MAX)} more</li>}
    </ul>
  );
}
