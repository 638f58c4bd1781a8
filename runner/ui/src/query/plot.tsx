// The rows of a query as lines or bars, over one of their columns.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { count, figure } from "../format";
import { textOf } from "../parts/values";
import { axisOf, colours, DASHES, LOOKS_MAX, tickText, useDark } from "../views/curve";
import type { Row, Value } from "./result";
import { isNumber, isTime } from "./types";

export interface Choice {
  kind: string;
  x: string;
  ys: string[];
}

const HEIGHT = 300;

/** More bars are too thin to be told apart. */
const BARS_MAX = 60;

/** The part of a bar's place that it takes. */
const BAR_SHARE = 0.8;

/** What one would choose: time, or a name, below; numbers upwards. */
export function choiceOf(columns: string[], types: string[], chosen: Partial<Choice>): Choice {
  const x = chosen.x !== undefined && columns.includes(chosen.x) ? chosen.x : (columns[usual(types)] ?? "");
  const numbers = columns.filter((name, at) => isNumber(types[at]) && name !== x);
  const ys = (chosen.ys ?? []).filter((name) => numbers.includes(name));
  const type = types[columns.indexOf(x)];
  return { kind: chosen.kind ?? (isTime(type) || isNumber(type) ? "line" : "bar"), x, ys: ys.length ? ys.slice(0, LOOKS_MAX) : numbers.slice(0, 1) };
}

function usual(types: string[]): number {
  const time = types.findIndex(isTime);
  if (time >= 0) return time;
  const name = types.findIndex((type) => !isNumber(type));
  return Math.max(name, 0);
}

/** Event time is kept in UTC, and written without a zone. */
function secondsOf(value: Value): number | undefined {
  const text = String(value);
  const at = Date.parse(/[zZ]$|[+-]\d\d:?\d\d$/.test(text) ? text : text.includes("T") ? `${text}Z` : text);
  return Number.isNaN(at) ? undefined : at / 1000;
}

interface Drawn {
  data: uPlot.AlignedData;
  /** At whole places; none where `x` is a number or a time. */
  names: string[];
  n_left_out: number;
}

function drawn(rows: Row[], columns: string[], types: string[], { kind, x, ys }: Choice): Drawn {
  const at = columns.indexOf(x);
  const type = types[at];
  const named = kind === "bar" || !(isTime(type) || isNumber(type));
  const values = ys.map((name) => columns.indexOf(name));
  const number = (value: Value | undefined) => (value === null || value === undefined ? null : Number(value));
  if (!named) {
    const points = rows.flatMap(({ cells }) => {
      const value = cells[at] ?? null;
      const place = value === null ? undefined : isTime(type) ? secondsOf(value) : Number(value);
      return place === undefined ? [] : [{ place, ys: values.map((index) => number(cells[index])) }];
    });
    points.sort((a, b) => a.place - b.place);
    return { data: [points.map(({ place }) => place), ...ys.map((_, of) => points.map(({ ys }) => ys[of] ?? null))], names: [], n_left_out: 0 };
  }
  const shown = kind === "bar" ? rows.slice(0, BARS_MAX) : rows;
  const names = shown.map(({ cells }) => (cells[at] === null || cells[at] === undefined ? "NULL" : textOf(cells[at])));
  const each = shown.map((_, place) => place);
  if (kind !== "bar" || ys.length < 2) return { data: [each, ...values.map((index) => shown.map(({ cells }) => number(cells[index])))], names, n_left_out: rows.length - shown.length };
  // Bars of several columns stand beside each other.
  const beside = (of: number) => ((of - (ys.length - 1) / 2) * BAR_SHARE) / ys.length;
  const tables = values.map((index, of): uPlot.AlignedData => [each.map((place) => place + beside(of)), shown.map(({ cells }) => number(cells[index]))]);
  return { data: uPlot.join(tables), names, n_left_out: rows.length - shown.length };
}

interface Props {
  rows: Row[];
  columns: string[];
  types: string[];
  choice: Choice;
  choose: (choice: Partial<Choice>) => void;
}

