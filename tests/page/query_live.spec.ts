// Questions to a real cluster: what is there, what goes on, and what becomes a job.

import type { Page } from "@playwright/test";
import type { Cluster } from "./cluster.ts";
import { editor, expect, heading, open, test, write } from "./pages.ts";

const answer = (page: Page) => page.getByRole("region", { name: "Answer", exact: true });
const table = (page: Page) => page.getByRole("region", { name: "Rows of the answer" });

async function ask(page: Page, text: string) {
  await write(page, text);
  await page.getByRole("button", { name: "Run" }).click();
}

/** Of the line above the rows. */
async function number(page: Page, of: RegExp): Promise<number> {
  const text = (await answer(page).locator(".summary").textContent()) ?? "";
  return Number(of.exec(text)?.[1]?.replaceAll(",", "") ?? -1);
}

/** Rows are in the table of the store once a checkpoint has put them there. */
async function stored(live: Cluster) {
  await expect.poll(async () => (await live.sql("SELECT COUNT(*) AS n FROM times")).rows[0].n, { timeout: 120_000 }).toBeGreaterThan(5);
}

test("a table of the cluster, and what tells of it", async ({ live, page }) => {
  await stored(live);
  await open(page, live.url, "#/query");
  await ask(page, "SELECT auction, n FROM times ORDER BY n DESC, auction LIMIT 5");
  await expect(answer(page)).toContainText("5 rows");
  await expect(table(page).getByRole("columnheader", { name: /auction/ })).toContainText("BIGINT");
  await ask(page, "DESCRIBE times;");
  await expect(table(page)).toContainText("auction");
  await ask(page, "SHOW TABLES;");
  await expect(table(page)).toContainText("times");
  await ask(page, "EXPLAIN SELECT COUNT(*) FROM times");
  await expect(table(page)).toContainText(/batch/i);
  await expect(page.getByRole("region", { name: "Tables" })).toContainText("times");
});

test("a mistake has its place and the nearest name, and the runner completes", async ({ live, page }) => {
  await open(page, live.url, "#/query");
  await ask(page, "SELECT auction,\n       pricee\nFROM bid");
  const alert = page.getByRole("alert").filter({ hasText: "pricee" });
  await expect(alert).toContainText("did you mean 'price'?");
  await expect(alert.getByRole("button", { name: "line 2, column 8" })).toBeVisible();
  await expect(page.locator(".cm-mistake")).toHaveText("pricee");
  await expect(page.locator(".cm-mistake-below")).toContainText("did you mean 'price'?");

  await write(page, "");
  await page.keyboard.type("SELECT * FROM bi", { delay: 10 });
  await expect(page.getByRole("listbox", { name: "Completions" }).getByRole("option").filter({ hasText: "bid" }).first()).toBeVisible();
});

test("a stream goes on until it is stopped", async ({ live, page }) => {
  await open(page, live.url, "#/query");
  await ask(page, "SELECT auction, price, dateTime FROM bid");
  const rows = () => number(page, /^([\d,]+) rows?/);
  await expect.poll(rows).toBeGreaterThan(100);
  const before = await rows();
  await expect.poll(rows).toBeGreaterThan(before);
  await expect(answer(page)).toContainText("goes on");
  await page.getByRole("radio", { name: "Chart" }).check();
  await expect(page.getByRole("img", { name: /over dateTime/ }).locator("canvas")).toBeVisible();
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(answer(page).locator(".summary")).toContainText("stopped");
  const last = await rows();
  await page.waitForTimeout(1500);
  expect(await rows()).toBe(last);
  await expect(page.getByRole("alert").first()).toBeEmpty();
});

