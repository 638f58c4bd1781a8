// What a task wrote, from near its end on, followed and searched; also of tasks that ended long ago.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, count } from "../format";
import { isTrouble, nextWait, note, pause, useLive } from "../live";
import { Tasks } from "../parts/tasks";
import { Nothing, View } from "../parts/view";
import { Failure, readLog, tokenWanted } from "../read";
import { to } from "../route";
import type { JobsView } from "../types";
import { Lines } from "./lines";

/** All tasks that jobs still tell of. */
export function Logs() {
  const live = useLive<JobsView>("jobs", 2000);
  const tasks = useMemo(() => live.value?.jobs.flatMap((job) => job.tasks), [live.value]);
  return (
    <View title="Tasks">
      {tasks ? (
        <>
          <p class="soft">Each leads to what it wrote. The page keeps no list of tasks of earlier generations; the address of their logs stays the same.</p>
          <Tasks tasks={tasks} ofAll />
        </>
      ) : (
        <Nothing live={live} />
      )}
    </View>
  );
}

/** Of a long log the end is read first; what comes before it on demand. */
const TAIL_BYTES = 256 * 1024;

/** Beyond any log: the answer says how long it is, and holds nothing. */
const BEYOND = Number.MAX_SAFE_INTEGER;

interface Reading {
  lines: Lines;
  /** Counts the answers, since `lines` changes in place. */
  n_read: number;
  size: number;
  /** Where what is shown begins. */
  begin: number;
  failure: Failure | undefined;
}

/** Tasks of streams and of trainings write to stderr, others mostly to stdout. */
function useFuller(task: string): [string | undefined, (stream: string) => void] {
  const [stream, setStream] = useState<string>();
  const wanted = tokenWanted.value;
  useEffect(() => {
    if (wanted) return;
    const stop = new AbortController();
    readLog(task, "stdout", BEYOND, stop.signal)
      .then(({ size }) => size > 0, () => false)
      .then((isFull) => {
        if (!stop.signal.aborted) setStream((stream) => stream ?? (isFull ? "stdout" : "stderr"));
      });
    return () => stop.abort();
  }, [task, wanted]);
  return [stream, setStream];
}

function useLog(task: string, stream: string | undefined, follow: boolean, fromStart: boolean): Reading | undefined {
  const [reading, setReading] = useState<Reading>();
  const wanted = tokenWanted.value;
  const state = useRef<{ key: string; offset: number | undefined; reading: Reading } | undefined>(undefined);
  useEffect(() => {
    if (wanted || stream === undefined) return;
    const key = `${task} ${stream} ${fromStart}`;
    if (state.current?.key !== key) {
      state.current = {
        key,
        offset: fromStart ? 0 : undefined,
        reading: { lines: new Lines(), n_read: 0, size: 0, begin: 0, failure: undefined },
      };
      setReading(undefined);
    }
    const at = state.current;
    const stop = new AbortController();
    const step = async (): Promise<boolean> => {
      if (at.offset === undefined) {
        const { size } = await readLog(task, stream, BEYOND, stop.signal);
        at.offset = Math.max(0, size - TAIL_BYTES);
      }
      const piece = await readLog(task, stream, at.offset, stop.signal);
      if (stop.signal.aborted) return false;
      const { reading } = at;
      if (reading.n_read === 0) at.reading.begin = piece.offset;
      reading.lines.add(piece.bytes);
      at.offset = piece.offset + piece.bytes.length;
      at.reading = { ...reading, n_read: reading.n_read + 1, size: piece.size, failure: undefined };
      setReading(at.reading);
      return at.offset < piece.size && piece.bytes.length > 0;
    };
    const run = async () => {
      let n_failed = 0;
      while (!stop.signal.aborted) {
        let more = false;
        try {
          more = await step();
          n_failed = 0;
          note("logs");
        } catch (error) {
          if (stop.signal.aborted) return;
          const failure = error instanceof Failure ? error : new Failure(0, String(error));
          if (isTrouble(failure)) {
            n_failed += 1;
            note("logs", failure.message);
          } else {
            note("logs");
            at.reading = { ...at.reading, failure };
            setReading(at.reading);
          }
        }
        if (!follow && !more && n_failed === 0) return;
        await pause(more ? 0 : nextWait(1000, n_failed), stop.signal);
      }
    };
    void run();
    return () => {
      stop.abort();
      note("logs");
    };
  }, [task, stream, follow, fromStart, wanted]);
  return reading;
}

