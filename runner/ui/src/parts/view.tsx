// What every view has: its heading, and what it says while there is nothing to show.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { Live } from "../live";

interface Props {
  title: string;
  /** Beside the heading. */
  aside?: ComponentChildren;
  /** Above it: where one came from. */
  above?: ComponentChildren;
  children: ComponentChildren;
}

export function View({ title, aside, above, children }: Props) {
  useEffect(() => {
    document.title = `${title} – smack`;
  }, [title]);
  return (
    <>
      {above && <p class="above">{above}</p>}
      <div class="head">
        <h1 id="heading" tabIndex={-1}>
          {title}
        </h1>
        {aside}
      </div>
      {children}
    </>
  );
}

/** That there is nothing to show yet, and why. */
export function Nothing({ live }: { live: Live<unknown> }) {
  return <p class="soft">{live.failure ? `${live.failure.message}.` : "Reading …"}</p>;
}

/** Named figures; those that are not there are left out. */
export function Figures({ figures }: { figures: [string, ComponentChildren | null | undefined][] }) {
  return (
    <dl class="figures">
      {figures
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}
