// The runner is killed while one looks, and comes back. Its name comes last, since it knows no events of before its start.

import { expect, open, test } from "./pages.ts";

test("the page says that the runner is away, keeps what it showed, and recovers", async ({ live, page }) => {
  await open(page, live.url, `#/jobs/${live.stream}`);
  const tasks = page.getByRole("region", { name: "Tasks" });
  await expect(tasks).toContainText("auctions.most.");

  // `smack dev` starts it again, and the sooner it dies the later; so it is killed until that is seen.
  const alert = page.getByRole("alert");
  await expect(async () => {
    live.killRunner();
    await expect(alert).toContainText("the runner does not answer since", { timeout: 300 });
  }).toPass({ timeout: 60_000, intervals: [100] });
  await expect(tasks).toContainText("auctions.most.");

  await expect(alert).toBeEmpty({ timeout: 60_000 });
  const rows = page.locator(".figures div", { hasText: /^rows in\d/ }).locator("dd");
  const before = await rows.textContent();
  await expect(rows).not.toHaveText(before ?? "");
});
