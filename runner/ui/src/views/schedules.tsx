// Schedules: what is submitted when, and what became of the last times.

import { count, moment } from "../format";
import { useLive } from "../live";
import { Action } from "../parts/action";
import { State } from "../parts/state";
import { type Column, Table } from "../parts/table";
import { Nothing, View } from "../parts/view";
import { path, write } from "../read";
import type { FiredView, SchedulesView, ScheduleView } from "../types";

const COLUMNS: Column<ScheduleView>[] = [
  { name: "schedule", cell: ({ name }) => name, by: ({ name }) => name },
  { name: "when", cell: ({ cron, zone }) => `${cron} (${zone})` },
  { name: "next", cell: ({ next_ms }) => (next_ms === null ? <span class="soft">never</span> : moment(next_ms)), by: ({ next_ms }) => next_ms ?? Infinity },
  { name: "file", cell: ({ file }) => file, wide: true },
  { name: "submits", cell: ({ group }) => group },
  { name: "if one still runs", cell: ({ overlap }) => overlap, wide: true },
  { name: "missed times", cell: ({ catch_up }) => catch_up, wide: true },
  { name: "waiting", cell: ({ n_waiting }) => count(n_waiting), number: true },
  { name: "run", cell: (schedule) => <Run schedule={schedule} /> },
];

function Run({ schedule: { name, file } }: { schedule: ScheduleView }) {
  return (
    <Action
      label="Run now"
      title={`Submit ${file} now?`}
      act={async () => {
        await write("POST", path("schedules", name, "run"));
        return `told to submit: ${name}`;
      }}
    >
      <p>As if it were time.</p>
    </Action>
  );
}

type Fired = FiredView & { schedule: string };

const HISTORY: Column<Fired>[] = [
  { name: "planned", cell: ({ planned_ms }) => moment(planned_ms), by: ({ planned_ms }) => planned_ms },
  { name: "schedule", cell: ({ schedule }) => schedule, by: ({ schedule }) => schedule },
  { name: "because of", cell: ({ why }) => why, by: ({ why }) => why },
  { name: "what became of it", cell: ({ outcome }) => <State state={outcome} />, by: ({ outcome }) => outcome },
  { name: "at", cell: ({ at_ms }) => moment(at_ms), by: ({ at_ms }) => at_ms },
  { name: "text", cell: ({ text }) => text, text: true },
];

export function Schedules() {
  const live = useLive<SchedulesView>("schedules", 5000);
  const schedules = live.value?.schedules;
  const fired = schedules
    ?.flatMap(({ name, history }) => history.map((time): Fired => ({ ...time, schedule: name })))
    .sort((a, b) => b.planned_ms - a.planned_ms);
  return (
    <View title="Schedules">
      {schedules && fired ? (
        <>
          <Table caption="Schedules" rows={schedules} columns={COLUMNS} id={({ name }) => name} empty="There is no schedule. `smack schedule add` makes one." />
          <h2>What became of each time</h2>
          <Table caption="What became of each time" rows={fired} columns={HISTORY} id={(time) => `${time.schedule} ${time.planned_ms} ${time.at_ms}`} words={(time) => `${time.schedule} ${time.outcome} ${time.text}`} empty="Nothing was due yet." perPage={25} />
        </>
      ) : (
        <Nothing live={live} />
      )}
    </View>
  );
}
