// Every view with what a real cluster says.

import { DIST, expect, expectToFit, heading, open, servesDist, test } from "./pages.ts";
import { gzipSync } from "node:zlib";

test("the binary serves the page that is committed", async ({ live, request }) => {
  test.skip(servesDist, "the committed page is served in place of the binary's");
  const served = await request.get(`${live.url}/`);
  expect((await served.body()).equals(DIST)).toBe(true);
});

test("it is small, asks nobody else, and is painted soon", async ({ live, page }) => {
  expect(gzipSync(DIST, { level: 9 }).length).toBeLessThan(300_000);
  const hosts = new Set<string>();
  page.on("request", (request) => {
    if (!request.url().startsWith("data:")) hosts.add(new URL(request.url()).origin);
  });
  await open(page, live.url);
  await expect(page.getByRole("link", { name: live.stream })).toBeVisible();
  expect([...hosts]).toEqual([live.url]);
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0);
  // The editor of queries is as large as all else; who does not ask does not wait for it.
  expect(await page.evaluate("typeof smackEditor")).toBe("undefined");
  console.log(`compressed: ${(gzipSync(DIST, { level: 9 }).length / 1000).toFixed(1)} KB; first contentful paint: ${paint.toFixed(0)} ms`);
});

test("jobs: states, rates, and why what does not run does not", async ({ live, page }) => {
  await open(page, live.url);
  const row = (id: string) => page.getByRole("row").filter({ has: page.getByRole("link", { name: id, exact: true }) });
  await expect(row(live.stream)).toContainText("running");
  await expect(row(live.stream)).toContainText("rows/s");
  await expect(row("huge/huge")).toContainText(/needs 1 task of cpus 1000/);
  await expect(row("digits/digits")).toContainText("finished");
  await page.getByRole("link", { name: live.stream, exact: true }).click();
  await expect(heading(page)).toHaveText(live.stream);
  await expect(heading(page)).toBeFocused();
});

test("a job: figures that move, operators, splits, checkpoints, tasks and events", async ({ live, page }) => {
  await open(page, live.url, `#/jobs/${live.stream}`);
  const rows = page.locator(".figures div", { hasText: /^rows in\d/ }).locator("dd");
  const before = await rows.textContent();
  await expect(rows).not.toHaveText(before ?? "");
  await expect(page.getByRole("img", { name: /^rows in per second: auctions\/most goes from / })).toBeVisible();
  await expect(page.getByRole("region", { name: "Operators" })).toContainText("source-bid");
  await expect(page.getByRole("region", { name: "Splits of the sources" })).toContainText("source-bid");
  await expect(page.getByRole("region", { name: "Checkpoints that are kept" })).toContainText("KB");
  await expect(page.getByRole("region", { name: "Events" })).toContainText("launched");
  await expect(page.getByRole("region", { name: "Why it is in its state" })).toContainText("2 of 2 tasks");
  await page.getByRole("region", { name: "Tasks" }).getByRole("link").first().click();
  await expect(heading(page)).toHaveText(/^auctions\.most\./);
});

test("a job's dataflow is drawn as the API tells it, with the shares of each operator", async ({ live, page }) => {
  await open(page, live.url, `#/jobs/${live.stream}`);
  const source = page.getByRole("button", { name: /^source-bid: nexmark bid/ });
  await expect(source).toHaveAccessibleName(/busy .* rows\/s/);
  await expect(page.getByRole("button", { name: /^exchange-/ }).first()).toBeVisible();
  await source.click();
  await expect(page.getByRole("region", { name: "The chosen operator" })).toContainText("rows out per second");
  await expect(page.getByRole("region", { name: "Text of the job file" })).toContainText("CREATE TABLE bid");
});

test("partitions of Kafka with the records that are behind", async ({ live, page }) => {
  await open(page, live.url, "#/jobs/reader/times");
  const splits = page.getByRole("region", { name: "Splits of the sources" });
  await expect(splits.getByRole("row", { name: /most\/0 .*source-most \d+ \d+/ })).toBeVisible();
});

test("the cluster: resources, roles, frameworks and offers", async ({ live, page }) => {
  await open(page, live.url, "#/cluster");
  await expect(page.getByRole("region", { name: "Agents" })).toContainText(/cpus.*used of 4/);
  await expect(page.getByRole("region", { name: "Roles" })).toContainText("default");
  await expect(page.getByRole("region", { name: "Frameworks" })).toContainText("smack-streams");
  const offers = page.getByRole("region", { name: "Offers, the latest first" });
  await expect(offers.getByRole("row", { name: /accepted, 1 task .*auctions\.most/ }).first()).toBeVisible();
});

test("a training run: curves and settings; its model and where it comes from", async ({ live, page }) => {
  await open(page, live.url, "#/runs");
  await page.getByRole("link", { name: /^digits-/ }).click();
  await expect(page.getByRole("img", { name: /^loss: digits-.* goes from .* over \d+ points/ })).toBeVisible();
  await expect(page.getByRole("img", { name: /^accuracy: / })).toBeVisible();
  await expect(page.getByRole("img", { name: /^learning rate: / })).toBeVisible();
  await expect(page.getByRole("img", { name: /^rows per second: / })).toBeVisible();
  await page.getByRole("link", { name: "digits 1" }).click();
  await expect(heading(page)).toHaveText("digits 1");
  await expect(page.getByText("data_digest", { exact: true })).toBeVisible();
  await expect(page.getByRole("link", { name: /^digits-/ })).toBeVisible();
});

