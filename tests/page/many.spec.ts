// Thousands of tasks and names that are HTML, which the page is told in the place of the API.

import type { Page } from "@playwright/test";
import { answer, expect, expectToFit, open, test } from "./pages.ts";
import { dataflow, FEW, judged, operators, TAG, world } from "./made.ts";

const n_elements = (page: Page) => page.evaluate(() => document.querySelectorAll("*").length);

/** The longest time for which the page did not answer, while it is used. */
async function stall(page: Page, use: () => Promise<void>): Promise<number> {
  await page.evaluate(() => {
    let last = performance.now();
    const state = { worst: 0 };
    Object.assign(window, { stalled: state });
    setInterval(() => {
      state.worst = Math.max(state.worst, performance.now() - last - 10);
      last = performance.now();
    }, 10);
  });
  await use();
  return page.evaluate(() => (window as unknown as { stalled: { worst: number } }).stalled.worst);
}

test("2,000 tasks of a job: a page of them, filtered and sorted", async ({ empty, page }) => {
  await answer(page, world());
  await open(page, empty.url, "#/jobs/large/large");
  const tasks = page.getByRole("region", { name: "Tasks", exact: true });
  await expect(tasks.getByRole("row")).toHaveCount(51);
  const worst = await stall(page, async () => {
    const pages = page.getByRole("navigation", { name: "Pages of: Tasks" });
    await expect(pages).toContainText("1–50 of 2,000");
    await pages.getByRole("button", { name: "Next" }).click();
    await expect(pages).toContainText("51–100 of 2,000");
    await tasks.getByRole("button", { name: "rows in" }).click();
    await tasks.getByRole("button", { name: "rows in" }).click();
    await expect(tasks.getByRole("row").nth(1)).toContainText("large.large.1.1949.");
    await tasks.locator("xpath=..").getByLabel("Filter").fill("failed");
    await expect(tasks.getByRole("row")).toHaveCount(2);
    await expect(tasks).toContainText(TAG);
    await page.waitForTimeout(3000);
  });
  console.log(`2,000 tasks: ${await n_elements(page)} elements; the tab stood still for ${worst.toFixed(0)} ms at most`);
  expect(await n_elements(page)).toBeLessThan(10_000);
});

test("its dataflow of 92 operators is drawn, and used with the keyboard", async ({ empty, page }) => {
  await answer(page, world());
  await open(page, empty.url, "#/jobs/large/large");
  const graph = page.getByRole("region", { name: /^The dataflow/ });
  await expect(graph.getByRole("button")).toHaveCount(92);
  await graph.getByRole("button", { name: /^group-0:/ }).focus();
  await page.keyboard.press("Enter");
  const details = page.getByRole("region", { name: "The chosen operator" });
  await expect(details).toContainText("can take back an earlier one");
  await expect(details).toContainText("20.0 MB");
  await expect(graph.getByRole("button", { name: /^group-0:/ })).toHaveAttribute("aria-pressed", "true");
  await expect(page.getByRole("region", { name: "Failures of checkpoints" })).toContainText("failed: the disk is full");
});

test("a dataflow of 902 operators is told, not drawn", async ({ empty, page }) => {
  const flow = dataflow(300);
  const said = world();
  await answer(page, { ...said, "jobs/large/large": { ...(said["jobs/large/large"] as object), operators: operators(flow) }, "jobs/large/large/dataflow": flow });
  await open(page, empty.url, "#/jobs/large/large");
  await expect(page.getByText("Its 902 operators are too many to be drawn")).toBeVisible();
  await expect(page.getByRole("navigation", { name: "Pages of: Operators" })).toContainText("1–50 of 902");
});

test("4,000 tasks of 401 jobs, 500 agents and 2,000 offers", async ({ empty, page }) => {
  await answer(page, world());
  for (const [hash, region, pages] of [
    ["#/", "Jobs", "1–50 of 402"],
    ["#/logs", "Tasks", "1–50 of 4,000"],
    ["#/cluster", "Agents", "1–25 of 500"],
    ["#/cluster", "Offers, the latest first", "1–25 of 2,000"],
  ] as const) {
    await open(page, empty.url, hash);
    await expect(page.getByRole("navigation", { name: `Pages of: ${region}` })).toContainText(pages);
    expect(await n_elements(page)).toBeLessThan(10_000);
    await expectToFit(page);
  }
});

test("what is HTML is shown as text, and runs nothing", async ({ empty, page }) => {
  const said = world();
  await answer(page, said);
  await page.route("**/api/v1/logs/**", (route) => route.fulfill({ contentType: "text/plain", headers: { "x-size": "200", "x-offset": "0" }, body: `${TAG}\n` }));
  for (const hash of ["#/", "#/jobs/hostile/hostile", "#/jobs/large/large", "#/cluster", "#/logs", `#/logs/${encodeURIComponent(TAG)}`, "#/runs", "#/runs/made-1,made-2", "#/models", "#/models/made/7", "#/sweeps", "#/sweeps/search", "#/schedules"]) {
    await open(page, empty.url, hash);
    if (hash !== "#/logs" && hash !== "#/runs") await expect(page.getByRole("main")).toContainText("<b>bold</b>");
    expect(await page.evaluate(() => [document.querySelectorAll("main img, main b b, main td > b").length, "hit" in window])).toEqual([0, false]);
  }
});

