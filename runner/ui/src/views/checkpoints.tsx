// The checkpoints of a stream that are kept, how much the last ones wrote, and what failed.

import { useMemo } from "preact/hooks";
import { bytes, count, duration } from "../format";
import { useLive } from "../live";
import { Events } from "../parts/events";
import { type Column, Table } from "../parts/table";
import { Figures } from "../parts/view";
import { path } from "../read";
import type { CheckpointsView, CheckpointView, JobView } from "../types";

const COLUMNS: Column<CheckpointView>[] = [
  { name: "epoch", cell: ({ epoch }) => count(epoch), by: ({ epoch }) => epoch },
  { name: "kept as", cell: ({ name }) => name ?? <span class="soft">one of the last</span> },
  { name: "age", cell: ({ age_ms }) => duration(age_ms), by: ({ age_ms }) => age_ms, number: true },
  { name: "a restart needs", cell: (checkpoint) => bytes(checkpoint.bytes), by: (checkpoint) => checkpoint.bytes, number: true },
  { name: "written for it", cell: ({ bytes_written }) => bytes(bytes_written), by: ({ bytes_written }) => bytes_written, number: true },
];

/** How the runner's events speak of checkpoints. */
const OF_CHECKPOINTS = /checkpoint|epoch|manifest|savepoint/i;

export function Checkpoints({ job }: { job: JobView }) {
  const { metrics } = job;
  const kept = useLive<CheckpointsView>(path("savepoints", job.id), 2000).value?.checkpoints;
  const rows = useMemo(() => kept?.slice().reverse() ?? [], [kept]);
  const failures = job.events.filter((event) => event.level !== "info" && OF_CHECKPOINTS.test(event.text));
  return (
    <>
      <h2>Checkpoints</h2>
      {metrics.checkpoint_epoch === null ? (
        <p>None is complete yet.</p>
      ) : (
        <Figures
          figures={[
            ["last good one", `epoch ${count(metrics.checkpoint_epoch)}`],
            ["its age", metrics.checkpoint_age_ms === null ? null : duration(metrics.checkpoint_age_ms)],
            ["a restart needs", metrics.checkpoint_bytes === null ? null : bytes(metrics.checkpoint_bytes)],
            ["written for it", metrics.checkpoint_bytes_written === null ? null : bytes(metrics.checkpoint_bytes_written)],
          ]}
        />
      )}
      {rows.length > 0 && (
        <Table
          caption="Checkpoints that are kept"
          rows={rows}
          columns={COLUMNS}
          id={(row) => `${row.epoch} ${row.name ?? ""}`}
          empty=""
          perPage={10}
        />
      )}
      {failures.length > 0 && (
        <>
          <h3>What failed</h3>
          <Events caption="Failures of checkpoints" events={failures} empty="" />
        </>
      )}
    </>
  );
}