test("a model is promoted after a question", async ({ live, page }) => {
  await open(page, live.url, "#/models/digits/1");
  await page.getByRole("button", { name: "Promote" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Promote" }).click();
  await expect(page.getByRole("status").filter({ hasText: "production means version 1 of digits" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Aliases over time" })).toContainText("version 1");
});

test("logs are followed, searched, and text; also those of a task that is over", async ({ live, page }) => {
  await open(page, live.url, `#/logs/${await live.taskOf("noisy/noisy")}`);
  const log = page.getByRole("region", { name: /^stdout of noisy/ });
  await expect(log).toContainText("line 3 of <b>noisy</b>");
  const last = (await log.textContent())?.match(/line (\d+) of/g)?.length ?? 0;
  await expect(log).toContainText(`line ${last + 3} of`);
  await page.getByLabel("Search").fill("LINE 12 ");
  await expect(log.locator("mark").first()).toHaveText("line 12 ");
  await expect(page.getByText(/^1 of [\d,]+ lines/)).toBeVisible();
  await page.getByLabel("Search").fill("no such text");
  await expect(page.getByText(/^0 of [\d,]+ lines/)).toBeVisible();

  await open(page, live.url, `#/logs/${await live.taskOf("brief/brief")}`);
  await expect(page.getByRole("region", { name: /^stdout of brief/ })).toContainText("the last words of a task that is over");
});

test("a checkpoint, another number of tasks and a stop, each after a question", async ({ live, page }) => {
  await open(page, live.url, "#/jobs/reader/times");
  const done = (text: string | RegExp) => expect(page.getByRole("status").filter({ hasText: text })).toBeVisible();

  await page.getByRole("button", { name: "Checkpoint" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Checkpoint" }).click();
  await done("told to take a checkpoint");

  await page.getByRole("button", { name: "Scale" }).click();
  await page.getByRole("dialog").getByLabel("Tasks").fill("2");
  // The view is drawn anew meanwhile, and what was filled in stays.
  await page.waitForTimeout(2500);
  await page.getByRole("dialog").getByRole("button", { name: "Scale" }).click();
  await done("told to go on with 2 tasks");
  await live.until("reader/times", "running");
  await expect(page.getByRole("region", { name: "Why it is in its state" })).toContainText("2 of 2 tasks");

  await page.getByRole("button", { name: "Stop" }).click();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();
  expect((await live.read("jobs/reader/times")).state).toBe("running");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Stop" }).click();
  await done("told to stop");
  await live.until("reader/times", "stopped");
  await expect(page.getByRole("button", { name: "Stop" })).toBeHidden();
});

test("an agent is drained and offered again", async ({ live, page }) => {
  await open(page, live.url, "#/cluster");
  const agent = page.getByRole("region", { name: "Agents" }).getByRole("row", { name: /^agent-2/ });
  await agent.getByRole("button", { name: "Drain" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Drain" }).click();
  await expect(agent).toContainText(/drain(ing|ed)/);
  await agent.getByRole("button", { name: "Undrain" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Undrain" }).click();
  await expect(agent).toContainText("active");
});

test("volumes are told with where they are, and go by a word", async ({ live, page }) => {
  live.submit("keeps.toml");
  await open(page, live.url, "#/cluster");
  const volume = page.getByRole("region", { name: "Volumes" }).getByRole("row", { name: /^keeps\.keeps\.data\.0/ });
  await expect(volume).toContainText("default");
  await expect(volume).toContainText("8 MiB");
  await expect(async () => live.smack("volumes", "rm", "keeps.keeps.data.0")).toPass();
  await expect(volume).toHaveCount(0);
});

test("what is reserved is told beside what there is", async ({ live, page }) => {
  live.smack("reserve", "agent-1", "ml", "cpus=0.1;mem=64");
  await open(page, live.url, "#/cluster");
  const agent = page.getByRole("region", { name: "Agents" }).getByRole("row", { name: /^agent-1/ });
  await expect(agent).toContainText("reserved for ml: cpus 0.1, mem 64 MiB; not held: cpus 0.1, mem 64 MiB");
  live.smack("unreserve", "agent-1", "ml");
  await expect(agent).not.toContainText("reserved for");
});

test("a hidden tab asks less", async ({ live, page }) => {
  await page.addInitScript(() => {
    let hidden = false;
    Object.defineProperty(document, "hidden", { get: () => hidden });
    Object.assign(window, { hide: (now: boolean) => ((hidden = now), document.dispatchEvent(new Event("visibilitychange"))) });
  });
  await open(page, live.url);
  let asked = 0;
  page.on("request", () => (asked += 1));
  await page.waitForTimeout(5000);
  const shown = asked;
  await page.evaluate("hide(true)");
  await page.waitForTimeout(2000);
  asked = 0;
  await page.waitForTimeout(5000);
  expect(shown).toBeGreaterThan(2);
  expect(asked).toBeLessThan(shown / 2);
  asked = 0;
  await page.evaluate("hide(false)");
  await expect.poll(() => asked).toBeGreaterThan(0);
});

test("what is asked for another view is given up with it", async ({ live, page }) => {
  await page.route("**/api/v1/cluster", async (route) => {
    await new Promise((wake) => setTimeout(wake, 3000));
    await route.continue().catch(() => undefined);
  });
  await open(page, live.url, "#/cluster");
  const given_up = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/cluster"));
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Jobs" }).click();
  expect((await given_up).failure()?.errorText).toContain("ABORTED");
  await expect(page.getByRole("alert")).toBeEmpty();
});

test("each view fits a phone", async ({ live, page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const hash of ["#/", `#/jobs/${live.stream}`, "#/cluster", "#/logs", "#/runs", "#/models", "#/sweeps", "#/schedules", "#/query"]) {
    await open(page, live.url, hash);
    await page.waitForTimeout(1000);
    await expectToFit(page);
  }
});