test("what each role uses of an agent, and for how long a declined offer is refused", async ({ empty, page }) => {
  await answer(page, world(FEW));
  await open(page, empty.url, "#/cluster");
  const agent = page.getByRole("region", { name: "Agents" }).getByRole("row", { name: /^agent-2 / });
  await expect(agent).toContainText("16 used, 8 offered of 64");
  await expect(agent).toContainText("team-2 10, team-3 6");
  await expect(agent.locator(".bar").first().locator(".role")).toHaveCount(2);
  await expect(page.getByRole("region", { name: "The whole cluster" })).toContainText("used by team-");
  const offers = page.getByRole("region", { name: "Offers, the latest first" });
  await expect(offers.getByRole("row", { name: /^o-23-1 / })).toContainText("declined, refused for 5.0 s");
  await expect(offers.getByRole("row", { name: /^o-23-5 / })).toContainText("accepted, 1 task");
  await expect(page.getByRole("region", { name: "Topology" })).toContainText("zone z1, rack r1");
});

test("a classification: what was taken for what, recall, precision and scores; and the layers of its network", async ({ empty, page }) => {
  const said = world(FEW);
  await answer(page, said);
  await open(page, empty.url, "#/models/made/7");
  await expect(page.getByText("1,799 are right, 99.7 %.")).toBeVisible();
  const matrix = page.getByRole("region", { name: "Confusion matrix" });
  await expect(matrix.getByRole("row", { name: /^1 / })).toHaveText(/^1\s*2\s*899\s*99\.8 %$/);
  await expect(page.getByRole("region", { name: "Scores" }).getByRole("row")).toHaveCount(11);
  const network = page.getByRole("region", { name: "The network, from its inputs to its output" });
  await expect(network.getByRole("listitem")).toHaveCount(9);
  await expect(network).toContainText("vocabulary 4096, units 1, combine sum");

  // Where the shapes are told, they are shown.
  const graph = { parameters: 1234, nodes: [{ id: "in", kind: "input", text: "2 columns", inputs: [], shape: [2], parameters: 0 }, { id: "out", kind: "dense", text: "units 1", inputs: ["in"], shape: [1], parameters: 1234 }] };
  await answer(page, { ...said, "models/made/7": { ...(said["models/made/7"] as object), graph, evaluation: judged(40) } });
  await open(page, empty.url, "#/models");
  await open(page, empty.url, "#/models/made/7");
  await expect(page.getByText("1,234 parameters in all.")).toBeVisible();
  await expect(network.getByRole("listitem").last()).toContainText("[1], 1,234 parameters");
  // Of many classes there is no matrix that one could read.
  await expect(page.getByRole("region", { name: "Recall and precision by class" }).getByRole("row")).toHaveCount(21);
});

test("several runs over each other, told apart by more than colour", async ({ empty, page }) => {
  await answer(page, world());
  await open(page, empty.url, "#/runs");
  await page.getByLabel("compare made-2").check();
  await page.getByLabel("compare made-3").check();
  await page.getByRole("link", { name: "Compare 2 runs" }).click();
  await expect(page.getByRole("img", { name: /^loss: made-2 goes .*; made-3 goes / })).toBeVisible();
  await page.getByLabel("Lay over").selectOption("made-4");
  await expect(page.getByRole("img", { name: /^loss: .*made-4 goes / })).toBeVisible();
  await page.getByLabel("Smoothing").fill("0");
  await page.getByLabel("Logarithmic").check();
  await page.getByRole("combobox", { name: /^Over/ }).selectOption("s");
  await expect(page.getByRole("img", { name: /^auc, by the evaluator: / })).toBeVisible();
  await expect(page.getByRole("region", { name: "In what they differ" })).toContainText("seed");
  const dashes = await page.locator(".runs line").evaluateAll((lines) => lines.map((line) => line.getAttribute("stroke-dasharray")));
  expect(new Set(dashes).size).toBe(3);
});

test("a token is asked for once, and kept for the tab", async ({ empty, page }) => {
  const said = world();
  await page.route("**/api/v1/**", (route) => {
    if (route.request().headers().authorization !== "Bearer open sesame") return route.fulfill({ status: 401, json: { error: "the token is missing or wrong" } });
    return route.fulfill({ json: said[new URL(route.request().url()).pathname.replace("/api/v1/", "")] ?? {} });
  });
  await open(page, empty.url);
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(page.getByText("The token that was shown is not the cluster's.")).toBeVisible();
  await page.getByLabel("Token").fill("open sesame");
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(page.getByRole("main")).toContainText("402 jobs");
  await page.reload();
  await expect(page.getByRole("main")).toContainText("402 jobs");
});
