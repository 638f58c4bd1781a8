// The text of a job, line by line, and which operators each of them became.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count } from "../format";
import type { NodeView } from "../types";

/** Where the mouse goes away, what has the focus is still pointed at. */
export type How = "mouse" | "focus";

type Pointed<T> = Partial<Record<How, T | undefined>>;

/** Between operators and lines: what is pointed at on one side stands out on the other. */
export interface Links {
  /** By line: ids of the operators that were made from it. */
  made: ReadonlyMap<number, string[]>;
  lines: ReadonlySet<number>;
  operators: ReadonlySet<string>;
  /** Of the lines; it stays until another one is. */
  chosenLine: number | undefined;
  chooseLine: (line: number | undefined) => void;
  pointAt: (how: How, operator: string | undefined) => void;
  pointAtLine: (how: How, line: number | undefined) => void;
  choose: (operator: string) => void;
}

/** More of one operator are a mistake of who says so. */
const SPAN_MAX = 10_000;

const NO_LINES: ReadonlySet<number> = new Set();
const NO_OPERATORS: ReadonlySet<string> = new Set();

export function useLinks(nodes: NodeView[], chosen: string | undefined, choose: (operator: string) => void): Links {
  const [pointed, setPointed] = useState<Pointed<string>>({});
  const [pointedLine, setPointedLine] = useState<Pointed<number>>({});
  const [chosenLine, chooseLine] = useState<number>();
  const shape = JSON.stringify(nodes.map(({ id, lines }) => [id, lines]));
  const [made, of] = useMemo(() => {
    const made = new Map<number, string[]>();
    const of = new Map<string, Set<number>>();
    for (const { id, lines = [] } of nodes) {
      const own = new Set<number>();
      for (const [from, to] of lines) for (let line = from; line <= Math.min(to, from + SPAN_MAX); line += 1) own.add(line);
      for (const line of own) made.set(line, [...(made.get(line) ?? []), id]);
      of.set(id, own);
    }
    return [made, of] as const;
  }, [shape]);
  const operator = pointed.mouse ?? pointed.focus ?? chosen;
  const line = pointedLine.mouse ?? pointedLine.focus ?? chosenLine;
  return {
    made,
    lines: (operator !== undefined && of.get(operator)) || NO_LINES,
    operators: useMemo(() => (line === undefined ? NO_OPERATORS : new Set(made.get(line))), [line, made]),
    chosenLine,
    chooseLine,
    pointAt: (how, operator) => setPointed((pointed) => ({ ...pointed, [how]: operator })),
    pointAtLine: (how, line) => setPointedLine((pointed) => ({ ...pointed, [how]: line })),
    choose,
  };
}

/** Of a longer text each line would be felt. */
const LINKED_MAX = 5000;

export function Source({ text, links }: { text: string; links: Links | undefined }) {
  const lines = useMemo(() => text.split("\n"), [text]);
  const box = useRef<HTMLPreElement>(null);
  const first = links && links.lines.size > 0 ? Math.min(...links.lines) : undefined;
  // The text moves to what is pointed at, the page does not.
  useEffect(() => {
    const pre = box.current;
    const line = first === undefined ? null : pre?.querySelector<HTMLElement>(`[data-line="${first}"]`);
    if (!pre || !line) return;
    const top = line.offsetTop - pre.offsetTop;
    if (top < pre.scrollTop || top + line.offsetHeight > pre.scrollTop + pre.clientHeight) pre.scrollTop = Math.max(0, top - pre.clientHeight / 3);
  }, [first]);
  if (!links || links.made.size === 0 || lines.length > LINKED_MAX) {
    return (
      <pre class="code" tabIndex={0} role="region" aria-label="Text of the job file">
        {text}
      </pre>
    );
  }
  const { chosenLine } = links;
  return (
    <>
      <p class="soft linkhint" role="status">
        {chosenLine === undefined ? (
          "Numbered lines became operators: choose one to see which."
        ) : (
          <>
            From line {count(chosenLine)}:{" "}
            {(links.made.get(chosenLine) ?? []).map((id) => (
              <button key={id} type="button" onClick={() => links.choose(id)}>
                {id}
              </button>
            ))}
          </>
        )}
      </p>
      <pre class="code lines" ref={box} tabIndex={0} role="region" aria-label="Text of the job file">
        {lines.map((line, at) => (
          <Line key={at} number={at + 1} text={line} links={links} />
        ))}
      </pre>
    </>
  );
}

function Line({ number, text, links }: { number: number; text: string; links: Links }) {
  const made = links.made.get(number);
  const isChosen = links.chosenLine === number;
  const choose = () => links.chooseLine(isChosen ? undefined : number);
  const kinds = ["codeline", made && "made", links.lines.has(number) && "lit", isChosen && "chosen"].filter(Boolean).join(" ");
  return (
    <span
      class={kinds}
      data-line={number}
      {...(made ? { onMouseEnter: () => links.pointAtLine("mouse", number), onMouseLeave: () => links.pointAtLine("mouse", undefined) } : {})}
      // Who selects some of the text does not mean the line.
      onClick={() => made && getSelection()?.isCollapsed !== false && choose()}
    >
      {made ? (
        <button
          type="button"
          class="number"
          aria-pressed={isChosen}
          aria-label={`line ${number}: ${made.join(", ")}`}
          onClick={(event) => {
            event.stopPropagation();
            choose();
          }}
          onFocus={() => links.pointAtLine("focus", number)}
          onBlur={() => links.pointAtLine("focus", undefined)}
        >
          {number}
        </button>
      ) : (
        <span class="number" aria-hidden="true" />
      )}
      {text}
      {"\n"}
    </span>
  );
}
