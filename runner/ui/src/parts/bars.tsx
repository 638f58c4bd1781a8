// Shares as stacked bars. What a bar says stands beside it in words as well.

import { amount, percent } from "../format";
import type { OperatorView } from "../types";

interface Part {
  name: string;
  share: number;
}

const width = (share: number) => ({ width: `${Math.min(Math.max(share, 0), 1) * 100}%` });

/** `label` is what a reader of the screen hears; without it the text beside the bar says the same. */
export function Bar({ parts, label }: { parts: Part[]; label?: string }) {
  return (
    <span class="bar" {...(label ? { role: "img", "aria-label": label } : { "aria-hidden": true })}>
      {parts.map(({ name, share }, at) => (
        <span key={at} class={name} style={width(share)} />
      ))}
    </span>
  );
}

/** Of an operator: at work, held up by what comes after it, and with nothing to do. */
export function Shares({ operator }: { operator: OperatorView }) {
  const { busy, blocked, idle } = operator;
  return <Bar parts={[{ name: "busy", share: busy }, { name: "blocked", share: blocked }, { name: "idle", share: idle }]} />;
}

export const sharesText = ({ busy, blocked, idle }: OperatorView) =>
  `busy ${percent(busy)}, blocked ${percent(blocked)}, idle ${percent(idle)}`;

interface Resource {
  name: string;
  total: number;
  used: number;
  offered: number;
  /** What is used, by role: its name, and how it is drawn. */
  roles?: { role: string; look: string; used: number }[] | undefined;
}

/** Others hold little, and all are in the table of roles. */
const ROLES_MAX = 4;

const rolesText = (name: string, holding: { role: string; used: number }[]) => {
  const most = holding.slice().sort((a, b) => b.used - a.used);
  const named = most.slice(0, ROLES_MAX).map(({ role, used }) => `${role} ${amount(name, used)}`);
  const others = most.slice(ROLES_MAX).reduce((sum, { used }) => sum + used, 0);
  return [...named, ...(others ? [`others ${amount(name, others)}`] : [])].join(", ");
};

/** Of one resource: used, by whom, offered, free. */
export function Resource({ name, total, used, offered, roles = [] }: Resource) {
  const of = (value: number) => (total > 0 ? value / total : 0);
  const held = `${amount(name, used)} used${offered ? `, ${amount(name, offered)} offered` : ""}`;
  const holding = roles.filter((role) => role.used > 0);
  const parts = holding.length ? holding.map(({ look, used }) => ({ name: look, share: of(used) })) : [{ name: "used", share: of(used) }];
  return (
    <div class="resource">
      <span class="name">{name}</span>
      <Bar parts={[...parts, { name: "offered", share: of(offered) }]} />
      <span class="said">
        {held} <span class="soft">of {amount(name, total)}</span>
        {roles.length > 1 && holding.length > 0 && <span class="roles">{rolesText(name, holding)}</span>}
      </span>
    </div>
  );
}
