// Questions in SQL: an editor, and the answer, which goes on where the question does.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count } from "../format";
import { useLive } from "../live";
import { View } from "../parts/view";
import { Answer, type Look } from "../query/answer";
import { useAsking } from "../query/asking";
import { Catalog } from "../query/catalog";
import { Editor, type Handle } from "../query/editor";
import { type Mistake, mistakesOf } from "../query/mistakes";
import { declares } from "../query/statements";
import { Submit } from "../query/submit";
import type { Failure } from "../read";
import { remember, route } from "../route";
import type { CatalogView } from "../types";

const TEXT = "smack-query";
const EARLIER = "smack-queries";
const EARLIER_MAX = 20;

/** A browser shortens what is longer. */
const ADDRESS_MAX = 8000;

const CATALOG_MS = 15_000;

function earlier(): string[] {
  try {
    return (JSON.parse(sessionStorage.getItem(EARLIER) ?? "[]") as unknown[]).filter((text) => typeof text === "string");
  } catch {
    return [];
  }
}

/** Kept for as long as the tab is open, as the token is. */
function keep(key: string, text: string) {
  try {
    sessionStorage.setItem(key, text);
  } catch {
    // What has no room is kept by nobody.
  }
}

function lookOf(part: string | undefined): Look {
  const said = new URLSearchParams(part ?? "");
  const [kind, x] = [said.get("as"), said.get("x")];
  return { chart: said.get("view") === "chart", ...(kind ? { kind } : {}), ...(x ? { x } : {}), ys: said.getAll("y") };
}

function partOf({ chart, kind, x, ys }: Look): string {
  const said = new URLSearchParams();
  if (chart) said.set("view", "chart");
  if (kind) said.set("as", kind);
  if (x) said.set("x", x);
  for (const y of ys ?? []) said.append("y", y);
  return said.toString();
}

const NONE: { text: string; found: Mistake[] } = { text: "", found: [] };

export function Query() {
  const [, addressed, turned] = route.value;
  const editor = useRef<Handle | null>(null);
  const [first] = useState(() => addressed || (sessionStorage.getItem(TEXT) ?? ""));
  const [text, setText] = useState(first);
  const [asked, asking] = useAsking();
  const [wrong, setWrong] = useState<{ text: string; failure: Failure }>();
  const known = useLive<CatalogView>("sql/catalog", CATALOG_MS);
  const catalog = known.value;
  const look = useMemo(() => lookOf(turned), [turned]);
  const [askedBefore, setAskedBefore] = useState(earlier);
  const written = useRef(addressed);

  // Another address is another question: a link, or the way back. It is asked when one says so, since whoever made the link
  // would otherwise have it asked by whoever opens it.
  useEffect(() => {
    if (addressed && addressed !== written.current) editor.current?.replace(addressed);
    written.current = addressed;
  }, [addressed]);

  const change = (text: string) => {
    setText(text);
    keep(TEXT, text);
  };
  const place = (text: string, look: Look) => {
    // What declares tables may hold passwords, which a browser's history is no place for.
    const shown = text.length <= ADDRESS_MAX && !declares(text) ? text.trim() : "";
    written.current = shown;
    const part = partOf(look);
    remember("query", ...(shown || part ? [shown] : []), ...(part ? [part] : []));
  };
  const run = () => {
    const text = editor.current?.text() ?? "";
    editor.current?.settle();
    setWrong(undefined);
    if (text.trim() === "") return;
    place(text, look);
    const all = [text, ...askedBefore.filter((other) => other !== text)].slice(0, EARLIER_MAX);
    setAskedBefore(all);
    keep(EARLIER, JSON.stringify(all));
    asking.run(text);
  };
  const failed = wrong ?? (asked.failure && { text: asked.text, failure: asked.failure });
  const mistakes = useMemo(() => (failed ? { text: failed.text, found: mistakesOf(failed.text, failed.failure.diagnostics) } : NONE), [failed?.failure]);
  const isAsked = asked.phase === "asking" || asked.phase === "running" || asked.phase === "away";
  const before = askedBefore.filter((other) => other !== text);

  return (
    <View title="Query">
      <div class="query">
        <div class="asking">
          <Editor
            handle={editor}
            text={first}
            label="Query, in SQL"
            hint="SELECT … FROM …"
            catalog={catalog}
            mistakes={mistakes}
            onChange={change}
            onRun={run}
          />
          <p class="controls">
            <button type="button" class="main" onClick={run} disabled={text.trim() === ""} aria-keyshortcuts="Control+Enter">
              Run
            </button>
            <button type="button" onClick={() => asking.stop()} disabled={!isAsked}>
              Stop
            </button>
            <Submit
              text={() => editor.current?.text() ?? ""}
              catalog={catalog}
              onMistakes={(text, failure) => {
                asking.stop();
                setWrong({ text, failure });
              }}
            />
            <span class="soft">{SHORTCUT} runs it</span>
            {before.length > 0 && (
              <label class="earlier">
                <span class="unseen">Earlier queries</span>
                <select value="" onChange={(event) => editor.current?.replace(before[Number(event.currentTarget.value)] ?? "")}>
                  <option value="">Earlier …</option>
                  {before.map((text, at) => (
                    <option key={at} value={at}>
                      {short(text)}
                    </option>
                  ))}
                </select>
              </label>
            )}
          </p>
          <Wrong failed={failed} mistakes={mistakes.found} goTo={failed?.text === text ? (from) => editor.current?.goTo(from) : undefined} />
        </div>
        {!wrong && <Answer asked={asked} look={look} turn={(change) => place(asked.text, { ...look, ...change })} />}
        <Catalog live={known} begin={(text) => editor.current?.replace(text)} />
      </div>
    </View>
  );
}

const SHORTCUT = /mac/i.test(navigator.platform) ? "⌘ Enter" : "Ctrl+Enter";

const SHORT_MAX = 70;

function short(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > SHORT_MAX ? `${line.slice(0, SHORT_MAX)}…` : line;
}

interface WrongProps {
  failed: { failure: Failure } | undefined;
  mistakes: Mistake[];
  /** None once the text has changed. */
  goTo: ((from: number) => void) | undefined;
}

/** What is wrong, in words, and the way to its place. */
function Wrong({ failed, mistakes, goTo }: WrongProps) {
  if (!failed) return null;
  return (
    <div role="alert" class="notice bad">
      {mistakes.length === 0 && <p>{sentence(failed.failure.message)}</p>}
      {mistakes.length > 1 && <p>{count(mistakes.length)} mistakes.</p>}
      {mistakes.map(({ message, help, place }, at) => (
        <p key={at}>
          <b>{message}</b>
          {help && <span class="help">{help}</span>}
          {place && goTo && (
            <button type="button" onClick={() => goTo(place.from)}>
              line {count(place.line)}, column {count(place.column)}
            </button>
          )}
        </p>
      ))}
    </div>
  );
}

const sentence = (text: string) => (/[.!?]$/.test(text) ? text : `${text}.`);
