// Whether everyone can use it: axe finds nothing serious in any view, light and dark, wide and narrow. Each is kept as a
// picture.

import { answer, editor, expect, expectAccessible, expectToFit, heading, open, shoot, test, write } from "./pages.ts";
import { columns, FEW, rows, world } from "./made.ts";
import { Refusal } from "./stand_in.ts";

/** What is drawn behind the first answer is there by then, on most machines; what is checked is whatever is there. */
const SETTLES_MS = 300;

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
          ["query", "#/query"],
        ] as const) {
          await open(page, live.url, hash);
          await expect(page.getByText("Reading …")).toBeHidden();
          await page.waitForTimeout(SETTLES_MS);
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
          await page.waitForTimeout(SETTLES_MS);
          await expectAccessible(page);
          await shoot(page, named(name));
        }
      });

      test("with much of everything, and a dialog", async ({ empty, page }) => {
        await answer(page, world(FEW));
        for (const [name, hash] of [
          ["many-jobs", "#/"],
          ["many-tasks", "#/jobs/large/large"],
          ["many-agents", "#/cluster"],
          ["many-runs", "#/runs/made-1,made-2,made-3"],
          ["judged-run", "#/runs/made-2"],
          ["judged-model", "#/models/made/7"],
          ["sweeps", "#/sweeps"],
          ["sweep", "#/sweeps/search"],
          ["schedules", "#/schedules"],
        ] as const) {
          await open(page, empty.url, hash);
          await page.waitForTimeout(SETTLES_MS);
          await expectAccessible(page);
          await expectToFit(page);
          await shoot(page, named(name));
        }
        await open(page, empty.url, "#/jobs/large/large");
        await page.getByRole("button", { name: "Scale" }).click();
        await expectAccessible(page);
        await shoot(page, named("dialog"));
      });

      test("questions: rows, charts, mistakes, completion, and what becomes a job", async ({ standIn, page }) => {
        standIn.answers = world(FEW);
        const seen = async (name: string) => {
          await expectAccessible(page);
          await expectToFit(page);
          await shoot(page, named(name));
        };
        await open(page, standIn.url, "#/query");
        await page.getByText("payments table").click();
        await seen("no-query");
        const run = async (text: string) => {
          const n = standIn.asked.length;
          await write(page, text);
          await page.getByRole("button", { name: "Run" }).click();
          await expect.poll(() => standIn.asked.length).toBe(n + 1);
        };
        await run("SELECT * FROM clicks -- all of them\nWHERE amount > 10 AND note <> 'none';");
        standIn.last.say({ ...columns, changes: false }, { rows: rows(120) }, { notice: "the broker at 127.0.0.1:9092 does not answer" });
        await expect(page.getByRole("region", { name: "Rows of the answer" })).toContainText("note 119");
        await seen("query-rows");
        await page.getByRole("radio", { name: "Chart" }).check();
        await expect(page.getByRole("img", { name: /over at/ })).toBeVisible();
        await seen("query-chart");
        await page.getByRole("combobox", { name: "As" }).selectOption("bar");
        await page.getByRole("combobox", { name: "Over" }).selectOption("country");
        await page.getByRole("checkbox", { name: "amount" }).check();
        await seen("query-bars");
        await page.getByRole("button", { name: "Stop" }).click();
        await seen("query-stopped");
        standIn.answers["sql/stream"] = new Refusal(422, "2 mistakes", [
          { message: "unknown column 'amuont'", span: [7, 13], help: "did you mean 'amount'?" },
          { message: "unknown table 'paymnts'", span: [19, 26], help: null },
        ]);
        await write(page, "SELECT amuont FROM paymnts");
        await page.getByRole("button", { name: "Run" }).click();
        await expect(page.locator(".cm-mistake-below")).toHaveCount(2);
        await seen("query-mistakes");
        await write(page, "SELECT url FROM clicks");
        await page.getByRole("button", { name: "Submit as job" }).click();
        await expect(page.getByRole("dialog")).toContainText("goes nowhere");
        await seen("query-submit");
        await page.keyboard.press("Escape");
        await write(page, "");
        await editor(page).focus();
        await page.keyboard.type("SELECT pay");
        await expect(page.getByRole("listbox", { name: "Completions" })).toBeVisible();
        await seen("query-completion");
      });

      test("an operator with its rows and the lines it was made from", async ({ standIn, page }) => {
        standIn.answers = world(FEW);
        await open(page, standIn.url, "#/jobs/large/large/group-0");
        await page.getByRole("button", { name: "Look at its rows" }).click();
        await expect(page.getByRole("region", { name: "Rows of group-0" })).toBeVisible();
        await page.getByRole("button", { name: /^line 4:/ }).click();
        await expectAccessible(page);
        await expectToFit(page);
        await shoot(page, named("operator"));
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