export function Plot(props: Props) {
  const { columns, types, choice, choose } = props;
  const numbers = columns.filter((name, at) => isNumber(types[at]) && name !== choice.x);
  const toggle = (name: string, on: boolean) => choose({ ys: on ? [...choice.ys, name] : choice.ys.filter((other) => other !== name) });
  return (
    <>
      <div class="controls">
        <label>
          As{" "}
          <select value={choice.kind} onChange={(event) => choose({ kind: event.currentTarget.value })}>
            <option value="line">lines</option>
            <option value="bar">bars</option>
          </select>
        </label>
        <label>
          Over{" "}
          <select value={choice.x} onChange={(event) => choose({ x: event.currentTarget.value })}>
            {columns.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <fieldset>
          <legend class="unseen">Columns that are drawn</legend>
          {numbers.slice(0, LOOKS_MAX).map((name) => (
            <label key={name}>
              <input type="checkbox" checked={choice.ys.includes(name)} disabled={choice.ys.length === 1 && choice.ys[0] === name} onChange={(event) => toggle(name, event.currentTarget.checked)} />{" "}
              {choice.ys.includes(name) && (
                <svg width="22" height="10" aria-hidden="true">
                  <line x1="0" y1="5" x2="22" y2="5" stroke={`var(--run-${choice.ys.indexOf(name)})`} stroke-width="3" stroke-dasharray={choice.kind === "line" ? (DASHES[choice.ys.indexOf(name)] ?? []).join(" ") : ""} />
                </svg>
              )}{" "}
              {name}
            </label>
          ))}
        </fieldset>
      </div>
      {numbers.length === 0 ? <p class="soft">There is no column of numbers to be drawn.</p> : <Lines {...props} />}
    </>
  );
}

function Lines({ rows, columns, types, choice }: Props) {
  const { kind, x, ys } = choice;
  const { data, names, n_left_out } = useMemo(() => drawn(rows, columns, types, choice), [rows, JSON.stringify([columns, types, choice])]);
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const labels = useRef(names);
  labels.current = names;
  const [at, setAt] = useState("");
  const dark = useDark();
  const time = names.length === 0 && kind === "line" && isTime(types[columns.indexOf(x)]);
  const named = kind === "bar" || names.length > 0;
  const shape = JSON.stringify([kind, x, ys, time, named, dark]);

  useEffect(() => {
    const parent = box.current;
    if (!parent) return;
    const colour = colours(parent);
    const axis = axisOf(colour);
    const nameAt = (place: number) => (Number.isInteger(place) ? clipped(labels.current[place] ?? "") : "");
    const bars = uPlot.paths.bars?.({ size: [BAR_SHARE / ys.length, 80], align: 0 });
    const made = new uPlot(
      {
        width: parent.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: kind === "line", y: false } },
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        scales: { x: { time, ...(named ? { range: (_, least, most) => [least - 0.6, most + 0.6] as [number, number] } : {}) }, y: kind === "bar" ? { range: (_, least, most) => [Math.min(0, least * 1.1), Math.max(0, most * 1.1) || 1] as [number, number] } : {} },
        series: [
          {},
          ...ys.map((name, look): uPlot.Series => {
            const stroke = colour(`--run-${look}`);
            return kind === "bar" && bars
              ? { label: name, stroke, fill: `${stroke}cc`, width: 0, paths: bars, points: { show: false } }
              : { label: name, stroke, width: 1.75, dash: DASHES[look] ?? [], points: { show: rows.length < 30 }, spanGaps: true };
          }),
        ],
        axes: [
          named ? { ...axis, size: 34, space: 70, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500], values: (_, ticks) => ticks.map(nameAt) } : time ? { ...axis, size: 34, space: 90, values: (_, ticks, __, ___, step) => ticks.map((tick, at) => timeText(tick, step, at === 0)) } : { ...axis, size: 34, values: (_, ticks) => ticks.map(tickText) },
          { ...axis, size: 62, values: (_, ticks) => ticks.map(tickText) },
        ],
        hooks: { setCursor: [(plot) => setAt(readout(plot, labels.current, x, time))] },
      },
      data,
      parent,
    );
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: parent.clientWidth, height: HEIGHT }));
    resized.observe(parent);
    return () => {
      resized.disconnect();
      plot.current = undefined;
      made.destroy();
    };
  }, [shape]);

  useEffect(() => plot.current?.setData(data), [data]);

  return (
    <figure class="chart">
      <div ref={box} role="img" aria-label={`${ys.join(", ")} over ${x}, ${count(rows.length)} rows; the table has the same`} />
      <p class="readout soft" aria-hidden="true">
        {at || "\u00a0"}
      </p>
      {n_left_out > 0 && <p class="soft">The first {count(BARS_MAX)} rows are drawn, {count(n_left_out)} are not.</p>}
    </figure>
  );
}

/** As finely as ticks are apart; the first one with its day. */
function timeText(seconds: number, step: number, first: boolean): string {
  const [day = "", clock = ""] = new Date(seconds * 1000).toISOString().split("T");
  if (step >= 86_400) return day;
  const short = step >= 60 ? clock.slice(0, 5) : step >= 1 ? clock.slice(0, 8) : clock.slice(0, 12);
  return first ? `${day} ${short}` : short;
}

const NAME_MAX = 14;

const clipped = (name: string) => (name.length > NAME_MAX ? `${name.slice(0, NAME_MAX - 1)}…` : name);

/** What stands under the cursor. */
function readout(plot: uPlot, names: string[], x: string, time: boolean): string {
  const at = plot.cursor.idx;
  const place = at === null || at === undefined || (plot.cursor.left ?? -1) < 0 ? undefined : plot.data[0][at];
  if (place === undefined) return "";
  const values = plot.series.slice(1).flatMap((series, index) => {
    const all = plot.data[index + 1];
    const column = plot.data[0];
    // Bars that stand beside each other are of one row.
    const of = names.length ? column.findIndex((other, at) => Math.round(other) === Math.round(place) && typeof all?.[at] === "number") : (at ?? -1);
    const y = all?.[of];
    return typeof y === "number" ? [`${String(series.label)} ${figure(y)}`] : [];
  });
  const where = names.length ? (names[Math.round(place)] ?? "") : time ? new Date(place * 1000).toISOString().replace(/\.000Z$/, "Z") : figure(place);
  return `${x} ${where}: ${values.join(", ")}`;
}
