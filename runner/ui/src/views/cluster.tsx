// The cluster: agents with what they have, roles with what they hold, frameworks, and what became of each offer.

import { useMemo } from "preact/hooks";
import { amount, amounts, count, counted, duration, percent, resources } from "../format";
import { useLive } from "../live";
import { Action } from "../parts/action";
import { Bar, Resource } from "../parts/bars";
import { State } from "../parts/state";
import { type Column, Table } from "../parts/table";
import { Nothing, View } from "../parts/view";
import { path, write } from "../read";
import { to } from "../route";
import type { AgentView, Amounts, ClusterView, FrameworkView, OfferView, RoleView, VolumeView } from "../types";
import { Topology } from "./topology";

export function Cluster() {
  const live = useLive<ClusterView>("cluster");
  const cluster = live.value;
  return <View title="Cluster">{cluster ? <Sections cluster={cluster} /> : <Nothing live={live} />}</View>;
}

function Sections({ cluster }: { cluster: ClusterView }) {
  const roles = rolesOf(cluster.agents);
  const names = roles.join("\n");
  const columns = useMemo(() => agentColumns(roles), [names]);
  const offers = useMemo(() => cluster.offers.slice().sort((a, b) => a.made_ms_ago - b.made_ms_ago), [cluster]);
  return (
    <>
      <Whole cluster={cluster} roles={roles} />
      <h2>Topology</h2>
      <Topology cluster={cluster} />
      <h2>Agents</h2>
      <Table
        caption="Agents"
        rows={cluster.agents}
        columns={columns}
        id={(agent) => agent.id}
        words={(agent) => `${agent.id} ${agent.host} ${agent.state} ${attributes(agent)}`}
        empty="No agent has registered. `smack agent` starts one."
        perPage={25}
      />
      <h2>Roles</h2>
      <Table caption="Roles" rows={cluster.roles} columns={ROLES} id={(role) => role.role} empty="No role has anything." />
      {cluster.volumes?.length ? (
        <>
          <h2>Volumes</h2>
          <Table
            caption="Volumes"
            rows={cluster.volumes}
            columns={VOLUMES}
            id={({ role, name, agent }) => `${role}/${name}/${agent}`}
            words={({ role, name, agent, task }) => `${name} ${role} ${agent} ${task ?? ""}`}
            empty=""
            perPage={25}
          />
        </>
      ) : null}
      <h2>Frameworks</h2>
      <Table caption="Frameworks" rows={cluster.frameworks} columns={FRAMEWORKS} id={({ id }) => id} empty="No framework has registered." />
      <h2>Offers</h2>
      <Table
        caption="Offers, the latest first"
        rows={offers}
        columns={OFFERS}
        id={(offer) => offer.id}
        words={(offer) => `${offer.id} ${offer.agent} ${offer.framework_name} ${offer.state} ${offer.tasks.join(" ")}`}
        empty="No offer has been made lately."
        perPage={25}
      />
    </>
  );
}

/** All agents that can be heard together, and which roles hold how much of them. */
function Whole({ cluster, roles }: { cluster: ClusterView; roles: string[] }) {
  const total: Amounts = {};
  const used: Amounts = {};
  const offered: Amounts = {};
  const add = (sum: Amounts, more: Amounts) => {
    for (const [name, value] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + value;
  };
  for (const agent of cluster.agents) {
    add(total, agent.total.scalars);
    add(used, agent.used.scalars);
    add(offered, agent.offered.scalars);
  }
  const n_away = cluster.agents.filter((agent) => agent.state !== "active").length;
  return (
    <section aria-label="The whole cluster" class="whole">
      <p class="summary">
        {counted(cluster.agents.length, "agent")}
        {n_away > 0 && <span>{count(n_away)} of them not active</span>}
        <span>{counted(cluster.agents.reduce((sum, agent) => sum + agent.n_tasks, 0), "task")}</span>
        <span class="soft">the master is the {ordinal(cluster.leader_epoch)} leader</span>
      </p>
      {Object.entries(total).map(([name, all]) => (
        <Resource key={name} name={name} total={all} used={used[name] ?? 0} offered={offered[name] ?? 0} roles={shares(cluster.agents, roles, name)} />
      ))}
      <p class="legend">
        {roles.length === 0 && <span><i class="swatch used" aria-hidden="true" /> used</span>}
        {roles.slice(0, LOOKS).map((role, at) => (
          <span key={role}><i class={`swatch ${look(at)}`} aria-hidden="true" /> used by {role}</span>
        ))}
        {roles.length > LOOKS && <span><i class={`swatch ${look(LOOKS)}`} aria-hidden="true" /> used by {count(roles.length - LOOKS)} others</span>}
        <span><i class="swatch offered" aria-hidden="true" /> offered</span>
        <span><i class="swatch free" aria-hidden="true" /> free</span>
      </p>
    </section>
  );
}

function ordinal(n: number): string {
  const ending = n % 100 >= 11 && n % 100 <= 13 ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[n % 10] ?? "th");
  return `${n}${ending}`;
}

