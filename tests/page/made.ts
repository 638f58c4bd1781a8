// Answers of the API that no small machine gives: thousands of tasks, hundreds of agents, and names that are HTML.

export const TAG = `<img src=x onerror="window.hit=1"><b>bold</b>`;

export const metrics = {
  rows_in: 0, rows_out: 0, rows_late: 0, rows_bad: 0, rows_per_second: 0, watermark_ms: null, watermark_lag_ms: null,
  state_bytes: 0, restore_bytes: null, restored_bytes: null, checkpoint_epoch: null, checkpoint_age_ms: null, checkpoint_bytes: null, checkpoint_bytes_written: null,
  step: 0, steps_total: 0, loss: null, metric: null, metric_name: "", model_version: null,
};

const numbers = (n: number) => Array.from({ length: n }, (_, at) => at);

export function task(job: string, index: number, change: object = {}) {
  return {
    id: `${job.replace("/", ".")}.1.${index}.0badcafe`, job, kind: "stream", index, member: "", generation: 1, agent: `agent-${index % 500}`,
    offer: `o-1-${index}`, state: "running", reason: "", message: "", rows_in: index * 1000, rows_out: index, ...change,
  };
}

export function job(id: string, change: object = {}) {
  const [group, name] = id.split("/");
  return {
    id, group, name, kind: "stream", role: "default", state: "running", generation: 1, restarts: 0, parallelism: 1, why: `${id} runs`,
    submitted_ms: 1_790_000_000_000, metrics, operators: [], tasks: [], models: {}, events: [], ...change,
  };
}

/** A dataflow of `n` branches that are joined one by one; every other one takes back what it said. */
export function dataflow(n: number) {
  const source = { id: "source-a", kind: "source", text: `kafka ${TAG}`, inputs: [] as string[], changes: false };
  const nodes = [source];
  let last = source.id;
  for (const at of numbers(n)) {
    nodes.push(
      { id: `exchange-${at}`, kind: "exchange", text: `by column_${at}`, inputs: [source.id], changes: false },
      { id: `group-${at}`, kind: "group", text: `count(*) by column_${at}`, inputs: [`exchange-${at}`], changes: at % 2 === 0 },
      { id: `join-${at}`, kind: "join", text: "inner", inputs: [last, `group-${at}`], changes: true },
    );
    last = `join-${at}`;
  }
  nodes.push({ id: "sink-b", kind: "sink", text: "blackhole b", inputs: [last], changes: true });
  return { file: `${TAG}.sql`, text: `SELECT '${TAG}';`, nodes };
}

/** The text that it was made from, a line for each operator; the last one was made from all of them. */
export function linked(flow: ReturnType<typeof dataflow>) {
  const { file, nodes } = flow;
  const text = nodes.map(({ id }) => `-- ${id} of '${TAG}'`).join("\n");
  return { file, text, nodes: nodes.map((node, at) => ({ ...node, lines: at === nodes.length - 1 ? [[1, nodes.length]] : [[at + 1, at + 1]] })) };
}

export const operators = (flow: ReturnType<typeof dataflow>, share = 1) =>
  flow.nodes.map(({ id, kind }, at) => ({
    id, busy: (at % 10) / 10, blocked: at % 3 === 0 ? 1 - (at % 10) / 10 : 0, idle: 0.05, rows_in_per_second: at * 100, rows_out_per_second: at * 90,
    state_bytes: kind === "group" ? at * 1e6 : 0, spilled_bytes: kind === "group" ? at * 1e7 : 0,
    splits: kind === "source" ? numbers(500 * share).map((split) => ({ name: `${TAG}/${split}`, rows_per_second: split, behind: split * 10 })) : [],
    lookups_per_second: 0, cache_hits: 0,
  }));

const held = (cpus: number, n_ports = 0) => ({ scalars: { cpus, mem: cpus * 1024, disk: cpus * 10_240 }, n_ports });

export const agents = (n: number) =>
  numbers(n).map((at) => ({
    id: `agent-${at}`, host: `10.0.${at >> 8}.${at & 255}`, state: ["active", "active", "active", "draining", "unreachable", "drained"][at % 6],
    attributes: { zone: `z${at % 3}`, rack: at === 0 ? TAG : `r${at % 40}`, isolation: "cgroup2" },
    total: held(64, 1000), free: held(40, 990), offered: held(8, 0), used: held(16, 10), heard_ms_ago: at, n_tasks: 4,
    used_by_role: at % 7 === 1 ? {} : { [at === 0 ? TAG : `team-${at % 10}`]: held(10, 6), [`team-${(at + 1) % 10}`]: held(6, 4) },
  }));