export function Log({ task }: { task: string }) {
  const [stream, setStream] = useFuller(task);
  const [follow, setFollow] = useState(true);
  const [fromStart, setFromStart] = useState(false);
  const [sought, setSought] = useState("");
  const reading = useLog(task, stream, follow, fromStart);
  return (
    <View title={task} above={<a href={to("logs")}>Tasks</a>}>
      <div class="controls">
        <fieldset>
          <legend class="unseen">Which output</legend>
          {["stdout", "stderr"].map((name) => (
            <label key={name}>
              <input type="radio" name="stream" checked={stream === name} onChange={() => setStream(name)} /> {name}
            </label>
          ))}
        </fieldset>
        <label>
          <input type="checkbox" checked={follow} onChange={(event) => setFollow(event.currentTarget.checked)} /> Follow
        </label>
        <label>
          Search <input type="search" value={sought} onInput={(event) => setSought(event.currentTarget.value)} />
        </label>
        {reading && reading.begin > 0 && !fromStart && (
          <button type="button" onClick={() => setFromStart(true)}>
            From the beginning
          </button>
        )}
      </div>
      {reading ? (
        reading.failure ? (
          <p class="soft">{reading.failure.message}.</p>
        ) : (
          <Output reading={reading} sought={sought} follow={follow} label={`${stream} of ${task}`} />
        )
      ) : (
        <p class="soft">Reading …</p>
      )}
    </View>
  );
}

interface OutputProps {
  reading: Reading;
  sought: string;
  follow: boolean;
  label: string;
}

function Output({ reading, sought, follow, label }: OutputProps) {
  const box = useRef<HTMLPreElement>(null);
  /** Who has scrolled up reads there, and is not drawn to the end. */
  const atEnd = useRef(true);
  const { lines, n_read, size, begin } = reading;
  const found = useMemo(() => lines.find(sought), [lines, n_read, sought]);
  useEffect(() => {
    if (follow && atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [found, follow]);
  const left_out = found.n - found.shown.length;
  return (
    <>
      <p class="soft">
        {sought ? `${count(found.n)} of ${count(lines.n)} lines` : `${count(lines.n)} lines`}
        {begin > 0 ? ` of the last ${bytes(size - begin)}` : `, ${bytes(size)}`}
        {lines.n_dropped > 0 && `; the ${count(lines.n_dropped)} before them are no longer held`}
        {left_out > 0 && `; the last ${count(found.shown.length)} are shown`}
      </p>
      {size === 0 ? (
        <p class="soft">It has written nothing.</p>
      ) : (
        <pre
          class="log"
          ref={box}
          tabIndex={0}
          role="region"
          aria-label={label}
          onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
            atEnd.current = scrollHeight - scrollTop - clientHeight < 40;
          }}
        >
          {sought ? <Marked lines={found.shown} sought={sought} /> : found.shown.join("\n")}
        </pre>
      )}
    </>
  );
}

function Marked({ lines, sought }: { lines: string[]; sought: string }) {
  const needle = sought.toLowerCase();
  return (
    <>
      {lines.map((line, at) => {
        const parts = [];
        let from = 0;
        // A letter whose lower case is longer would shift what is marked; then nothing is.
        const low = line.toLowerCase();
        if (low.length === line.length) {
          for (let hit = low.indexOf(needle); hit >= 0; hit = low.indexOf(needle, from)) {
            parts.push(line.slice(from, hit), <mark key={hit}>{line.slice(hit, hit + needle.length)}</mark>);
            from = hit + needle.length;
          }
        }
        return (
          <span key={at}>
            {parts}
            {line.slice(from)}
            {"\n"}
          </span>
        );
      })}
    </>
  );
}
