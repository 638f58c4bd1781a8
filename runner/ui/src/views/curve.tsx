// Curves of several runs over one axis, drawn by uPlot.

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { count, figure } from "../format";

export interface Curve {
  name: string;
  /** Which colour and which dashes it has: the same in every chart. */
  look: number;
  /** By rising x. */
  points: [x: number, y: number][];
}

/** Beside colour, so that curves are told apart without it. */
export const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [14, 4], [5, 2], [1, 4], [12, 2, 2, 2, 2, 2]];

export const LOOKS_MAX = DASHES.length;

const HEIGHT = 220;

interface Props {
  title: string;
  curves: Curve[];
  /** "step" or "s" since the run's start. */
  unit: string;
  /** From 0, as it is, to 1. */
  smoothing: number;
  logarithmic: boolean;
  /** For amounts, whose small changes should look small. */
  fromZero?: boolean;
  height?: number;
}

/** A moving average that forgets by `weight`; of the first points it is the mean, not a pull towards 0. */
export function smoothed(points: [number, number][], weight: number): [number, number][] {
  let sum = 0;
  let held = 0;
  return points.map(([x, y]) => {
    sum = sum * weight + (1 - weight) * y;
    held = held * weight + (1 - weight);
    return [x, sum / held];
  });
}

const column = (points: [number, number][]): uPlot.AlignedData => [points.map(([x]) => x), points.map(([, y]) => y)];

function join(curves: Curve[], smoothing: number): uPlot.AlignedData {
  const tables = curves.flatMap(({ points }) => (smoothing > 0 ? [column(points), column(smoothed(points, smoothing))] : [column(points)]));
  return uPlot.join(tables);
}

export function Chart({ title, curves, unit, smoothing, logarithmic, fromZero = false, height = HEIGHT }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const [at, setAt] = useState("");
  const dark = useDark();
  // A logarithm of what is not above 0 does not exist; such a chart stays as it is.
  const log = logarithmic && curves.every(({ points }) => points.every(([, y]) => y > 0));
  const shape = JSON.stringify([curves.map(({ name, look }) => [name, look]), unit, smoothing > 0, log, dark]);

  useEffect(() => {
    const parent = box.current;
    if (!parent) return;
    const colour = colours(parent);
    const axis = axisOf(colour);
    const line = (curve: Curve, faint: boolean): uPlot.Series => ({
      label: curve.name,
      stroke: colour(`--run-${curve.look}`) + (faint ? "55" : ""),
      width: faint ? 1 : 1.75,
      dash: faint ? [] : (DASHES[curve.look] ?? []),
      points: { show: curve.points.length === 1 },
      spanGaps: true,
    });
    const drawn = new uPlot(
      {
        width: parent.clientWidth || 300,
        height,
        legend: { show: false },
        cursor: { sync: { key: "runs" }, drag: { x: true, y: false } },
        scales: { x: { time: false }, y: log ? { distr: 3 } : fromZero ? { range: (_, __, most) => [0, most * 1.1 || 1] } : {} },
        series: [{}, ...curves.flatMap((curve) => (smoothing > 0 ? [line(curve, true), line(curve, false)] : [line(curve, false)]))],
        axes: [{ ...axis, size: 34 }, { ...axis, size: 62, values: (_, ticks) => ticks.map(tickText) }],
        hooks: { setCursor: [(plot) => setAt(readout(plot, unit))] },
      },
      join(curves, smoothing),
      parent,
    );
    plot.current = drawn;
    const resized = new ResizeObserver(() => drawn.setSize({ width: parent.clientWidth, height }));
    resized.observe(parent);
    return () => {
      resized.disconnect();
      plot.current = undefined;
      drawn.destroy();
    };
  }, [shape]);

  useEffect(() => plot.current?.setData(join(curves, smoothing)), [curves, smoothing]);

  return (
    <figure class="chart">
      <figcaption>
        {title} <span class="soft">by {unit === "step" ? "step" : "seconds"}</span>
      </figcaption>
      <div ref={box} role="img" aria-label={`${title}: ${curves.map(spoken).join("; ")}`} />
      <p class="readout soft" aria-hidden="true">
        {at || "\u00a0"}
      </p>
    </figure>
  );
}

/** A curve in words. */
function spoken({ name, points }: Curve): string {
  const first = points[0];
  const last = points[points.length - 1];
  if (!first || !last) return `${name} has no values`;
  return `${name} goes from ${figure(first[1])} to ${figure(last[1])} over ${count(points.length)} points`;
}

/** What stands under the cursor. */
function readout(plot: uPlot, unit: string): string {
  const at = plot.cursor.idx;
  if (at === null || at === undefined || (plot.cursor.left ?? -1) < 0) return "";
  const x = plot.data[0][at];
  if (x === undefined) return "";
  const values = plot.series.slice(1).flatMap((series, index) => {
    const y = plot.data[index + 1]?.[at];
    // With smoothing each run has two; the second, smoothed one is what is read.
    const isRaw = plot.series[index + 2]?.label === series.label;
    return y === null || y === undefined || isRaw ? [] : [`${String(series.label)} ${figure(y)}`];
  });
  return `${unit === "step" ? `step ${count(x)}` : `${figure(x)} s`}: ${values.join(", ")}`;
}

/** What the page's styles say at this place, in its light or its dark. */
export const colours = (place: HTMLElement) => (name: string) => getComputedStyle(place).getPropertyValue(name).trim();

export const axisOf = (colour: (name: string) => string): uPlot.Axis => ({
  stroke: colour("--soft"),
  grid: { stroke: colour("--line"), width: 1 },
  ticks: { stroke: colour("--line"), width: 1 },
  font: "11px system-ui",
});

export function tickText(tick: number | null): string {
  if (tick === null) return "";
  const size = Math.abs(tick);
  return size >= 1e6 ? short.format(tick) : size >= 1000 ? count(tick) : figure(tick);
}

/** `12.3M`: an axis has little room. */
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

export function useDark(): boolean {
  const [query] = useState(() => matchMedia("(prefers-color-scheme: dark)"));
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const changed = () => setDark(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, [query]);
  return dark;
}