const STATES = ["accepted", "declined", "expired", "rescinded", "outstanding"];

export const cluster = (share = 1) => ({
  leader_epoch: 23,
  agents: agents(500 * share),
  frameworks: numbers(Math.max(3, 40 * share)).map((at) => ({ id: `f-1-${at}`, name: at === 0 ? TAG : `framework-${at}`, role: `team-${at % 8}`, connected: at % 7 !== 0, dominant_share: at / 80, waiting: at % 5 === 0 ? numbers(60).map((n) => `needs ${n} tasks`) : [] })),
  offers: numbers(2000 * share).map((at) => ({ id: `o-23-${at}`, agent: `agent-${at % 500}`, framework: "f-1-1", framework_name: at === 2000 * share - 1 ? TAG : "framework-1", state: STATES[at % 5], resources: held(4, 10), made_ms_ago: at * 50, refused_for_s: at % 5 === 1 ? 5 : null, tasks: at % 5 === 0 ? numbers(at === 0 ? 40 : 1).map((n) => `task.${at}.${n}`) : [] })),
  roles: numbers(Math.max(3, 30 * share)).map((at) => ({ role: at === 0 ? TAG : `team-${at}/sub`, weight: 1 + at, dominant_share: at / 30, held: { cpus: at * 10, mem: at * 1024 }, guarantee: at % 2 ? { cpus: 100 } : {}, limit: at % 3 ? {} : { cpus: 200, mem: 1024 }, n_frameworks: 2 })),
});

/** 2,000 tasks in one job, and 2,000 more in 400 others; or a share of them. */
export function many(share = 1) {
  const flow = dataflow(Math.max(2, 30 * share));
  const large = job("large/large", {
    parallelism: 2000 * share,
    tasks: numbers(2000 * share).map((index) => task("large/large", index, index === 2000 * share - 1 ? { state: "failed", message: TAG } : {})),
    operators: operators(flow, share),
    metrics: { ...metrics, rows_in: 1e12, rows_per_second: 12_345_678, watermark_ms: 1_790_000_000_000, watermark_lag_ms: 4321, checkpoint_epoch: 7, checkpoint_age_ms: 900 },
    events: numbers(500 * share).map((at) => ({ at_ms: 1_790_000_000_000 + at, level: at % 9 ? "info" : "error", text: at % 9 ? `event ${at} ${TAG}` : `checkpoint ${at} failed: the disk is full ${TAG}` })),
  });
  const others = numbers(400 * share).map((at) => {
    const id = `group${at % 50}/job${at}`;
    return job(id, { parallelism: 5, state: at % 10 ? "running" : "failed", why: at % 10 ? "" : `failed: ${TAG}`, tasks: numbers(5).map((index) => task(id, index)) });
  });
  return { jobs: [large, ...others], large, flow };
}

/** A job whose every text is HTML. */
export function hostile() {
  const flow = dataflow(2);
  const id = `${TAG.replace("/", "")}/${TAG.replace("/", "")}`;
  return {
    flow,
    job: job("hostile/hostile", {
      name: TAG, group: TAG, role: TAG, why: TAG, state: "failed", models: { [TAG]: 3 }, operators: operators(flow),
      tasks: [task("hostile/hostile", 0, { member: TAG, message: TAG, agent: TAG, state: "failed" })],
      events: [{ at_ms: 1_790_000_000_000, level: "error", text: TAG }],
    }),
    listed: job(id, { state: "failed", why: TAG }),
  };
}

/** What a classification of `n` took for what; of two classes with the scores. */
export function judged(n: number) {
  const confusion = numbers(n).map((truth) => numbers(n).map((guess) => (truth === guess ? 900 - truth : (truth * 7 + guess * 3) % 5)));
  return {
    classes: numbers(n).map((at) => (at === 0 ? TAG : String(at))), confusion, rows: confusion.flat().reduce((sum, more) => sum + more, 0),
    scores: n === 2 ? { edges: numbers(11).map((at) => at / 10), negative: numbers(10).map((at) => 900 - at * 90), positive: numbers(10).map((at) => at * at * 10) } : null,
  };
}