test("counts change where they stand", async ({ live, page }) => {
  await open(page, live.url, "#/query");
  await ask(page, "SELECT channel, COUNT(*) AS n FROM bid WHERE channel IN ('Apple', 'Google', 'Facebook', 'Baidu') GROUP BY channel");
  await expect(answer(page)).toContainText("4 rows");
  const n = async () => Number(await table(page).getByRole("row", { name: /^Apple / }).locator("td").last().innerText());
  await expect.poll(n).toBeGreaterThan(10);
  const before = await n();
  await expect.poll(n).toBeGreaterThan(before);
  await expect(answer(page)).toContainText("changes/s");
  await expect.poll(() => number(page, /rows?([\d,]+) changes/)).toBeGreaterThan(20);
});

test("a SELECT over a job's table is submitted as a job of its own", async ({ live, page }) => {
  await open(page, live.url, "#/query");
  await expect(page.getByRole("region", { name: "Tables" })).toContainText("bid");
  await write(page, "SET job.cpus = '0.1'; SET job.mem = '128MiB';\nSELECT auction, COUNT(*) AS n FROM bid GROUP BY auction");
  await page.getByRole("button", { name: "Submit as job" }).click();
  const dialog = page.getByRole("dialog", { name: "Submit as job" });
  await dialog.getByLabel("Name").fill("counted");
  await expect(dialog.getByRole("region", { name: "What is submitted" })).toContainText("CREATE TABLE bid");
  await expect(dialog.getByRole("region", { name: "What is submitted" })).toContainText("CREATE MATERIALIZED VIEW counted AS");
  await dialog.getByRole("button", { name: "Submit" }).click();
  await expect(heading(page)).toHaveText("counted/counted");
  await live.until("counted/counted", "running");
  await expect(page.getByRole("region", { name: "Text of the job file" })).toContainText("CREATE MATERIALIZED VIEW counted AS");
  live.smack("stop", "counted");
});

test("rows that leave an operator, and the lines it was made from", async ({ live, page }) => {
  await open(page, live.url, `#/jobs/${live.stream}`);
  await page.getByRole("button", { name: /^source-bid:/ }).click();
  await expect(page.locator(".codeline.lit").first()).toContainText("CREATE TABLE bid");
  const details = page.getByRole("region", { name: "The chosen operator" });
  await details.getByRole("button", { name: "Look at its rows" }).click();
  await expect(details).toContainText(/\d+ rows? that left it/);
  await expect(page.getByRole("region", { name: "Rows of source-bid" }).getByRole("row").nth(1)).toBeVisible();
  const line = page.getByRole("button", { name: /^line \d+: .*window-/ }).first();
  await line.click();
  await expect(page.locator(".node.lit").first()).toBeVisible();
});

test("who is connected, and which role uses what", async ({ live, page }) => {
  await open(page, live.url, "#/cluster");
  await expect(page.getByRole("region", { name: "Agents" })).toContainText(/cpus.*used of 4/);
  await expect(page.getByRole("region", { name: "The whole cluster" })).toContainText("used by default");
  const topology = page.getByRole("region", { name: "Topology" });
  await expect(topology).toContainText("smack-training");
  await expect(topology.getByRole("link", { name: live.stream }).first()).toBeVisible();
});

test("a model: what it took for what, and its network; its run: the gang", async ({ live, page }) => {
  await open(page, live.url, "#/models/digits/1");
  const matrix = page.getByRole("region", { name: "Confusion matrix" });
  await expect(matrix.getByRole("row")).toHaveCount(12);
  await expect(matrix).toContainText("recall");
  await expect(page.getByRole("region", { name: "The network, from its inputs to its output" })).toContainText("dense");
  await page.getByRole("link", { name: /^digits-/ }).click();
  await expect(page.getByRole("heading", { name: "Gang" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Generations and checkpoints" })).toContainText("generation 1");
});

test("the editor keeps its text while one looks elsewhere", async ({ live, page }) => {
  await open(page, live.url, "#/query");
  await write(page, "SELECT 1 + 1 AS two");
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Cluster" }).click();
  await expect(heading(page)).toHaveText("Cluster");
  await page.goBack();
  await expect(editor(page)).toHaveText("SELECT 1 + 1 AS two");
});
