// A state as a word with a sign, so that its colour is never alone.

const GOOD = ["running", "finished", "active", "accepted", "done"];
const BAD = ["failed", "unreachable", "lost", "killed", "error", "gone", "oom", "dropped"];
const OVER = ["stopped", "expired", "declined", "rescinded", "missed", "skipped", "drained", "disconnected"];

const SIGNS = { good: "●", bad: "▲", over: "■", between: "◐" };

function tone(state: string): keyof typeof SIGNS {
  if (GOOD.includes(state)) return "good";
  if (BAD.includes(state)) return "bad";
  return OVER.includes(state) ? "over" : "between";
}

export function State({ state }: { state: string }) {
  const kind = tone(state);
  return (
    <span class={`state ${kind}`}>
      <span aria-hidden="true">{SIGNS[kind]}</span> {state}
    </span>
  );
}

const LEVELS: Record<string, keyof typeof SIGNS> = { info: "over", warning: "between", error: "bad" };

export function Level({ level }: { level: string }) {
  const kind = LEVELS[level] ?? "over";
  return (
    <span class={`state ${kind}`}>
      <span aria-hidden="true">{SIGNS[kind]}</span> {level}
    </span>
  );
}
