// Trained models: each version with what it is worth, where it comes from, who uses it, and what it is called.

import { useMemo } from "preact/hooks";
import { count, eventTime, figure, moment } from "../format";
import { useLive } from "../live";
import { Action } from "../parts/action";
import { JobLink } from "../parts/jobs";
import { Judged } from "../parts/judged";
import { type Column, Table } from "../parts/table";
import { Figures, Nothing, View } from "../parts/view";
import { path, write } from "../read";
import { to } from "../route";
import type { AliasChange, ModelDetail, ModelsView, ModelView, RunsView } from "../types";
import { Network } from "./network";

const metricsText = (metrics: Record<string, number>) =>
  Object.entries(metrics)
    .map(([name, value]) => `${name} ${figure(value)}`)
    .join(", ");

const VersionLink = ({ of }: { of: ModelView }) => (
  <a href={to("models", of.model, String(of.version))}>
    {of.model} {of.version}
  </a>
);

const COLUMNS: Column<ModelView>[] = [
  { name: "version", cell: (of) => <VersionLink of={of} />, by: ({ version }) => version },
  { name: "aliases", cell: ({ aliases }) => aliases.map((alias) => <span key={alias} class="tag">{alias}</span>) },
  { name: "metrics", cell: ({ metrics }) => metricsText(metrics), text: true },
  { name: "rows", cell: ({ rows }) => count(rows), by: ({ rows }) => rows, number: true, wide: true },
  { name: "made", cell: ({ created_us }) => moment(created_us / 1000), by: ({ created_us }) => created_us },
  { name: "by", cell: ({ job }) => (job ? <JobLink id={job} /> : <span class="soft">taken over</span>) },
  { name: "used by", cell: ({ used_by }) => used_by.map((id) => <span key={id} class="item"><JobLink id={id} /></span>) },
];

export function Models() {
  const live = useLive<ModelsView>("models", 2000);
  const models = useMemo(
    () => live.value?.models.slice().sort((a, b) => (a.model < b.model ? -1 : a.model > b.model ? 1 : b.version - a.version)),
    [live.value],
  );
  return (
    <View title="Models">
      {models ? (
        <Table
          caption="Versions of models"
          rows={models}
          columns={COLUMNS}
          id={({ model, version }) => `${model} ${version}`}
          words={({ model, version, aliases, job }) => `${model} ${version} ${aliases.join(" ")} ${job}`}
          group={({ model }) => model}
          groupHead={(name, versions) => versions.length > 1 && name}
          empty="No model has been trained."
        />
      ) : (
        <Nothing live={live} />
      )}
    </View>
  );
}

const CHANGES: Column<AliasChange>[] = [
  { name: "when", cell: ({ at_ms }) => moment(at_ms) },
  { name: "alias", cell: ({ alias }) => alias },
  { name: "means", cell: ({ promoted }) => (promoted == null ? "what it meant before" : `version ${promoted}`) },
];

export function Model({ model, version }: { model: string; version: string }) {
  const live = useLive<ModelDetail>(path("models", model, version), 2000);
  const detail = live.value;
  return (
    <View title={`${model} ${version}`} above={<a href={to("models")}>Models</a>} aside={detail && <Promote of={detail.model} />}>
      {detail ? <Detail detail={detail} /> : <Nothing live={live} />}
    </View>
  );
}

function Promote({ of }: { of: ModelView }) {
  if (of.aliases.includes("production")) return <span class="tag">production</span>;
  return (
    <Action
      label="Promote"
      title={`Make version ${of.version} of ${of.model} the one in production?`}
      act={async () => {
        await write("POST", path("models", of.model, "aliases", "production"), { version: of.version });
        return `production means version ${of.version} of ${of.model}`;
      }}
    >
      <p>Queries that name the model without a version score with it from now on.</p>
    </Action>
  );
}

function Detail({ detail }: { detail: ModelDetail }) {
  const { model, manifest, changes } = detail;
  const runs = useLive<RunsView>("runs", 10_000).value?.runs;
  const run = runs?.find((run) => run.model === model.model && run.versions.includes(model.version));
  const lineage = Object.entries(manifest.lineage ?? {}).filter(([, value]) => typeof value === "string" && value !== "") as [string, string][];
  const through = model.trained_through_us;
  return (
    <>
      <Figures
        figures={[
          ...Object.entries(model.metrics).map(([name, value]): [string, string] => [name, figure(value)]),
          ["rows", count(model.rows)],
          ["learned from rows up to", through === null ? null : eventTime(through / 1000)],
          ["made", moment(model.created_us / 1000)],
          ["by job", model.job ? <JobLink id={model.job} /> : null],
          ["in run", run ? <a href={to("runs", run.id)}>{run.id}</a> : null],
          ["aliases", model.aliases.join(", ")],
          ["used by", model.used_by.length ? model.used_by.map((id) => <span key={id} class="item"><JobLink id={id} /></span>) : null],
        ]}
      />
      <Judged judged={detail.evaluation} />
      <Network detail={detail} />
      <h2>Lineage</h2>
      {lineage.length === 0 && <p class="soft">Its file tells of none.</p>}
      <Figures figures={lineage.filter(([, value]) => !value.includes(" "))} />
      {lineage
        .filter(([, value]) => value.includes(" "))
        .map(([name, value]) => (
          <details key={name}>
            <summary>{name}</summary>
            <pre class="code" tabIndex={0} role="region" aria-label={name}>{value}</pre>
          </details>
        ))}
      <h2>Features</h2>
      <p class="names">{model.features.join(", ")}</p>
      <h2>Aliases over time</h2>
      <Table caption="Aliases over time" rows={changes.slice().reverse()} columns={CHANGES} id={({ at_ms, alias }) => `${at_ms} ${alias}`} empty="None was given." />
      <h2>Its file</h2>
      <details>
        <summary>model.json</summary>
        <pre class="code" tabIndex={0} role="region" aria-label="model.json">{JSON.stringify(manifest, null, 2)}</pre>
      </details>
    </>
  );
}