export function run(id: string, change: object = {}, n = 400) {
  const bend = 10 + 7 * Number(id.split("-")[1]);
  const points = numbers(n).map((at) => ({
    at_ms: 1_790_000_000_000 + at * 1000, step: at * 10, steps_total: n * 10, epoch: 1 + Math.floor(at / 100), loss: 2 / (1 + at / bend) + 0.05 * Math.sin(at * 7 + bend),
    metric: at % 50 === 0 ? 0.5 + at / (900 + bend) : null, metric_name: "accuracy", learning_rate: 0.01 / (1 + at / bend), rows_per_second: 10_000 + 500 * Math.sin(at / 3),
  }));
  return {
    evaluation: judged(10),
    run: {
      id, job: "made/made", model: "made", submission: "0badcafe", workers: 2, settings: { seed: id, optimizer: "adam", [TAG]: `${TAG} ${id}` }, started_ms: 1_790_000_000_000,
      ended_ms: null, outcome: "running", error: null, versions: [], last: points[points.length - 1], evaluation: null, stride: 1, ...change,
    },
    points,
    evaluations: numbers(4).map((at) => ({ at_ms: 1_790_000_000_000 + at * 100_000, step: at * 1000, epoch: at + 1, metrics: { auc: 0.8 + at / 50 } })),
  };
}

const trial = (number: number) => ({
  number, job: `sweep/trial-${number}`, run: number < 10 ? `made-${number}` : null, settings: { "optimizer.learning_rate": String(number / 1000), note: TAG },
  state: number < 10 ? "done" : "waiting", rung: 4, metric: number / 100, metrics: [], generation: 1, error: number === 3 ? TAG : null,
});

export const sweep = {
  name: "search", file: "search.toml", model: "made", algorithm: "asha", state: "searching", text: `looks for the best ${TAG}`, n_trials: 100, n_waiting: 90,
  n_running: 0, n_paused: 0, n_done: 10, n_failed: 0, parallel: 4, rungs: [1, 4], metric_name: "accuracy", larger_is_better: true, best: trial(9), version: null,
  began_ms: 1_790_000_000_000, ended_ms: null,
};

export const sweepDetail = (share = 1) => ({ sweep, trials: numbers(Math.max(5, 100 * share)).map((at) => trial(at + 1)) });

export const schedules = (share = 1) => ({
  schedules: [
    {
      name: "nightly", cron: "0 3 * * *", zone: "Europe/Berlin", catch_up: "last", overlap: "skip", file: `${TAG}.toml`, group: "made", next_ms: 1_790_100_000_000, n_waiting: 1,
      history: numbers(Math.max(8, 60 * share)).map((at) => ({ planned_ms: 1_790_000_000_000 + at * 86_400_000, at_ms: 1_790_000_000_000 + at * 86_400_000, why: "time", outcome: at % 7 ? "finished" : "failed", text: TAG })),
    },
  ],
});

const model = (version: number) => ({
  model: "made", version, trained_through_us: 1_790_000_000_000_000, rows: 1_000_000, features: numbers(200).map((at) => `feature_${at}`), metrics: { auc: 0.9, loss: 0.1 },
  aliases: version === 7 ? ["production", TAG] : [], job: "made/made", created_us: 1_790_000_000_000_000, used_by: ["large/large"],
});

export const models = { models: numbers(8).map(model) };

export const modelDetail = {
  model: model(7),
  evaluation: judged(2),
  manifest: {
    preprocessing: { inputs: [{ input: { name: "numbers", columns: ["price", TAG], step: { kind: "normalize" } } }, { input: { name: "categories", columns: ["city", "device"], step: { kind: "hash", buckets: 4096 } } }] },
    layers: [
      { name: "wide", inputs: ["categories"], layer: { embedding: { vocabulary: 4096, units: 1, combine: "sum" } } },
      { name: "vectors", inputs: ["categories"], layer: { embedding: { vocabulary: 4096, units: 8, combine: "none" } } },
      { name: "flat", layer: "flatten" },
      { name: "joined", inputs: ["numbers", "flat"], layer: "concat" },
      { name: TAG, layer: { dense: { units: 32, activation: "relu", bias: true } } },
      { name: "all", inputs: ["wide", TAG], layer: "concat" },
    ],
    outputs: 1, lineage: { submission: "0badcafe", git_commit: "d".repeat(40), sql: `SELECT '${TAG}'` } },
  changes: [{ alias: "production", at_ms: 1_790_000_000_000, promoted: 7 }],
};

