// How a stream went since its view was opened: the API tells only how it is now.

import { useEffect, useState } from "preact/hooks";
import type { JobView } from "../types";
import { Chart, type Curve } from "./curve";

interface Point {
  at_ms: number;
  rows_per_second: number;
  lag_s: number | null;
  state_mb: number;
}

/** Ten minutes, at one a second. */
const POINTS_MAX = 600;

const KINDS: { title: string; of: (point: Point) => number | null }[] = [
  { title: "rows in per second", of: ({ rows_per_second }) => rows_per_second },
  { title: "watermark lag, seconds", of: ({ lag_s }) => lag_s },
  { title: "state, MB", of: ({ state_mb }) => state_mb },
];

export function History({ job }: { job: JobView }) {
  const [points, setPoints] = useState<Point[]>([]);
  useEffect(() => {
    const { rows_per_second, watermark_lag_ms, state_bytes } = job.metrics;
    const lag_s = watermark_lag_ms === null ? null : watermark_lag_ms / 1000;
    const point = { at_ms: Date.now(), rows_per_second, lag_s, state_mb: state_bytes / 1e6 };
    setPoints((points) => [...points.slice(1 - POINTS_MAX), point]);
  }, [job]);
  const [first] = points;
  if (!first || points.length < 3) return null;
  const charts = KINDS.flatMap(({ title, of }) => {
    const line = points.flatMap((point): [number, number][] => {
      const y = of(point);
      return y === null ? [] : [[(point.at_ms - first.at_ms) / 1000, y]];
    });
    const curves: Curve[] = [{ name: job.id, look: 0, points: line }];
    return line.some(([, y]) => y !== 0) ? [{ title, curves }] : [];
  });
  if (charts.length === 0) return null;
  return (
    <>
      <h2>Since this view was opened</h2>
      <div class="charts small">
        {charts.map(({ title, curves }) => (
          <Chart key={title} title={title} curves={curves} unit="s" smoothing={0} logarithmic={false} fromZero height={130} />
        ))}
      </div>
    </>
  );
}
