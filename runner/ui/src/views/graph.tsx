// The dataflow as a graph, from the sources above to the sinks below. Its nodes are buttons; the table of operators below
// it says the same in words.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, count, counted, rate } from "../format";
import { Shares, sharesText } from "../parts/bars";
import type { JobView, NodeView, OperatorView } from "../types";
import { layout, type Placed } from "./layout";
import type { How } from "./source";

const NODE = { width: 236, height: 78 };
/** An exchange does little but pass rows on. */
const EXCHANGE = { width: 236, height: 60 };

/** More take a second and longer to place, and nobody finds their way among them. */
export const DRAWN_MAX = 150;

const sizeOf = ({ kind }: NodeView) => (kind === "exchange" ? EXCHANGE : NODE);

interface Props {
  nodes: NodeView[];
  job: JobView;
  chosen: string | undefined;
  choose: (id: string | undefined) => void;
  /** That were made from the line which is pointed at. */
  lit: ReadonlySet<string>;
  /** At one of them, with whatever one points with, or at none. */
  point: (how: How, id: string | undefined) => void;
}

export function Graph({ nodes, job, chosen, choose, lit, point }: Props) {
  // The shape is the same in every answer; placing hundreds of nodes each second would be felt.
  const shape = nodes.map((node) => `${node.id} ${node.kind} ${node.changes} ${node.inputs.join(" ")}`).join("\n");
  const { width, height, nodes: placed, edges } = useMemo(() => layout(nodes, sizeOf), [shape]);
  const known = new Map(nodes.map((node) => [node.id, node]));
  const operators = new Map(job.operators.map((operator) => [operator.id, operator]));
  const box = useRef<HTMLDivElement>(null);
  const [zoom, setZoom] = useState(1);
  // One sees what is chosen, or else a source first, also where the graph is larger than there is room.
  useEffect(() => {
    const seen = box.current;
    const place = placed.find(({ node }) => node.id === chosen) ?? placed[0];
    if (!seen || !place) return;
    const [left, top] = [place.x * zoom, place.y * zoom];
    if (left < seen.scrollLeft || left + place.width * zoom > seen.scrollLeft + seen.clientWidth) seen.scrollLeft = left + (place.width * zoom) / 2 - seen.clientWidth / 2;
    if (top < seen.scrollTop || top + place.height * zoom > seen.scrollTop + seen.clientHeight) seen.scrollTop = top - seen.clientHeight / 3;
  }, [shape, zoom, chosen]);
  return (
    <div>
      <p class="zoom">
        <button type="button" disabled={zoom <= ZOOM_MIN} onClick={() => setZoom(zoom / ZOOM_STEP)}>
          Smaller
        </button>
        <button type="button" disabled={zoom >= 1} onClick={() => setZoom(Math.min(1, zoom * ZOOM_STEP))}>
          Larger
        </button>
        <span class="soft">{counted(nodes.length, "operator")}</span>
      </p>
      <div class="graph" ref={box} role="region" aria-label="The dataflow, from its sources to its sinks" tabIndex={0}>
        <div class="canvas" style={{ width: `${width}px`, height: `${height}px`, zoom }}>
          <svg width={width} height={height} aria-hidden="true">
            <defs>
              <marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
                <path d="M0 0L8 4L0 8z" />
              </marker>
            </defs>
            {edges.map((edge) => (
              <g key={edge.id} class={known.get(edge.from)?.kind === "exchange" ? "exchanged" : undefined}>
                <path d={edge.line} marker-end="url(#arrow)" />
                {known.get(edge.from)?.changes && (
                  <text x={edge.middle.x + 6} y={edge.middle.y + 4}>
                    ±
                  </text>
                )}
              </g>
            ))}
          </svg>
          {placed.map((place) => (
            <Node
              key={place.node.id}
              place={place}
              operator={operators.get(place.node.id)}
              job={job}
              chosen={chosen === place.node.id}
              choose={choose}
              lit={lit.has(place.node.id)}
              point={point}
            />
          ))}
        </div>
      </div>
      <p class="legend">
        <span><i class="swatch busy" aria-hidden="true" /> busy</span>
        <span><i class="swatch blocked" aria-hidden="true" /> blocked by what comes after it</span>
        <span><i class="swatch idle" aria-hidden="true" /> idle</span>
        <span>dashed: rows go to other tasks</span>
        <span>±: rows come and go</span>
      </p>
    </div>
  );
}

const ZOOM_STEP = 1.5;
const ZOOM_MIN = 0.2;

interface NodeProps {
  place: Placed<NodeView>;
  operator: OperatorView | undefined;
  job: JobView;
  chosen: boolean;
  choose: (id: string | undefined) => void;
  lit: boolean;
  point: (how: How, id: string | undefined) => void;
}

function Node({ place, operator, job, chosen, choose, lit, point }: NodeProps) {
  const { node, x, y, width, height } = place;
  const heat = operator ? temper(operator) : "";
  return (
    <button
      type="button"
      class={`node ${node.kind === "exchange" ? "exchange" : ""} ${heat} ${lit ? "lit" : ""}`}
      style={{ left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` }}
      aria-pressed={chosen}
      aria-label={`${node.id}: ${node.text}. ${operator ? `${sharesText(operator)}, ${flow(operator)}` : "nothing is told of it"}`}
      title={node.text}
      onClick={() => choose(chosen ? undefined : node.id)}
      onMouseEnter={() => point("mouse", node.id)}
      onMouseLeave={() => point("mouse", undefined)}
      onFocus={() => point("focus", node.id)}
      onBlur={() => point("focus", undefined)}
    >
      <span class="kind">
        <b>{node.kind}</b> {label(node)}
        {node.kind !== "exchange" && job.parallelism > 1 && <span class="soft"> ×{count(job.parallelism)}</span>}
      </span>
      {node.kind !== "exchange" && <span class="what">{node.text}</span>}
      {operator && (
        <>
          <Shares operator={operator} />
          <span class="flow">{flow(operator)}</span>
        </>
      )}
    </button>
  );
}

/** What tells one of a kind from the others: a table's name, or the columns that rows are exchanged by. */
function label({ id, kind, text }: NodeView): string {
  if (kind === "exchange") return text;
  return kind === "source" || kind === "sink" ? id.slice(kind.length + 1) : "";
}

function flow(operator: OperatorView): string {
  const rows = operator.id.startsWith("sink-") ? operator.rows_in_per_second : operator.rows_out_per_second;
  const state = operator.state_bytes + operator.spilled_bytes;
  return `${rate(rows)} rows/s${state ? `, ${bytes(state)}` : ""}`;
}

/** What its colour says: it holds the others up, or is held up itself. */
function temper({ busy, blocked }: OperatorView): string {
  if (blocked >= 0.5) return "held";
  return busy >= 0.8 ? "hot" : busy >= 0.4 ? "warm" : "";
}
