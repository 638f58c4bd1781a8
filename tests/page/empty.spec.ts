// A cluster that has just started, and things that are not there.

import { expect, heading, open, test } from "./pages.ts";

const VIEWS: [hash: string, title: string, said: RegExp][] = [
  ["#/", "Jobs", /There is no job\. `smack submit FILE`/],
  ["#/query", "Query", /There is none yet\. A job that writes one makes it/],
  ["#/logs", "Tasks", /There is no task\./],
  ["#/cluster", "Cluster", /2 agents/],
  ["#/runs", "Training runs", /No model has been trained yet\./],
  ["#/models", "Models", /No model has been trained\./],
  ["#/sweeps", "Sweeps", /There is no sweep\./],
  ["#/schedules", "Schedules", /There is no schedule\./],
  ["#/jobs/no/such", "no/such", /there is no job 'no\/such'/],
  ["#/runs/no-such", "no-such", /run 'no-such'/],
  ["#/models/none/1", "none 1", /none/],
  ["#/logs/no.such.task", "no.such.task", /no agent has the sandbox of task 'no\.such\.task'/],
  ["#/nowhere", "There is no such view", /Jobs/],
];

for (const [hash, title, said] of VIEWS) {
  test(`${hash} says that there is nothing`, async ({ empty, page }) => {
    await open(page, empty.url, hash);
    await expect(heading(page)).toHaveText(title);
    await expect(page.getByRole("main")).toContainText(said);
    await expect(page.getByRole("alert")).toBeEmpty();
  });
}
