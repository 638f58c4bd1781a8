// The operators of a stream as a table, one of them in full, and how far the splits of its sources are.

import { useMemo } from "preact/hooks";
import { bytes, count, percent, rate } from "../format";
import { Shares, sharesText } from "../parts/bars";
import { type Column, Table } from "../parts/table";
import { Figures } from "../parts/view";
import { to } from "../route";
import type { JobView, NodeView, OperatorView, SplitView } from "../types";
import { Sample } from "./sample";

interface Row {
  job: JobView;
  operator: OperatorView;
  text: string;
}

const stateText = ({ state_bytes, spilled_bytes }: OperatorView) =>
  [state_bytes ? bytes(state_bytes) : "", spilled_bytes ? `${bytes(spilled_bytes)} on disk` : ""].filter(Boolean).join(", ");

const COLUMNS: Column<Row>[] = [
  { name: "operator", cell: ({ job, operator }) => <a href={to("jobs", job.group, job.name, operator.id)}>{operator.id}</a> },
  { name: "shares", cell: ({ operator }) => <Shares operator={operator} /> },
  { name: "busy", cell: ({ operator }) => percent(operator.busy), by: ({ operator }) => operator.busy, number: true },
  { name: "blocked", cell: ({ operator }) => percent(operator.blocked), by: ({ operator }) => operator.blocked, number: true },
  { name: "idle", cell: ({ operator }) => percent(operator.idle), by: ({ operator }) => operator.idle, number: true },
  { name: "rows in/s", cell: ({ operator }) => rate(operator.rows_in_per_second), by: ({ operator }) => operator.rows_in_per_second, number: true },
  { name: "rows out/s", cell: ({ operator }) => rate(operator.rows_out_per_second), by: ({ operator }) => operator.rows_out_per_second, number: true },
  { name: "state", cell: ({ operator }) => stateText(operator), by: ({ operator }) => operator.state_bytes, number: true },
  { name: "what it does", cell: ({ text }) => text, text: true, wide: true },
];

export function Operators({ job, nodes }: { job: JobView; nodes: NodeView[] }) {
  const rows = useMemo(() => {
    const texts = new Map(nodes.map((node) => [node.id, node.text]));
    return job.operators.map((operator) => ({ job, operator, text: texts.get(operator.id) ?? "" }));
  }, [job, nodes]);
  return (
    <Table
      caption="Operators"
      rows={rows}
      columns={COLUMNS}
      id={({ operator }) => operator.id}
      empty="No task has told of its operators yet."
    />
  );
}

interface Details {
  job: JobView;
  nodes: NodeView[];
  node: NodeView | undefined;
  choose: (id: string) => void;
}

export function OperatorDetails({ job, nodes, node, choose }: Details) {
  const operator = job.operators.find(({ id }) => id === node?.id);
  return (
    <section class="details" aria-label="The chosen operator">
      {node ? (
        <>
          <h3>{node.id}</h3>
          <p>{node.text}</p>
          {node.changes && <p>Its rows come and go: a later row can take back an earlier one (±).</p>}
          {operator ? <OperatorFigures operator={operator} /> : <p class="soft">No task tells how it is doing.</p>}
          <Beside name="reads" ids={node.inputs} choose={choose} />
          <Beside name="is read by" ids={nodes.filter(({ inputs }) => inputs.includes(node.id)).map(({ id }) => id)} choose={choose} />
          <Sample job={job.id} operator={node.id} runs={job.state === "running"} />
        </>
      ) : (
        <p class="soft">Choose an operator to see it in full, the rows that leave it, and the lines it was made from.</p>
      )}
    </section>
  );
}

/** Those at the other ends of its edges: the rows of an edge are those that leave the operator where it begins. */
function Beside({ name, ids, choose }: { name: string; ids: string[]; choose: (id: string) => void }) {
  if (ids.length === 0) return null;
  return (
    <p class="beside">
      <span class="soft">{name}</span>
      {[...new Set(ids)].map((id) => (
        <button key={id} type="button" onClick={() => choose(id)}>
          {id}
        </button>
      ))}
    </p>
  );
}

function OperatorFigures({ operator }: { operator: OperatorView }) {
  const behind = operator.splits.reduce((sum, split) => sum + (split.behind ?? 0), 0);
  const known = operator.splits.some((split) => split.behind !== null);
  return (
    <>
      <p>
        <Shares operator={operator} /> {sharesText(operator)}
      </p>
      <Figures
        figures={[
          ["rows in per second", rate(operator.rows_in_per_second)],
          ["rows out per second", rate(operator.rows_out_per_second)],
          ["state in memory", bytes(operator.state_bytes)],
          ["state on disk", operator.spilled_bytes ? bytes(operator.spilled_bytes) : null],
          ["splits", operator.splits.length ? count(operator.splits.length) : null],
          ["records behind", known ? count(behind) : null],
          ["lookups per second", operator.lookups_per_second ? rate(operator.lookups_per_second) : null],
          ["answers remembered", operator.lookups_per_second ? percent(operator.cache_hits) : null],
        ]}
      />
    </>
  );
}

type SplitRow = SplitView & { source: string };

const SPLITS: Column<SplitRow>[] = [
  { name: "split", cell: (split) => split.name, by: (split) => split.name },
  { name: "source", cell: (split) => split.source, by: (split) => split.source },
  { name: "rows/s", cell: (split) => rate(split.rows_per_second), by: (split) => split.rows_per_second, number: true },
  {
    name: "records behind",
    cell: (split) => (split.behind === null ? <span class="soft">not known</span> : count(split.behind)),
    by: (split) => split.behind ?? -1,
    number: true,
  },
];

export function Splits({ operators }: { operators: OperatorView[] }) {
  const rows = useMemo(
    () => operators.flatMap((operator) => operator.splits.map((split) => ({ ...split, source: operator.id }))),
    [operators],
  );
  if (rows.length === 0) return null;
  return (
    <>
      <h2>Splits of the sources</h2>
      <Table
        caption="Splits of the sources"
        rows={rows}
        columns={SPLITS}
        id={(split) => `${split.source} ${split.name}`}
        words={(split) => `${split.name} ${split.source}`}
        empty=""
        perPage={20}
      />
    </>
  );
}