const attributes = (agent: AgentView) =>
  Object.entries(agent.attributes)
    .map(([name, value]) => `${name}: ${value}`)
    .join(", ");

/** So many roles are told apart by colour; what each has stands beside the bars in words. */
const LOOKS = 7;

const look = (at: number) => `role role-${Math.min(at, LOOKS)}`;

/** That use something, those with most tasks' worth of it first. */
function rolesOf(agents: AgentView[]): string[] {
  const cpus = new Map<string, number>();
  for (const { used_by_role = {} } of agents) {
    for (const [role, { scalars }] of Object.entries(used_by_role)) cpus.set(role, (cpus.get(role) ?? 0) + (scalars.cpus ?? 0));
  }
  return [...cpus].sort(([a, less], [b, more]) => more - less || (a < b ? -1 : 1)).map(([role]) => role);
}

/** What each role uses of one resource. */
const shares = (agents: AgentView[], roles: string[], name: string) =>
  roles.map((role, at) => {
    const of = ({ used_by_role }: AgentView) => {
      const own = used_by_role?.[role];
      return (name === PORTS ? own?.n_ports : own?.scalars[name]) ?? 0;
    };
    return { role, look: look(at), used: agents.reduce((sum, agent) => sum + of(agent), 0) };
  });

const PORTS = "ports";

const agentColumns = (roles: string[]): Column<AgentView>[] => [
  { name: "agent", cell: (agent) => <>{agent.id}<br /><span class="soft">{agent.host}</span></>, by: (agent) => agent.id },
  { name: "state", cell: (agent) => <><State state={agent.state} /><Plan agent={agent} /></>, by: (agent) => agent.state },
  {
    name: "resources",
    cell: (agent) => {
      const { total, used, offered } = agent;
      return (
        <>
          {Object.entries(total.scalars).map(([name, all]) => (
            <Resource key={name} name={name} total={all} used={used.scalars[name] ?? 0} offered={offered.scalars[name] ?? 0} roles={shares([agent], roles, name)} />
          ))}
          {total.n_ports > 0 && <Resource name={PORTS} total={total.n_ports} used={used.n_ports} offered={offered.n_ports} roles={shares([agent], roles, PORTS)} />}
          <Reserved agent={agent} />
        </>
      );
    },
  },
  { name: "tasks", cell: (agent) => count(agent.n_tasks), by: (agent) => agent.n_tasks, number: true },
  { name: "attributes", cell: attributes, text: true },
  { name: "heard", cell: (agent) => `${duration(agent.heard_ms_ago)} ago`, by: (agent) => agent.heard_ms_ago, number: true, wide: true },
  { name: "drain", cell: (agent) => <Drain agent={agent} /> },
];

const VOLUMES: Column<VolumeView>[] = [
  { name: "volume", cell: ({ name }) => name, by: ({ name }) => name, text: true },
  { name: "role", cell: ({ role }) => role, by: ({ role }) => role, text: true },
  { name: "agent", cell: ({ agent }) => agent, by: ({ agent }) => agent, text: true },
  { name: "size", cell: ({ disk_mib }) => amount("disk", disk_mib), by: ({ disk_mib }) => disk_mib, number: true },
  { name: "task", cell: ({ task, leaving }) => task ?? (leaving ? "is being removed" : ""), text: true },
];

/** What is for roles alone, and how much of it they do not hold. */
function Reserved({ agent: { reserved = [], unfilled = {} } }: { agent: AgentView }) {
  const roles = [...new Set(reserved.map(({ role }) => role))];
  return (
    <>
      {roles.map((role) => {
        const sum: Record<string, number> = {};
        for (const one of reserved.filter((one) => one.role === role)) {
          for (const [name, n] of Object.entries(one.amounts)) sum[name] = (sum[name] ?? 0) + n;
        }
        const left = amounts(unfilled[role] ?? {});
        return <div key={role} class="soft">reserved for {role}: {amounts(sum)}{left && `; not held: ${left}`}</div>;
      })}
    </>
  );
}

/** When an operator wants it empty, and when it comes back. */
function Plan({ agent: { drains_from_ms, drain_over_ms } }: { agent: AgentView }) {
  const now = Date.now();
  const [what, at] = drains_from_ms && drains_from_ms > now ? ["drains", drains_from_ms] : ["back", drain_over_ms ?? 0];
  return at > now ? <div class="soft">{what} in {duration(at - now)}</div> : null;
}

