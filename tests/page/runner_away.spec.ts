// The runner is killed while one looks, and comes back. Its name comes last, since it knows no events of before its start.

import type { Page } from "@playwright/test";
import type { Cluster } from "./cluster.ts";
import { expect, open, test, write } from "./pages.ts";

/** `smack dev` starts it again, and the sooner it dies the later; so it is killed until that is seen. */
async function kill(live: Cluster, page: Page) {
  await expect(async () => {
    live.killRunner();
    await expect(page.getByRole("alert").first()).toContainText(/the runner (does not answer|broke off its answer) since/, { timeout: 300 });
  }).toPass({ timeout: 60_000, intervals: [100] });
}

test("the page says that the runner is away, keeps what it showed, and recovers", async ({ live, page }) => {
  await open(page, live.url, `#/jobs/${live.stream}`);
  const tasks = page.getByRole("region", { name: "Tasks" });
  await expect(tasks).toContainText("auctions.most.");

  await kill(live, page);
  await expect(tasks).toContainText("auctions.most.");

  await expect(page.getByRole("alert")).toBeEmpty({ timeout: 60_000 });
  const rows = page.locator(".figures div", { hasText: /^rows in\d/ }).locator("dd");
  const before = await rows.textContent();
  await expect(rows).not.toHaveText(before ?? "");
});

test("a stream of rows is broken off with the runner, and asked for again when it is back", async ({ live, page }) => {
  await open(page, live.url, "#/query");
  await write(page, "SELECT auction, price FROM bid");
  await page.getByRole("button", { name: "Run" }).click();
  const summary = page.getByRole("region", { name: "Answer", exact: true }).locator(".summary");
  const rows = async () => Number(/^([\d,]+) row/.exec((await summary.textContent()) ?? "")?.[1]?.replaceAll(",", "") ?? -1);
  await expect.poll(rows).toBeGreaterThan(10);
  await kill(live, page);
  await expect(summary).toContainText("broken off, asked again when the runner answers");
  await expect(page.getByRole("region", { name: "Rows of the answer" }).getByRole("row").nth(1)).toBeVisible();

  await expect(summary).toContainText("begun anew at", { timeout: 120_000 });
  await expect(page.getByRole("alert").first()).toBeEmpty();
  const before = await rows();
  await expect.poll(rows).toBeGreaterThan(before);
});
