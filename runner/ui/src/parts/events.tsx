// What happened, the latest first.

import { useMemo } from "preact/hooks";
import { clock, moment } from "../format";
import type { EventView } from "../types";
import { Level } from "./state";
import { type Column, Table } from "./table";

const COLUMNS: Column<[EventView, number]>[] = [
  { name: "time", cell: ([event]) => <time title={moment(event.at_ms)}>{clock(event.at_ms)}</time> },
  { name: "level", cell: ([event]) => <Level level={event.level} /> },
  { name: "what", cell: ([event]) => event.text, text: true },
];

export function Events({ caption, events, empty }: { caption: string; events: EventView[]; empty: string }) {
  const rows = useMemo(() => events.map((event, at): [EventView, number] => [event, at]).reverse(), [events]);
  return (
    <Table
      caption={caption}
      rows={rows}
      columns={COLUMNS}
      id={([event, at]) => `${event.at_ms} ${at}`}
      words={WORDS}
      empty={empty}
      perPage={20}
    />
  );
}

const WORDS = ([event]: [EventView, number]) => `${event.level} ${event.text}`;