function Drain({ agent }: { agent: AgentView }) {
  const target = path("drain", agent.id);
  const isDraining = agent.state === "draining" || agent.state === "drained";
  return isDraining ? (
    <Action
      label="Undrain"
      title={`Offer ${agent.id} again?`}
      act={async () => {
        await write("DELETE", target);
        return `${agent.id} is offered again`;
      }}
    >
      <p>Tasks can come to it again.</p>
    </Action>
  ) : (
    <Action
      label="Drain"
      title={`Empty ${agent.id}?`}
      danger
      act={async () => {
        await write("POST", target, {});
        return `${agent.id} is being drained`;
      }}
    >
      <p>It is offered to nobody, and its tasks are moved, streams after a last checkpoint.</p>
    </Action>
  );
}

const ROLES: Column<RoleView>[] = [
  { name: "role", cell: ({ role }) => role, by: ({ role }) => role },
  {
    name: "share",
    cell: ({ dominant_share }) => (
      <>
        <Bar parts={[{ name: "used", share: dominant_share }]} /> {percent(dominant_share)}
      </>
    ),
    by: ({ dominant_share }) => dominant_share,
  },
  { name: "weight", cell: ({ weight }) => count(weight), by: ({ weight }) => weight, number: true },
  { name: "holds", cell: ({ held }) => amounts(held) || <span class="soft">nothing</span> },
  { name: "guaranteed", cell: ({ guarantee }) => amounts(guarantee) || <span class="soft">no quota</span> },
  { name: "limit", cell: ({ held, limit }) => limitText(held, limit) || <span class="soft">none</span> },
  { name: "frameworks", cell: ({ n_frameworks }) => count(n_frameworks), by: ({ n_frameworks }) => n_frameworks, number: true, wide: true },
];

const limitText = (held: Amounts, limit: Amounts) =>
  Object.entries(limit)
    .map(([name, most]) => `${name} ${amount(name, most)}${(held[name] ?? 0) >= most ? " (reached)" : ""}`)
    .join(", ");

const FRAMEWORKS: Column<FrameworkView>[] = [
  { name: "framework", cell: ({ name }) => name, by: ({ name }) => name },
  { name: "id", cell: ({ id }) => id, wide: true },
  { name: "role", cell: ({ role }) => role, by: ({ role }) => role },
  { name: "connection", cell: ({ connected }) => <State state={connected ? "active" : "disconnected"} /> },
  { name: "share", cell: ({ dominant_share }) => percent(dominant_share), by: ({ dominant_share }) => dominant_share, number: true },
  {
    name: "waits for",
    cell: ({ waiting }) =>
      waiting.length ? waiting.slice(0, WAITING_MAX).join("; ") + (waiting.length > WAITING_MAX ? `; and ${count(waiting.length - WAITING_MAX)} more` : "") : <span class="soft">nothing</span>,
    text: true,
  },
];

const WAITING_MAX = 10;

const OFFERS: Column<OfferView>[] = [
  { name: "offer", cell: ({ id }) => id, by: ({ id }) => id },
  { name: "made", cell: ({ made_ms_ago }) => `${duration(made_ms_ago)} ago`, by: ({ made_ms_ago }) => made_ms_ago, number: true },
  { name: "what became of it", cell: (offer) => <Outcome offer={offer} />, by: ({ state }) => state },
  { name: "agent", cell: ({ agent }) => agent, by: ({ agent }) => agent },
  { name: "to", cell: ({ framework_name, framework }) => framework_name || framework, by: ({ framework_name }) => framework_name },
  { name: "of", cell: (offer) => resources(offer.resources), wide: true },
  { name: "tasks", cell: ({ tasks }) => <Launched tasks={tasks} /> },
];

function Outcome({ offer: { state, tasks, refused_for_s } }: { offer: OfferView }) {
  const more =
    state === "declined" && refused_for_s
      ? `, refused for ${duration(refused_for_s * 1000)}`
      : state === "accepted"
        ? `, ${tasks.length ? counted(tasks.length, "task") : "nothing launched"}`
        : "";
  return (
    <>
      <State state={state} />
      {more && <span class="soft">{more}</span>}
    </>
  );
}

function Launched({ tasks }: { tasks: string[] }) {
  return (
    <>
      {tasks.slice(0, LAUNCHED_MAX).map((task) => (
        <a key={task} class="line" href={to("logs", task)}>
          {task}
        </a>
      ))}
      {tasks.length > LAUNCHED_MAX && <span class="soft">and {count(tasks.length - LAUNCHED_MAX)} more</span>}
    </>
  );
}

const LAUNCHED_MAX = 5;
