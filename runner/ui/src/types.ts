// What the API says: the types of `runner/src/view.rs`, as far as the page shows them.

import type { Value } from "./query/result";

export interface JobView {
  /** `group/name`. */
  id: string;
  group: string;
  name: string;
  kind: string;
  role: string;
  /** Among the jobs of its role. */
  priority?: number;
  state: string;
  generation: number;
  restarts: number;
  parallelism: number;
  why: string;
  submitted_ms: number;
  metrics: JobMetrics;
  operators: OperatorView[];
  tasks: TaskView[];
  models: Record<string, number>;
  events: EventView[];
}

export interface JobMetrics {
  rows_in: number;
  rows_out: number;
  rows_late: number;
  rows_bad: number;
  rows_per_second: number;
  watermark_ms: number | null;
  watermark_lag_ms: number | null;
  state_bytes: number;
  restore_bytes: number | null;
  restored_bytes: number | null;
  checkpoint_epoch: number | null;
  checkpoint_age_ms: number | null;
  checkpoint_bytes: number | null;
  checkpoint_bytes_written: number | null;
  step: number;
  steps_total: number;
  loss: number | null;
  metric: number | null;
  metric_name: string;
  model_version: number | null;
}

export interface OperatorView {
  id: string;
  busy: number;
  blocked: number;
  idle: number;
  rows_in_per_second: number;
  rows_out_per_second: number;
  state_bytes: number;
  spilled_bytes: number;
  splits: SplitView[];
  lookups_per_second: number;
  cache_hits: number;
}

export interface SplitView {
  name: string;
  rows_per_second: number;
  behind: number | null;
}

export interface TaskView {
  id: string;
  job: string;
  kind: string;
  index: number;
  member: string;
  generation: number;
  agent: string;
  offer: string;
  state: string;
  reason: string;
  message: string;
  rows_in: number;
  rows_out: number;
}

export interface EventView {
  at_ms: number;
  level: string;
  text: string;
}

export interface JobsView {
  jobs: JobView[];
}

export interface DataflowView {
  file: string;
  text: string;
  nodes: NodeView[];
}

export interface NodeView {
  id: string;
  kind: string;
  text: string;
  inputs: string[];
  /** Its rows come and go. */
  changes: boolean;
  /** Of the text, from 1: those that it was made from. */
  lines?: [from: number, to: number][];
}

/** Rows that have just left an operator. */
export interface SampleView {
  operator: string;
  columns: string[];
  types: string[];
  rows: Record<string, Value>[];
  changes: boolean;
  waited_ms: number;
}

/** What a query can name. */
export interface CatalogView {
  tables: TableInfo[];
  functions: string[];
  models: string[];
}

export interface TableInfo {
  name: string;
  /** "table", "view" or "stream". */
  kind: string;
  columns: { name: string; type: string }[];
  key: string[];
  /** That fills it. */
  job: string | null;
}

export interface Submitted {
  group: string;
  jobs: string[];
}

export interface CheckpointsView {
  checkpoints: CheckpointView[];
}

export interface CheckpointView {
  job: string;
  epoch: number;
  name: string | null;
  bytes: number;
  bytes_written: number;
  age_ms: number;
}

export interface WhyView {
  subject: string;
  state: string;
  sentence: string;
  details: string[];
  events: EventView[];
}

export interface ClusterView {
  leader_epoch: number;
  agents: AgentView[];
  frameworks: FrameworkView[];
  offers: OfferView[];
  roles: RoleView[];
  volumes?: VolumeView[];
}

/** A directory of an agent that outlives tasks. */
export interface VolumeView {
  name: string;
  role: string;
  agent: string;
  disk_mib: number;
  task: string | null;
  leaving: boolean;
}

export type Amounts = Record<string, number>;

export interface ResourcesView {
  scalars: Amounts;
  n_ports: number;
}

export interface AgentView {
  id: string;
  host: string;
  state: string;
  attributes: Record<string, string>;
  total: ResourcesView;
  free: ResourcesView;
  offered: ResourcesView;
  used: ResourcesView;
  /** By role; together they are what is used. */
  used_by_role?: Record<string, ResourcesView>;
  heard_ms_ago: number;
  n_tasks: number;
  drains_from_ms?: number | null;
  drained_by_ms?: number | null;
  drain_over_ms?: number | null;
  reserved?: ReservationView[];
  /** What of it nobody holds for whom it is, by role. */
  unfilled?: Record<string, Record<string, number>>;
}

