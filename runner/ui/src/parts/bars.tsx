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
      {parts.map(({ name, share }) => (
        <span key={name} class={name} style={width(share)} />
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
}

/** Of one resource: used, offered, free. */
export function Resource({ name, total, used, offered }: Resource) {
  const of = (value: number) => (total > 0 ? value / total : 0);
  const held = `${amount(name, used)} used${offered ? `, ${amount(name, offered)} offered` : ""}`;
  return (
    <div class="resource">
      <span class="name">{name}</span>
      <Bar parts={[{ name: "used", share: of(used) }, { name: "offered", share: of(offered) }]} />
      <span class="said">
        {held} <span class="soft">of {amount(name, total)}</span>
      </span>
    </div>
  );
}
