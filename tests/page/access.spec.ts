// Whether everyone can use it: axe finds nothing serious in any view, light and dark, wide and narrow. Each is kept as a
// picture.

import { answer, expect, expectAccessible, expectToFit, heading, open, shoot, test } from "./pages.ts";
import { world } from "./made.ts";

const SIZES = [
  { width: 1280, height: 800 },
  { width: 390, height: 844 },
];

for (const colorScheme of ["light", "dark"] as const) {
  for (const viewport of SIZES) {
    test.describe(`${colorScheme}, ${viewport.width} pixels wide`, () => {
      test.use({ colorScheme, viewport });
      const named = (name: string) => `${name}-${viewport.width}-${colorScheme}`;

      test("with live data", async ({ live, page }) => {
        const noisy = await live.taskOf("noisy/noisy");
        const { runs } = await live.read("runs");
        for (const [name, hash] of [
          ["jobs", "#/"],
          ["job", `#/jobs/${live.stream}`],
          ["waiting", "#/jobs/huge/huge"],
          ["training", "#/jobs/digits/digits"],
          ["cluster", "#/cluster"],
          ["tasks", "#/logs"],
          ["log", `#/logs/${noisy}`],
          ["runs", "#/runs"],
          ["run", `#/runs/${runs[0].id}`],
          ["models", "#/models"],
          ["model", "#/models/digits/1"],
        ] as const) {
          await open(page, live.url, hash);
          await expect(page.getByText("Reading …")).toBeHidden();
          await page.waitForTimeout(1200);
          await expectAccessible(page);
          await expectToFit(page);
          await shoot(page, named(name));
        }
      });

      test("with nothing", async ({ empty, page }) => {
        for (const [name, hash] of [
          ["no-jobs", "#/"],
          ["no-runs", "#/runs"],
          ["no-such-job", "#/jobs/no/such"],
        ] as const) {
          await open(page, empty.url, hash);
          await page.waitForTimeout(1000);
          await expectAccessible(page);
          await shoot(page, named(name));
        }
      });

      test("with thousands, sweeps and schedules, and a dialog", async ({ empty, page }) => {
        await answer(page, world());
        for (const [name, hash] of [
          ["many-jobs", "#/"],
          ["many-tasks", "#/jobs/large/large"],
          ["many-agents", "#/cluster"],
          ["many-runs", "#/runs/made-1,made-2,made-3"],
          ["sweeps", "#/sweeps"],
          ["sweep", "#/sweeps/search"],
          ["schedules", "#/schedules"],
        ] as const) {
          await open(page, empty.url, hash);
          await page.waitForTimeout(1000);
          await expectAccessible(page);
          await expectToFit(page);
          await shoot(page, named(name));
        }
        await open(page, empty.url, "#/jobs/large/large");
        await page.getByRole("button", { name: "Scale" }).click();
        await expectAccessible(page);
        await shoot(page, named("dialog"));
      });

      test("while the runner is away", async ({ empty, page }) => {
        await open(page, empty.url);
        await page.route("**/api/v1/**", (route) => route.abort());
        await expect(page.getByRole("alert")).toContainText("the runner does not answer");
        await expectAccessible(page);
        await shoot(page, named("away"));
      });
    });
  }
}

test("all of it is reached with the keyboard", async ({ live, page }) => {
  await open(page, live.url);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(heading(page)).toBeFocused();
  const link = page.getByRole("link", { name: live.stream, exact: true });
  await expect(link).toBeVisible();
  for (let n = 0; n < 40 && !(await link.evaluate((element) => element === document.activeElement)); n += 1) await page.keyboard.press("Tab");
  await expect(link).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(heading(page)).toHaveText(live.stream);
  await expect(heading(page)).toBeFocused();
});
