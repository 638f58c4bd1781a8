// One operator of a job: the rows that leave it, and the lines that it was made from.

import { dataflow, job, linked, operators, sample, TAG } from "./made.ts";
import { expect, heading, open, test } from "./pages.ts";
import { Refusal, type StandIn } from "./stand_in.ts";

const flow = dataflow(2);

function answers(standIn: StandIn) {
  standIn.answers = {
    version: { version: "0.0.0" },
    "jobs/made/made": job("made/made", { operators: operators(flow) }),
    "jobs/made/made/dataflow": linked(flow),
    "jobs/made/made/sample/group-0": sample,
    "jobs/made/made/sample/source-a": { ...sample, operator: "source-a", rows: [], waited_ms: 5000 },
    "jobs/made/made/sample/sink-b": new Refusal(409, "made/made is restarting: no rows pass through it"),
  };
}

test("rows that leave it are looked at, and again; there may be none, and it may be refused", async ({ standIn, page }) => {
  answers(standIn);
  await open(page, standIn.url, "#/jobs/made/made");
  const details = page.getByRole("region", { name: "The chosen operator" });
  await page.getByRole("button", { name: /^group-0:/ }).click();
  await expect(page).toHaveURL(/#\/jobs\/made\/made\/group-0$/);
  await details.getByRole("button", { name: "Look at its rows" }).click();
  await expect(details).toContainText(/20 rows that left it at .*, after 312 ms/);
  await expect(details).toContainText("op: + a row that came");
  const rows = page.getByRole("region", { name: "Rows of group-0" });
  await expect(rows.getByRole("row")).toHaveCount(21);
  await expect(rows).toContainText(TAG);
  await expect(rows.locator(".absent").first()).toHaveText("NULL");
  standIn.answers["jobs/made/made/sample/group-0"] = { ...sample, rows: sample.rows.slice(0, 1) };
  await details.getByRole("button", { name: "Look again" }).click();
  await expect(details).toContainText("1 row that left it");

  // Along its edges to those beside it.
  await details.getByRole("button", { name: "exchange-0" }).click();
  await expect(details.getByRole("heading")).toHaveText("exchange-0");
  await details.getByRole("button", { name: "source-a" }).click();
  await details.getByRole("button", { name: "Look at its rows" }).click();
  await expect(details).toContainText("no row left it in 5.0 s");
  await page.getByRole("button", { name: /^sink-b:/ }).click();
  await details.getByRole("button", { name: "Look at its rows" }).click();
  await expect(details).toContainText("made/made is restarting: no rows pass through it.");
  expect(await page.evaluate(() => "hit" in window)).toBe(false);

  await page.reload();
  await expect(details.getByRole("heading")).toHaveText("sink-b");
  await expect(page.getByRole("button", { name: /^sink-b:/ })).toHaveAttribute("aria-pressed", "true");
});

test("an operator's lines stand out, and a line's operators, with mouse and keyboard", async ({ standIn, page }) => {
  answers(standIn);
  await open(page, standIn.url, "#/jobs/made/made");
  const lit = page.locator(".codeline.lit");
  const node = (id: string) => page.getByRole("button", { name: new RegExp(`^${id}:`) });
  await expect(lit).toHaveCount(0);
  await node("exchange-0").hover();
  await expect(lit).toHaveText(/^2-- exchange-0/);
  await node("group-0").focus();
  await page.mouse.move(0, 0);
  await expect(lit).toHaveText(/^3-- group-0/);
  await page.keyboard.press("Enter");
  await heading(page).focus();
  await expect(lit).toHaveText(/^3-- group-0/);

  const nodes = page.locator(".node.lit");
  await expect(nodes).toHaveCount(0);
  const line = page.getByRole("button", { name: "line 4: join-0, sink-b" });
  await line.focus();
  await expect(nodes).toHaveCount(2);
  await page.keyboard.press("Enter");
  await expect(line).toHaveAttribute("aria-pressed", "true");
  await heading(page).focus();
  await expect(nodes).toHaveCount(2);
  const made = page.getByRole("status").filter({ hasText: "From line 4:" });
  await made.getByRole("button", { name: "join-0" }).click();
  await expect(node("join-0")).toHaveAttribute("aria-pressed", "true");
  await expect(lit).toHaveText(/^4-- join-0/);
  await page.getByText("-- source-a of").click();
  await expect(page.getByRole("status").filter({ hasText: "From line 1:" })).toContainText("source-asink-b");
});

test("a runner that does not tell lines has its text shown as it is", async ({ standIn, page }) => {
  answers(standIn);
  standIn.answers["jobs/made/made/dataflow"] = flow;
  await open(page, standIn.url, "#/jobs/made/made");
  await expect(page.getByRole("region", { name: "Text of the job file" })).toHaveText(flow.text);
  await expect(page.getByRole("button", { name: /^line / })).toHaveCount(0);
});
