// Where the nodes of a graph are drawn, so that its edges lead downwards.

import dagre from "@dagrejs/dagre";

export interface Size {
  width: number;
  height: number;
}

export interface Placed<N> extends Size {
  node: N;
  x: number;
  y: number;
}

export interface Edge {
  id: string;
  from: string;
  /** A path of SVG. */
  line: string;
  middle: Point;
}

interface Point {
  x: number;
  y: number;
}

export interface Layout<N> extends Size {
  nodes: Placed<N>[];
  edges: Edge[];
}

export function layout<N extends { id: string; inputs: string[] }>(nodes: N[], sizeOf: (node: N) => Size): Layout<N> {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "TB", nodesep: 24, ranksep: 30, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  const known = new Set(nodes.map(({ id }) => id));
  for (const node of nodes) graph.setNode(node.id, { ...sizeOf(node) });
  for (const node of nodes) {
    node.inputs.forEach((input, at) => {
      if (known.has(input)) graph.setEdge(input, node.id, {}, String(at));
    });
  }
  dagre.layout(graph);

  const placed = nodes.map((node) => {
    const { x, y, width, height } = graph.node(node.id) as Point & Size;
    return { node, x: x - width / 2, y: y - height / 2, width, height };
  });
  const edges = graph.edges().map((edge): Edge => {
    const { points } = graph.edge(edge) as { points: Point[] };
    return { id: `${edge.v} ${edge.w} ${edge.name ?? ""}`, from: edge.v, line: smooth(points), middle: points[Math.floor(points.length / 2)] ?? { x: 0, y: 0 } };
  });
  const { width = 0, height = 0 } = graph.graph() as Partial<Size>;
  return { width, height, nodes: placed, edges };
}

/** A line through all points, bent in the middle of each two. */
function smooth(points: Point[]): string {
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
