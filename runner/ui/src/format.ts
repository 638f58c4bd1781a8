// Numbers, amounts and times as people read them. Every number has its unit.

import type { ResourcesView } from "./types";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export const count = (value: number) => whole.format(value);

/** `1 task`, `2,000 tasks`. */
export const counted = (n: number, noun: string) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/** A rate: few of them with their fraction, many without. */
export function rate(perSecond: number): string {
  return perSecond !== 0 && Math.abs(perSecond) < 10 ? perSecond.toFixed(1) : whole.format(perSecond);
}

export function percent(share: number): string {
  const value = share * 100;
  return value > 0 && value < 1 ? "< 1 %" : `${value.toFixed(0)} %`;
}

/** As `text_of_bytes` of the runner says it. */
export function bytes(value: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return at === 0 ? `${value} B` : `${value.toFixed(1)} ${units[at]}`;
}

export function duration(ms: number): string {
  if (ms < 0) return `-${duration(-ms)}`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

const pad = (value: number) => String(value).padStart(2, "0");

export function clock(ms: number): string {
  const at = new Date(ms);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** The day too, unless it is today. */
export function moment(ms: number): string {
  const at = new Date(ms);
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return at.toDateString() === new Date().toDateString() ? clock(ms) : `${day} ${clock(ms)}`;
}

/** Event time, which streams keep in UTC. */
export const eventTime = (ms: number) => new Date(ms).toISOString().replace("T", " ").replace(/\.000Z$|Z$/, " UTC");

/** A loss, a metric or a learning rate. */
export function figure(value: number | null | undefined): string {
  if (value == null) return "";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** An amount of a resource; those kept in MiB say so. */
export function amount(name: string, value: number): string {
  if (!/^(mem|disk)(:|$)/.test(name)) return short.format(value);
  return value >= 1024 ? `${short.format(value / 1024)} GiB` : `${short.format(value)} MiB`;
}

export const amounts = (held: Record<string, number>) =>
  Object.entries(held)
    .map(([name, value]) => `${name} ${amount(name, value)}`)
    .join(", ");

export const resources = (view: ResourcesView) =>
  [amounts(view.scalars), view.n_ports ? `${counted(view.n_ports, "port")}` : ""].filter(Boolean).join(", ");
