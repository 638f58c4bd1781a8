// The page: where one can go, what is shown, and what is wrong on the way to the runner.

import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { clock } from "./format";
import { trouble, useLive } from "./live";
import { notice } from "./parts/action";
import { View } from "./parts/view";
import { setToken, tokenWanted } from "./read";
import { route, to } from "./route";
import type { VersionView } from "./types";
import { Cluster } from "./views/cluster";
import { Job } from "./views/job";
import { Jobs } from "./views/jobs";
import { Log, Logs } from "./views/logs";
import { Model, Models } from "./views/models";
import { Query } from "./views/query";
import { Run } from "./views/run";
import { Runs } from "./views/runs";
import { Schedules } from "./views/schedules";
import { Sweep, Sweeps } from "./views/sweeps";

const PLACES: [part: string, name: string][] = [
  ["jobs", "Jobs"],
  ["query", "Query"],
  ["logs", "Tasks"],
  ["cluster", "Cluster"],
  ["runs", "Runs"],
  ["models", "Models"],
  ["sweeps", "Sweeps"],
  ["schedules", "Schedules"],
];

/** Of an address, without how the view there is turned. */
function placeOf(parts: string[]): string[] {
  return parts[0] === "query" ? parts.slice(0, 1) : parts[0] === "jobs" ? parts.slice(0, 3) : parts;
}

function Place() {
  const [place = "jobs", first, ...rest] = route.value;
  switch (place) {
    case "jobs":
      // Another job is another view: what was chosen in one means nothing in the next.
      return first === undefined ? <Jobs /> : <Job key={`${first}/${rest[0]}`} id={`${first}/${rest[0] ?? ""}`} operator={rest[1]} />;
    case "query":
      return <Query />;
    case "logs":
      return first === undefined ? <Logs /> : <Log key={first} task={first} />;
    case "cluster":
      return <Cluster />;
    case "runs":
      return first === undefined ? <Runs /> : <Run key={first} ids={first.split(",").filter(Boolean)} />;
    case "models":
      return first === undefined ? <Models /> : <Model key={route.value.join("/")} model={first} version={rest[0] ?? "-"} />;
    case "sweeps":
      return first === undefined ? <Sweeps /> : <Sweep key={first} name={first} />;
    case "schedules":
      return <Schedules />;
    default:
      return (
        <View title="There is no such view">
          <p>
            <a href={to()}>Jobs</a>
          </p>
        </View>
      );
  }
}

function Trouble() {
  const now = trouble.value;
  return (
    <div role="alert">
      {now && (
        <p class="trouble">
          <b>{now.text}</b> since {clock(now.since)}. What is shown is from before then; it is tried again by itself.
        </p>
      )}
    </div>
  );
}

function Notice() {
  const now = notice.value;
  return (
    <div role="status">
      {now && (
        <p class={now.bad ? "notice bad" : "notice"}>
          {now.text}{" "}
          <button type="button" onClick={() => (notice.value = undefined)}>
            Dismiss
          </button>
        </p>
      )}
    </div>
  );
}

function AskToken() {
  return (
    <View title="Token">
      <form
        class="token"
        onSubmit={(event) => {
          event.preventDefault();
          setToken(String(new FormData(event.currentTarget).get("token")).trim());
        }}
      >
        <p role="alert">{tokenWanted.value === "wrong" && "The token that was shown is not the cluster's."}</p>
        <p>This runner answers only who shows the cluster's token: the text of its token file. It is kept until this tab is closed.</p>
        <p>
          <label>
            Token <input name="token" type="password" required autocomplete="off" />
          </label>{" "}
          <button type="submit" class="main">
            Go on
          </button>
        </p>
      </form>
    </View>
  );
}

function Page() {
  const version = useLive<VersionView>("version", 60_000).value?.version;
  const place = route.value[0] ?? "jobs";
  const address = placeOf(route.value).join("/");
  const before = useRef(address);
  useEffect(() => {
    if (before.current === address) return;
    before.current = address;
    notice.value = undefined;
    // Who reads by ear or keyboard begins at the top of what has just come.
    scrollTo(0, 0);
    document.getElementById("heading")?.focus({ preventScroll: true });
  }, [address]);
  return (
    <>
      <a
        class="skip"
        href="#heading"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("heading")?.focus();
        }}
      >
        Skip to content
      </a>
      <header>
        <a class="name" href={to()}>
          smack {version && <span class="soft">{version}</span>}
        </a>
        <nav aria-label="Views">
          {PLACES.map(([part, name]) => (
            <a key={part} href={part === "jobs" ? to() : to(part)} aria-current={place === part ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
      </header>
      <main>
        <Trouble />
        <Notice />
        {tokenWanted.value ? <AskToken /> : <Place />}
      </main>
    </>
  );
}

const root = document.getElementById("page");
if (root) render(<Page />, root);
