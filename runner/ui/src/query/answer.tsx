// What a query has answered: how much of it, the rows or their chart, and the way to take them along.

import { useMemo, useState } from "preact/hooks";
import { clock, count, counted, duration, rate } from "../format";
import { Values } from "../parts/values";
import type { Asked } from "./asking";
import { csv, save } from "./csv";
import { type Choice, choiceOf, Plot } from "./plot";
import type { Result, Row } from "./result";

/** How the answer is looked at. */
export type Look = Partial<Choice> & { chart?: boolean };

interface AnswerProps {
  asked: Asked;
  look: Look;
  turn: (change: Look) => void;
}

export function Answer({ asked, look, turn }: AnswerProps) {
  const { result, phase } = asked;
  const rows = useMemo(() => result?.shown() ?? [], [result, asked.n_seen]);
  return (
    <section aria-label="Answer" class="answer">
      <p role="status" class="unseen">
        {spoken(asked)}
      </p>
      {phase === "asking" && !result && <p class="soft">Asking …</p>}
      {phase === "stopped" && !result && <p class="soft">Stopped before it answered.</p>}
      {result && (
        <>
          <Said asked={asked} result={result} rows={rows} />
          {asked.notices.map((notice) => (
            <p key={notice} class="notice">
              {notice}
            </p>
          ))}
          <Tools result={result} rows={rows} look={look} turn={turn} />
          {look.chart ? (
            <Plot rows={rows} columns={result.columns} types={result.types} choice={choiceOf(result.columns, result.types, look)} choose={turn} />
          ) : (
            <Values caption="Rows of the answer" columns={result.columns} types={result.types} rows={rows} empty={phase === "running" ? "No row has come yet." : "There are no rows."} />
          )}
        </>
      )}
    </section>
  );
}

/** What one hears: how it begins and ends, not each row of it. */
function spoken({ phase, result, took_ms }: Asked): string {
  switch (phase) {
    case "none":
    case "failed":
      return "";
    case "asking":
      return "asking";
    case "running":
      return "rows come";
    case "away":
      return "the runner is away; it is asked again";
    case "stopped":
      return "stopped";
    case "ended":
      return `${counted(result?.n ?? 0, "row")} in ${duration(took_ms)}`;
  }
}

function Said({ asked, result, rows }: { asked: Asked; result: Result; rows: Row[] }) {
  const { phase, took_ms, rows_per_second, again_ms } = asked;
  const goesOn = phase === "running" || phase === "away";
  return (
    <p class="summary">
      <b>{result.truncated && !result.changes ? `the first ${counted(rows.length, "row")}` : counted(result.n, "row")}</b>
      {result.truncated && <span>truncated: there are more</span>}
      {!result.truncated && rows.length < result.n && <span>{result.showsFirst ? `the first ${count(rows.length)} are shown` : `the latest ${count(rows.length)} are shown`}</span>}
      {result.changes && <span>{counted(result.n_come, "change")}</span>}
      {goesOn && <span>{`${rate(rows_per_second)} ${result.changes ? "changes" : "rows"}/s`}</span>}
      {phase === "running" && <span class="state good"><span aria-hidden="true">●</span> goes on</span>}
      {phase === "away" && <span class="state bad"><span aria-hidden="true">▲</span> broken off, asked again when the runner answers</span>}
      {phase === "failed" && <span class="state bad"><span aria-hidden="true">▲</span> broken off</span>}
      {phase === "stopped" && <span class="state over"><span aria-hidden="true">■</span> stopped</span>}
      {phase === "ended" && <span class="soft">{duration(took_ms)}</span>}
      {again_ms !== undefined && <span class="soft">begun anew at {clock(again_ms)}, since the runner had been away</span>}
    </p>
  );
}

interface ToolsProps {
  result: Result;
  rows: Row[];
  look: Look;
  turn: (change: Look) => void;
}

function Tools({ result, rows, look, turn }: ToolsProps) {
  const [copied, setCopied] = useState("");
  const text = () => csv(result.columns, rows);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      setCopied(`${counted(rows.length, "row")} copied`);
    } catch {
      setCopied("the browser does not let the page copy");
    }
  };
  return (
    <div class="controls">
      <fieldset>
        <legend class="unseen">How it is shown</legend>
        {[false, true].map((chart) => (
          <label key={String(chart)}>
            <input type="radio" name="look" checked={(look.chart ?? false) === chart} onChange={() => turn({ chart })} /> {chart ? "Chart" : "Rows"}
          </label>
        ))}
      </fieldset>
      <span class="buttons">
        {/* Only pages of this machine, or that came encrypted, may. */}
        {isSecureContext && (
          <button type="button" onClick={copy} disabled={rows.length === 0}>
            Copy as CSV
          </button>
        )}
        <button type="button" onClick={() => save("query.csv", text())} disabled={rows.length === 0}>
          Download CSV
        </button>
      </span>
      <span role="status" class="soft">
        {copied}
      </span>
    </div>
  );
}