export interface ReservationView {
  role: string;
  amounts: Record<string, number>;
  labels: Record<string, string>;
  by_agent: boolean;
}

export interface FrameworkView {
  id: string;
  name: string;
  role: string;
  connected: boolean;
  dominant_share: number;
  waiting: string[];
}

export interface OfferView {
  id: string;
  agent: string;
  framework: string;
  framework_name: string;
  state: string;
  resources: ResourcesView;
  made_ms_ago: number;
  tasks: string[];
  /** Of one that was declined: for how long nothing like it is to be offered again. */
  refused_for_s?: number | null;
}

export interface RoleView {
  role: string;
  weight: number;
  dominant_share: number;
  held: Amounts;
  guarantee: Amounts;
  limit: Amounts;
  n_frameworks: number;
}

export interface VersionView {
  version: string;
}

export interface RunsView {
  runs: RunView[];
}

export interface RunView {
  id: string;
  job: string;
  model: string;
  submission: string;
  workers: number;
  settings: Record<string, string>;
  started_ms: number;
  ended_ms: number | null;
  outcome: string;
  error: string | null;
  versions: number[];
  last: PointView;
  evaluation: EvaluationView | null;
}

export interface PointView {
  at_ms: number;
  step: number;
  steps_total: number;
  epoch: number;
  loss: number | null;
  metric: number | null;
  metric_name: string;
  learning_rate: number | null;
  rows_per_second: number;
}

export interface EvaluationView {
  at_ms: number;
  step: number;
  epoch: number;
  metrics: Record<string, number>;
}

export interface RunDetail {
  run: RunView;
  points: PointView[];
  evaluations: EvaluationView[];
  evaluation?: JudgedView | null;
}

/** How a classification did on the rows that were held out. */
export interface JudgedView {
  classes: string[];
  /** By truth, and in it by what was predicted. */
  confusion: number[][];
  scores: ScoresView | null;
  rows: number;
}

/** How many rows of each truth have a score between two edges. */
export interface ScoresView {
  edges: number[];
  negative: number[];
  positive: number[];
}

export interface ModelsView {
  models: ModelView[];
}

export interface ModelView {
  model: string;
  version: number;
  trained_through_us: number | null;
  rows: number;
  features: string[];
  metrics: Record<string, number>;
  aliases: string[];
  job: string;
  created_us: number;
  used_by: string[];
}

export interface ModelDetail {
  model: ModelView;
  manifest: ManifestView;
  changes: AliasChange[];
  evaluation?: JudgedView | null;
  graph?: ModelGraphView | null;
}

/** Of `model.json`, what is shown by itself. */
export interface ManifestView {
  lineage?: Record<string, unknown>;
  layers?: { name: string; inputs?: string[]; layer: string | Record<string, unknown> }[];
  preprocessing?: { inputs?: { input: { name: string; columns?: string[]; step?: Record<string, unknown> } }[] };
  output?: string | null;
  outputs?: number;
  loss?: unknown;
}

/** The network of a version, in the order in which it is computed. */
export interface ModelGraphView {
  nodes: { id: string; kind: string; text: string; inputs: string[]; shape: number[]; parameters: number }[];
  parameters: number;
}

export interface AliasChange {
  alias: string;
  at_ms: number;
  promoted?: number | null;
}

export interface SweepsView {
  sweeps: SweepView[];
}

export interface SweepView {
  name: string;
  file: string;
  model: string;
  algorithm: string;
  state: string;
  text: string;
  n_trials: number;
  n_waiting: number;
  n_running: number;
  n_paused: number;
  n_done: number;
  n_failed: number;
  parallel: number;
  metric_name: string;
  larger_is_better: boolean;
  best: TrialView | null;
  version: number | null;
  began_ms: number;
  ended_ms: number | null;
}

export interface SweepDetail {
  sweep: SweepView;
  trials: TrialView[];
}

export interface TrialView {
  number: number;
  job: string;
  run: string | null;
  settings: Record<string, string>;
  state: string;
  rung: number | null;
  metric: number | null;
  generation: number;
  error: string | null;
}

export interface SchedulesView {
  schedules: ScheduleView[];
}

export interface ScheduleView {
  name: string;
  cron: string;
  zone: string;
  catch_up: string;
  overlap: string;
  file: string;
  group: string;
  next_ms: number | null;
  n_waiting: number;
  history: FiredView[];
}

export interface FiredView {
  planned_ms: number;
  at_ms: number;
  why: string;
  outcome: string;
  text: string;
}