/** What a query may name. */
export const catalog = {
  tables: [
    { name: "payments", kind: "table", columns: [{ name: "id", type: "BIGINT" }, { name: "country", type: "VARCHAR" }, { name: "amount", type: "DOUBLE" }, { name: "at", type: "TIMESTAMP" }], key: ["id"], job: null },
    { name: "clicks", kind: "stream", columns: [{ name: "url", type: "VARCHAR" }, { name: "n", type: "BIGINT" }], key: [], job: "large/large" },
    { name: TAG, kind: "stream", columns: [{ name: TAG, type: "STRUCT<a BIGINT>" }], key: [TAG], job: "large/large" },
  ],
  functions: ["abs", "count", "sum", "tumble", "predict"],
  models: ["fraud", "made"],
};

/** Values of every kind, hostile ones among them. */
export const rows = (n: number) =>
  numbers(n).map((at) => ({
    id: at, country: at % 7 === 3 ? null : ["US", "DE", "GB", "FR"][at % 4], amount: at % 5 === 4 ? null : at * 1.25, at: `2026-01-01T00:${String(Math.floor(at / 60) % 60).padStart(2, "0")}:${String(at % 60).padStart(2, "0")}.123456`,
    note: at === 0 ? TAG : at === 1 ? "" : at === 2 ? "NULL" : at === 3 ? `a "quoted", text\nof two lines` : at === 4 ? "x".repeat(5000) : `note ${at}`, deep: at % 2 ? { a: [1, 2, { b: TAG }] } : null,
  }));

export const columns = { columns: ["id", "country", "amount", "at", "note", "deep"], types: ["BIGINT", "VARCHAR", "DOUBLE", "TIMESTAMP", "VARCHAR", "STRUCT<a VARCHAR>"] };

export const sample = { operator: "group-0", columns: ["op", ...columns.columns], types: ["VARCHAR", ...columns.types], rows: rows(20).map((row, at) => ({ op: at % 3 ? "+" : "-", ...row })), changes: true, waited_ms: 312 };

/** The lines of an answer that comes piece by piece. */
export const ndjson = (...said: object[]) => said.map((line) => `${JSON.stringify(line)}\n`).join("");

/** A hundredth is enough to see how each looks. */
export const FEW = 0.01;

/** All of it, as the API would say it. */
export function world(share = 1): Record<string, unknown> {
  const { jobs, large, flow } = many(share);
  const cursed = hostile();
  const runs = numbers(9).map((at) => run(`made-${at + 1}`, at === 0 ? {} : { ended_ms: 1_790_000_400_000, outcome: at % 4 ? "finished" : "failed", error: at % 4 ? null : TAG }));
  return {
    version: { version: "0.0.0", api: "v1" },
    jobs: { jobs: [...jobs, cursed.listed] },
    "jobs/large/large": large,
    "jobs/large/large/dataflow": linked(flow),
    "jobs/large/large/sample/group-0": sample,
    "jobs/large/large/sample/source-a": { ...sample, operator: "source-a", rows: [], waited_ms: 5000 },
    "sql/catalog": catalog,
    "why/large/large": { subject: "large/large", state: "running", sentence: `runs ${TAG}`, details: numbers(2000 * share).map((at) => `task ${at} runs`), events: [] },
    "savepoints/large/large": { checkpoints: numbers(3).map((at) => ({ job: "large/large", epoch: at + 5, name: at === 1 ? TAG : null, bytes: 1e9, bytes_written: 1e6, age_ms: 60_000 - at * 1000 })) },
    "jobs/hostile/hostile": cursed.job,
    "jobs/hostile/hostile/dataflow": cursed.flow,
    cluster: cluster(share),
    runs: { runs: runs.map(({ run }) => run) },
    ...Object.fromEntries(runs.map((detail) => [`runs/${detail.run.id}`, detail])),
    models,
    "models/made/7": modelDetail,
    sweeps: { sweeps: [sweep] },
    "sweeps/search": sweepDetail(share),
    schedules: schedules(share),
  };
}
