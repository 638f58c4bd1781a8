// The network of a model as a graph: what it reads above, what it answers below.

import { useMemo } from "preact/hooks";
import { count } from "../format";
import type { ManifestView, ModelDetail } from "../types";
import { layout } from "./layout";

interface Part {
  id: string;
  kind: string;
  text: string;
  inputs: string[];
  /** Of one row; none where nothing tells. */
  shape: number[] | undefined;
  parameters: number | undefined;
}

/** As settings of it are told: `units 64, activation relu`. */
function settings(of: Record<string, unknown>): string {
  return Object.entries(of)
    .filter(([, value]) => value !== null && value !== false && value !== "none")
    .map(([name, value]) => (value === true ? name : `${name} ${Array.isArray(value) ? value.join("×") : String(value)}`))
    .join(", ");
}

/** Of `model.json`, which does not tell shapes. A layer without inputs reads the one before it. */
function partsOf({ layers = [], preprocessing, output, outputs }: ManifestView): Part[] {
  const unknown = { shape: undefined, parameters: undefined };
  const inputs = preprocessing?.inputs?.map(({ input }): Part => {
    const { kind = "input", ...rest } = input.step ?? {};
    const n = input.columns?.length ?? 0;
    return { id: input.name, kind: String(kind), text: [settings(rest), n ? `${count(n)} column${n === 1 ? "" : "s"}` : ""].filter(Boolean).join(", "), inputs: [], ...unknown };
  }) ?? [];
  let before = inputs[0]?.id;
  const nodes = layers.map(({ name, inputs: from = [], layer }): Part => {
    const [kind = "layer", own = {}] = typeof layer === "string" ? [layer] : (Object.entries(layer)[0] ?? []);
    const reads = from.length ? from : before === undefined ? [] : [before];
    before = name;
    return { id: name, kind, text: settings(own as Record<string, unknown>), inputs: reads, ...unknown };
  });
  const last = output ? [] : [{ id: "output", kind: "dense", text: outputs === undefined ? "" : `units ${outputs}`, inputs: before === undefined ? [] : [before], ...unknown }];
  return [...inputs, ...nodes, ...(layers.length ? last : [])];
}

const BOX = { width: 220, height: 48 };
/** With what is known of its shape and parameters. */
const TOLD = { width: 220, height: 66 };

/** More take too long to place; the file of the model has them all. */
const DRAWN_MAX = 150;

export function Network({ detail }: { detail: ModelDetail }) {
  const { graph, manifest } = detail;
  const parts = useMemo((): Part[] => graph?.nodes ?? partsOf(manifest), [graph, manifest]);
  const shape = JSON.stringify(parts);
  const placed = useMemo(() => (parts.length <= DRAWN_MAX ? layout(parts, (part) => (told(part) ? TOLD : BOX)) : undefined), [shape]);
  if (parts.length === 0) return null;
  return (
    <>
      <h2>Network</h2>
      {graph && <p>{count(graph.parameters)} parameters in all.</p>}
      {placed ? (
        <div class="graph network" role="region" aria-label="The network, from its inputs to its output" tabIndex={0}>
          <div class="canvas" style={{ width: `${placed.width}px`, height: `${placed.height}px` }}>
            <svg width={placed.width} height={placed.height} aria-hidden="true">
              <defs>
                <marker id="network-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
                  <path d="M0 0L8 4L0 8z" />
                </marker>
              </defs>
              {placed.edges.map(({ id, line }) => (
                <path key={id} d={line} marker-end="url(#network-arrow)" />
              ))}
            </svg>
            <ul>
              {placed.nodes.map(({ node, x, y, width, height }) => (
                <li key={node.id} class="node" style={{ left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` }} title={node.text}>
                  <span class="kind">
                    <b>{node.kind}</b> {node.id}
                  </span>
                  <span class="what">{node.text}</span>
                  {told(node) && <span class="flow">{told(node)}</span>}
                </li>
              ))}
            </ul>
          </div>
        </div>
      ) : (
        <p>Its {count(parts.length)} layers are too many to be drawn; its file below has them all.</p>
      )}
    </>
  );
}

function told({ shape, parameters }: Part): string {
  return [shape ? `[${shape.join(", ")}]` : "", parameters ? `${count(parameters)} parameters` : ""].filter(Boolean).join(", ");
}
