// The dataflow as a graph, from the sources above to the sinks below. Its nodes are buttons; the table of operators below
// it says the same in words.

import dagre from "@dagrejs/dagre";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, count, counted, rate } from "../format";
import { Shares, sharesText } from "../parts/bars";
import type { JobView, NodeView, OperatorView } from "../types";

const NODE = { width: 236, height: 78 };
/** An exchange does little but pass rows on. */
const EXCHANGE = { width: 236, height: 60 };

/** More take a second and longer to place, and nobody finds their way among them. */
export const DRAWN_MAX = 150;

interface Placed {
  node: NodeView;
  x: number;
  y: number;
  width: number;
  height: number;
}

interface Edge {
  id: string;
  line: string;
  /** Rows go to other tasks. */
  exchanged: boolean;
  /** Rows come and go. */
  changes: boolean;
  middle: { x: number; y: number };
}

interface Layout {
  width: number;
  height: number;
  nodes: Placed[];
  edges: Edge[];
}

function layout(nodes: NodeView[]): Layout {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "TB", nodesep: 24, ranksep: 30, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  const known = new Map(nodes.map((node) => [node.id, node]));
  for (const node of nodes) graph.setNode(node.id, { ...(node.kind === "exchange" ? EXCHANGE : NODE) });
  for (const node of nodes) {
    node.inputs.forEach((input, at) => {
      if (known.has(input)) graph.setEdge(input, node.id, {}, String(at));
    });
  }
  dagre.layout(graph);

  const placed = nodes.map((node) => {
    const { x, y, width, height } = graph.node(node.id) as Omit<Placed, "node">;
    return { node, x: x - width / 2, y: y - height / 2, width, height };
  });
  const edges = graph.edges().map((edge): Edge => {
    const { points } = graph.edge(edge) as { points: { x: number; y: number }[] };
    const from = known.get(edge.v);
    return {
      id: `${edge.v} ${edge.w} ${edge.name ?? ""}`,
      line: smooth(points),
      exchanged: from?.kind === "exchange",
      changes: from?.changes ?? false,
      middle: points[Math.floor(points.length / 2)] ?? { x: 0, y: 0 },
    };
  });
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return { width, height, nodes: placed, edges };
}

/** A line through all points, bent in the middle of each two. */
function smooth(points: { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let before = first;
  let line = `M${first.x} ${first.y}`;
  for (const point of rest) {
    const y = (before.y + point.y) / 2;
    line += ` C${before.x} ${y} ${point.x} ${y} ${point.x} ${point.y}`;
    before = point;
  }
  return line;
}

interface Props {
  nodes: NodeView[];
  job: JobView;
  chosen: string | undefined;
  choose: (id: string | undefined) => void;
}

export function Graph({ nodes, job, chosen, choose }: Props) {
  // The shape is the same in every answer; placing hundreds of nodes each second would be felt.
  const shape = nodes.map((node) => `${node.id} ${node.kind} ${node.changes} ${node.inputs.join(" ")}`).join("\n");
  const { width, height, nodes: placed, edges } = useMemo(() => layout(nodes), [shape]);
  const operators = new Map(job.operators.map((operator) => [operator.id, operator]));
  const box = useRef<HTMLDivElement>(null);
  const [zoom, setZoom] = useState(1);
  // One sees a source first, also where the graph is wider than there is room.
  useEffect(() => {
    const first = placed[0];
    if (box.current && first) box.current.scrollLeft = (first.x + first.width / 2) * zoom - box.current.clientWidth / 2;
  }, [shape, zoom]);
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
              <g key={edge.id} class={edge.exchanged ? "exchanged" : undefined}>
                <path d={edge.line} marker-end="url(#arrow)" />
                {edge.changes && (
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
  place: Placed;
  operator: OperatorView | undefined;
  job: JobView;
  chosen: boolean;
  choose: (id: string | undefined) => void;
}

function Node({ place, operator, job, chosen, choose }: NodeProps) {
  const { node, x, y, width, height } = place;
  const heat = operator ? temper(operator) : "";
  return (
    <button
      type="button"
      class={`node ${node.kind === "exchange" ? "exchange" : ""} ${heat}`}
      style={{ left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` }}
      aria-pressed={chosen}
      aria-label={`${node.id}: ${node.text}. ${operator ? `${sharesText(operator)}, ${flow(operator)}` : "nothing is told of it"}`}
      title={node.text}
      onClick={() => choose(chosen ? undefined : node.id)}
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
