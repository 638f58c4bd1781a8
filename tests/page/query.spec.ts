// Questions and what becomes of them, with a stand-in for the runner that answers when a test says so.

import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { catalog, columns, rows, TAG } from "./made.ts";
import { editor, expect, heading, open, test, write } from "./pages.ts";
import { Refusal, type StandIn } from "./stand_in.ts";

const answer = (page: Page) => page.getByRole("region", { name: "Answer", exact: true });
const table = (page: Page) => page.getByRole("region", { name: "Rows of the answer" });
/** Each cell of the rows that are shown, by row. */
const cells = (page: Page) =>
  table(page)
    .locator("tbody tr")
    .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => (cell as HTMLElement).innerText)));
const run = (page: Page) => page.getByRole("button", { name: "Run" }).click();

async function ask(page: Page, standIn: StandIn, text: string) {
  const n = standIn.asked.length;
  await write(page, text);
  await run(page);
  await expect.poll(() => standIn.asked.length).toBe(n + 1);
  return standIn.last;
}

test.beforeEach(async ({ standIn }) => {
  standIn.answers = { version: { version: "0.0.0" }, "sql/catalog": catalog };
});

test("an answer that ends: values as they are, sorted, paged, and how long it took", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT * FROM payments;");
  expect(asked.sql).toBe("SELECT * FROM payments;");
  asked.end({ ...columns, changes: false }, { rows: rows(100) }, { end: true });
  await expect(answer(page)).toContainText(/100 rows.*\d+(\.\d)? m?s/);
  const first = (await cells(page))[0];
  expect(first?.slice(0, 4)).toEqual(["0", "US", "0", "2026-01-01T00:00:00.123456"]);
  const row = (n: number) => table(page).locator("tbody tr").nth(n);
  // No value, a text of these letters, and a text without any are three things.
  await expect(row(3).locator("td").nth(0).locator(".absent")).toHaveText("NULL");
  await expect(row(2).locator("td").nth(3).locator(".value")).toHaveText("NULL");
  await expect(row(1).locator("td").nth(3).locator(".absent")).toHaveText("empty text");
  await expect(row(4).locator("td").nth(3)).toContainText("… 5,000 characters");
  await expect(row(0).locator("td").nth(1)).toHaveCSS("text-align", "right");
  await expect(table(page).getByRole("columnheader", { name: /amount/ })).toContainText("DOUBLE");
  await page.getByRole("navigation", { name: "Pages of: Rows of the answer" }).getByRole("button", { name: "Next" }).click();
  await expect(row(0).locator("th")).toHaveText("50");
  await table(page).getByRole("button", { name: "id" }).click();
  await table(page).getByRole("button", { name: "id" }).click();
  await page.getByRole("navigation", { name: "Pages of: Rows of the answer" }).getByRole("button", { name: "Previous" }).click();
  await expect(row(0).locator("th")).toHaveText("99");
});

test("what is HTML is shown as text in answers, names, types, mistakes and notices", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT 1;");
  asked.end({ columns: [TAG, "b"], types: [TAG, "VARCHAR"], changes: false }, { notice: TAG }, { rows: [{ [TAG]: TAG, b: { [TAG]: TAG } }] }, { end: true });
  await expect(table(page)).toContainText("<b>bold</b>");
  await page.getByRole("radio", { name: "Chart" }).check();
  await page.getByRole("region", { name: "Tables" }).getByText(TAG).first().click();
  standIn.answers["sql/stream"] = new Refusal(422, TAG, [{ message: TAG, span: [0, 6], help: TAG }]);
  await run(page);
  await expect(page.getByRole("alert").filter({ hasText: "bold" })).toContainText(TAG);
  expect(await page.evaluate(() => [document.querySelectorAll("main img").length, "hit" in window])).toEqual([0, false]);
});

test("whole numbers keep all of their digits, and text its letters, however the answer is cut into pieces", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT a, b, c FROM t;");
  const text = `${JSON.stringify({ columns: ["a", "b", "c"], types: ["BIGINT", "DOUBLE", "VARCHAR"], changes: false })}\n{"rows":[{"a":9223372036854775807,"b":1e300,"c":"größer als 9223372036854775807 🦀"},{"a":-9007199254740993,"b":0.1,"c":"x"}]}\n{"end":true}\n`;
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += 7) {
    asked.write(bytes.subarray(at, at + 7));
    await new Promise((wake) => setImmediate(wake));
  }
  asked.end();
  await expect(answer(page)).toContainText("2 rows");
  expect(await cells(page)).toEqual([
    ["9223372036854775807", "1e+300", "größer als 9223372036854775807 🦀"],
    ["-9007199254740993", "0.1", "x"],
  ]);
});

test("what is downloaded and copied are the rows as CSV", async ({ standIn, page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT 1;");
  asked.end({ columns: ["a", "b, c"], types: ["BIGINT", "VARCHAR"] }, { rows: [{ a: 1, "b, c": 'x "y"\nz' }, { a: null, "b, c": "" }] }, { end: true });
  await expect(answer(page)).toContainText("2 rows");
  const csv = 'a,"b, c"\r\n1,"x ""y""\nz"\r\n,""\r\n';
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  expect(readFileSync(await (await download).path(), "utf8")).toBe(csv);
  await page.getByRole("button", { name: "Copy as CSV" }).click();
  await expect(page.getByText("2 rows copied")).toBeVisible();
  expect((await page.evaluate(() => navigator.clipboard.readText())).replaceAll("\r\n", "\n")).toBe(csv.replaceAll("\r\n", "\n"));
});

test("more rows than a page shows: the first thousand of what ends, and that there are more", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT * FROM payments;");
  asked.say({ ...columns, changes: false, bounded: true });
  for (let n = 0; n < 12; n += 1) asked.say({ rows: rows(100) });
  await expect(answer(page)).toContainText("the first 1,000 rows");
  await expect(answer(page)).toContainText("truncated");
  await expect.poll(() => asked.closed).toBe(true);
  await expect(page.getByRole("navigation", { name: "Pages of: Rows of the answer" })).toContainText("1–50 of 1,000");
});

test("mistakes are shown at their place, under the line and in words, and one gets there", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const text = "SELECT 'größer', amuont\nFROM paymnts";
  const place = (word: string): [number, number] => {
    const from = Buffer.byteLength(text.slice(0, text.indexOf(word)));
    return [from, from + word.length];
  };
  standIn.answers["sql/stream"] = new Refusal(422, "the query has 2 mistakes", [
    { message: "unknown table 'paymnts'", span: place("paymnts"), help: "did you mean 'payments'?" },
    { message: "unknown column 'amuont'", span: place("amuont"), help: null },
  ]);
  await write(page, text);
  await page.keyboard.press("Control+Enter");
  const alert = page.getByRole("alert").filter({ hasText: "2 mistakes" });
  await expect(alert).toContainText("did you mean 'payments'?");
  await expect(page.locator(".cm-mistake")).toHaveText(["amuont", "paymnts"]);
  await expect(page.locator(".cm-mistake-below")).toHaveText(["▲ unknown column 'amuont'", "▲ unknown table 'paymnts'did you mean 'payments'?"]);
  await alert.getByRole("button", { name: "line 1, column 18" }).click();
  await expect(editor(page)).toBeFocused();
  await page.keyboard.press("Shift+ControlOrMeta+ArrowRight");
  expect(await page.evaluate(() => (document.querySelector(".editor")?.shadowRoot as unknown as { getSelection?: () => Selection })?.getSelection?.()?.toString() ?? "amuont")).toContain("amuont");

  // They go along with what is written around them, and with what they are of.
  await page.keyboard.press("ControlOrMeta+Home");
  await page.keyboard.insertText("-- mended soon\n");
  await expect(page.locator(".cm-mistake")).toHaveText(["amuont", "paymnts"]);
  await expect(alert.getByRole("button")).toHaveCount(0);
  await write(page, "SELECT 1");
  await expect(page.locator(".cm-mistake-below")).toHaveCount(0);

  // It is mended, and nothing of it stays.
  delete standIn.answers["sql/stream"];
  const asked = await ask(page, standIn, "SELECT amount FROM payments");
  asked.end({ columns: ["amount"], types: ["DOUBLE"] }, { rows: [] }, { end: true });
  await expect(answer(page)).toContainText("0 rows");
  await expect(page.locator(".cm-mistake")).toHaveCount(0);
  await expect(page.getByText("There are no rows.")).toBeVisible();
  await expect(alert).toHaveCount(0);
});

test("a failure without a place, before the rows and in the middle of them", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  standIn.answers["sql/stream"] = new Refusal(503, "8 queries that never end are open; end one of them, or submit it as a job");
  await write(page, "SELECT 1");
  await run(page);
  await expect(page.getByRole("alert").filter({ hasText: "8 queries" })).toBeVisible();
  delete standIn.answers["sql/stream"];
  const asked = await ask(page, standIn, "SELECT 1 / 0");
  asked.end({ columns: ["a"], types: ["BIGINT"] }, { rows: [{ a: 1 }] }, { error: "failed to run the query: divide by zero" });
  await expect(page.getByRole("alert").filter({ hasText: "divide by zero" })).toBeVisible();
  await expect(answer(page)).toContainText("broken off");
  expect(await cells(page)).toEqual([["1"]]);
});

test("a stream is shown as it comes, the latest first, its chart moves along, and it is stopped", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT at, amount FROM clicks");
  const at = (n: number) => ({ at: new Date(1_790_000_000_000 + n * 1000).toISOString(), amount: n });
  asked.say({ columns: ["at", "amount"], types: ["TIMESTAMP", "DOUBLE"], changes: false }, { rows: [] });
  await expect(page.getByText("No row has come yet.")).toBeVisible();
  asked.say({ rows: [at(0), at(1)] });
  await expect(answer(page)).toContainText("2 rows");
  expect((await cells(page)).map((row) => row[1])).toEqual(["1", "0"]);
  asked.say({ rows: [at(2)] });
  await expect(answer(page)).toContainText("3 rows");
  await expect(answer(page)).toContainText("rows/s");
  expect((await cells(page))[0]?.[1]).toBe("2");

  await page.getByRole("radio", { name: "Chart" }).check();
  const chart = page.getByRole("img", { name: "amount over at, 3 rows; the table has the same" });
  await expect(chart.locator("canvas")).toBeVisible();
  asked.say({ rows: [at(3), at(4)] });
  await expect(page.getByRole("img", { name: "amount over at, 5 rows; the table has the same" })).toBeVisible();
  await page.getByRole("combobox", { name: "As" }).selectOption("bar");
  await expect(page).toHaveURL(/as%3Dbar/);

  await page.getByRole("button", { name: "Stop" }).click();
  await expect.poll(() => asked.closed).toBe(true);
  await expect(answer(page).locator(".summary")).toContainText("stopped");
  await expect(page.getByRole("button", { name: "Stop" })).toBeDisabled();
  await expect(page.getByRole("alert").first()).toBeEmpty();
});

test("of a long stream the latest thousand are held", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT n FROM clicks");
  asked.say({ columns: ["n"], types: ["BIGINT"], changes: false });
  for (let line = 0; line < 60; line += 1) asked.say({ rows: Array.from({ length: 1000 }, (_, at) => ({ n: line * 1000 + at })) });
  await expect(answer(page)).toContainText("60,000 rows");
  await expect(answer(page)).toContainText("the latest 1,000 are shown");
  await expect(page.getByRole("navigation", { name: "Pages of: Rows of the answer" })).toContainText("1–50 of 1,000");
  await expect.poll(async () => (await cells(page))[0]).toEqual(["59999"]);
  asked.end({ end: true });
  // Of what has ended after all, the first.
  await expect(answer(page)).toContainText("the first 1,000 are shown");
  await expect.poll(async () => (await cells(page))[0]).toEqual(["0"]);
});

test("rows that come and go are folded into those that are there, in their places where a key tells them apart", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT country, COUNT(*) AS n FROM clicks GROUP BY country");
  asked.say({ columns: ["op", "country", "n"], types: ["VARCHAR", "VARCHAR", "BIGINT"], changes: true, key: ["country"] });
  asked.say({ rows: [{ op: "+I", country: "US", n: 1 }, { op: "+I", country: "DE", n: 1 }, { op: "+I", country: null, n: 7 }] });
  await expect(answer(page)).toContainText("3 rows");
  asked.say({ rows: [{ op: "-U", country: "US", n: 1 }, { op: "+U", country: "US", n: 2 }, { op: "-D", country: null, n: 7 }] });
  await expect(answer(page)).toContainText("2 rows");
  expect(await cells(page)).toEqual([["US", "2"], ["DE", "1"]]);
  await expect(answer(page)).toContainText("6 changes");
});

test("without a key rows are taken back by what they hold, one of equal ones at a time", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT n FROM clicks");
  asked.say({ columns: ["op", "n"], types: ["VARCHAR", "BIGINT"], changes: true });
  // The last one is taken back before it comes.
  asked.say({ rows: [{ op: "+", n: 1 }, { op: "+", n: 1 }, { op: "+", n: 2 }, { op: "-", n: 3 }] });
  await expect(answer(page)).toContainText("4 changes");
  expect((await cells(page)).flat().sort()).toEqual(["1", "1", "2"]);
  asked.say({ rows: [{ op: "-", n: 1 }, { op: "+", n: 3 }] });
  await expect(answer(page)).toContainText("6 changes");
  expect((await cells(page)).flat().sort()).toEqual(["1", "2"]);
});

test("more rows at a time than the page can hold end the query, with what to do", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const asked = await ask(page, standIn, "SELECT id, COUNT(*) AS n FROM clicks GROUP BY id");
  asked.say({ columns: ["op", "id", "n"], types: ["VARCHAR", "BIGINT", "BIGINT"], changes: true });
  for (let line = 0; line < 25; line += 1) asked.say({ rows: Array.from({ length: 1000 }, (_, at) => ({ op: "+", id: line * 1000 + at, n: 1 })) });
  await expect(page.getByRole("alert").filter({ hasText: "more rows are there at a time than the page can hold" })).toBeVisible();
  await expect.poll(() => asked.closed).toBe(true);
});

test("whoever leaves, or asks again, ends the query", async ({ standIn, page }) => {
  standIn.answers.jobs = { jobs: [] };
  await open(page, standIn.url, "#/query");
  const first = await ask(page, standIn, "SELECT n FROM clicks");
  first.say({ columns: ["n"], types: ["BIGINT"] }, { rows: [{ n: 1 }] });
  await expect(answer(page)).toContainText("1 row");
  const second = await ask(page, standIn, "SELECT n + 1 FROM clicks");
  await expect.poll(() => first.closed).toBe(true);
  second.say({ columns: ["n"], types: ["BIGINT"] }, { rows: [{ n: 2 }] });
  await expect.poll(() => cells(page)).toEqual([["2"]]);
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Jobs" }).click();
  await expect(heading(page)).toHaveText("Jobs");
  await expect.poll(() => second.closed).toBe(true);
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Query" }).click();
  await expect(editor(page)).toHaveText("SELECT n + 1 FROM clicks");
});

test("a stream that the runner breaks off is kept, said to be, and asked for again", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const first = await ask(page, standIn, "SELECT n FROM clicks");
  first.say({ columns: ["n"], types: ["BIGINT"] }, { rows: [{ n: 1 }, { n: 2 }] });
  await expect(answer(page)).toContainText("2 rows");
  standIn.away = true;
  first.break();
  await expect(page.getByRole("alert").first()).toContainText("the runner");
  await expect(answer(page).locator(".summary")).toContainText("broken off, asked again when the runner answers");
  expect(await cells(page)).toEqual([["2"], ["1"]]);
  standIn.away = false;
  await expect.poll(() => standIn.asked.length).toBe(2);
  standIn.last.say({ columns: ["n"], types: ["BIGINT"] }, { rows: [{ n: 9 }] });
  await expect.poll(() => cells(page)).toEqual([["9"]]);
  await expect(page.getByRole("alert").first()).toBeEmpty();
  await expect(answer(page)).toContainText("begun anew at");
});

test("a query that breaks the runner again and again is given up; one that ends by itself is not asked again", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  await write(page, "SELECT n FROM clicks");
  await run(page);
  for (let n = 1; n <= 4; n += 1) {
    await expect.poll(() => standIn.asked.length).toBe(n);
    standIn.last.say({ columns: ["n"], types: ["BIGINT"] }, { rows: [{ n }] });
    await expect.poll(() => cells(page)).toEqual([[String(n)]]);
    standIn.last.break();
  }
  await expect(page.getByRole("alert").filter({ hasText: "the runner broke off its answer" })).toBeVisible();
  const asked = await ask(page, standIn, "SELECT n FROM payments");
  asked.say({ columns: ["n"], types: ["BIGINT"], bounded: true }, { rows: [{ n: 1 }] });
  await expect(answer(page)).toContainText("1 row");
  asked.break();
  await expect(page.getByRole("alert").filter({ hasText: "the runner broke off its answer" })).toBeVisible();
  await expect(answer(page).locator(".summary")).toContainText("broken off");
});

test("a runner without streams of rows answers all at once, and so does what tells of tables", async ({ standIn, page }) => {
  standIn.answers["sql/stream"] = new Refusal(404, "there is nothing at /api/v1/sql/stream");
  standIn.answers.sql = ({ sql }: { sql: string }) => ({ columns: ["asked"], types: ["VARCHAR"], rows: [{ asked: sql }], truncated: sql.includes("many") });
  delete standIn.answers["sql/catalog"];
  await open(page, standIn.url, "#/query");
  await write(page, "SELECT 'many'");
  await run(page);
  await expect(answer(page)).toContainText("truncated");
  expect(standIn.sent.at(-1)).toEqual({ path: "sql", body: { sql: "SELECT 'many'", limit: 1000 } });
  await write(page, "CREATE TABLE t (a BIGINT); /* x; */ DESCRIBE t;");
  await run(page);
  await expect(table(page)).toContainText("DESCRIBE t;");
  await expect(page.getByRole("alert").first()).toBeEmpty();
});

test("what may come next is offered: tables, columns of those named, functions, models, words", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  const offered = page.getByRole("listbox", { name: "Completions" }).getByRole("option");
  const type = async (text: string) => {
    await write(page, "");
    await page.keyboard.type(text, { delay: 10 });
  };
  await expect(page.getByRole("region", { name: "Tables" })).toContainText("payments");
  await type("SELECT * FROM pay");
  await expect(offered.filter({ hasText: "payments" })).toBeVisible();
  // A key that comes as soon as the list was meant for the text.
  await page.waitForTimeout(300);
  await page.keyboard.press("Enter");
  await expect(editor(page)).toHaveText("SELECT * FROM payments");
  await page.keyboard.type(" WHERE coun", { delay: 10 });
  await expect(offered.filter({ hasText: /country.*VARCHAR of payments/ })).toBeVisible();
  await page.keyboard.press("Escape");
  await type("SELECT tumb");
  await expect(offered.filter({ hasText: /^tumble$/ })).toBeVisible();
  await page.keyboard.press("Escape");
  await type("SEL");
  await expect(offered.filter({ hasText: "SELECT" })).toBeVisible();
  await page.keyboard.press("Escape");
  await type("SELECT predict('fr");
  await expect(offered.filter({ hasText: "fraud" })).toBeVisible();
  await page.keyboard.press("Escape");
  // Nothing is offered in a text of another kind.
  await type("SELECT 'pay");
  await page.waitForTimeout(500);
  await expect(offered).toHaveCount(0);
});

test("it is used with the keyboard, and Tab leaves the editor", async ({ standIn, page }) => {
  await open(page, standIn.url, "#/query");
  await editor(page).focus();
  await page.keyboard.insertText("SELECT 1");
  await page.keyboard.press("Control+Enter");
  await expect.poll(() => standIn.asked.length).toBe(1);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Run" })).toBeFocused();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Stop" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect.poll(() => standIn.last.closed).toBe(true);
  await expect(page.getByText("Stopped before it answered.")).toBeVisible();
});

test("the question and its look are in the address; a link is not asked by itself, and what may hold passwords is not in it", async ({ standIn, page }) => {
  await open(page, standIn.url, `#/query/${encodeURIComponent("SELECT 'a/b' AS x, 1 AS y")}/${encodeURIComponent("view=chart&as=bar&x=x&y=y")}`);
  await expect(editor(page)).toHaveText("SELECT 'a/b' AS x, 1 AS y");
  await page.waitForTimeout(500);
  expect(standIn.asked.length).toBe(0);
  await run(page);
  await expect.poll(() => standIn.asked.length).toBe(1);
  standIn.last.end({ columns: ["x", "y"], types: ["VARCHAR", "BIGINT"] }, { rows: [{ x: "a/b", y: 1 }] }, { end: true });
  await expect(page.getByRole("img", { name: "y over x, 1 rows; the table has the same" })).toBeVisible();
  await page.getByRole("radio", { name: "Rows" }).check();
  await ask(page, standIn, "SELECT 2");
  await expect(page).toHaveURL(/#\/query\/SELECT%202/);
  await page.reload();
  await expect(editor(page)).toHaveText("SELECT 2");

  await ask(page, standIn, "CREATE TABLE t (a BIGINT) WITH (connector = 'kafka', properties.sasl.password = 'hunter2'); SELECT * FROM t");
  expect(page.url()).not.toContain("hunter2");
  await page.reload();
  await expect(editor(page)).toContainText("hunter2");
  await page.getByRole("combobox", { name: "Earlier queries" }).selectOption("SELECT 2");
  await expect(editor(page)).toHaveText("SELECT 2");
});

test("a SELECT becomes a job: its tables are declared, its rows kept, and mistakes come back to their places", async ({ standIn, page }) => {
  const declared = "CREATE TABLE clicks (url VARCHAR, n BIGINT) WITH (connector = 'kafka', topic = 'clicks', properties.sasl.password = '*******')";
  standIn.answers["jobs/large/large/dataflow"] = { file: "", text: `SET job.name = 'large';\n-- of clicks\n${declared};\nINSERT INTO x SELECT 1;`, nodes: [] };
  await open(page, standIn.url, "#/query");
  await expect(page.getByRole("region", { name: "Tables" })).toContainText("clicks");
  const text = "-- größer\nSELECT url, country FROM clicks JOIN payments ON n = id";
  await write(page, text);
  const dialog = page.getByRole("dialog", { name: "Submit as job" });
  await page.getByRole("button", { name: "Submit as job" }).click();
  await expect(dialog).toContainText("A SELECT by itself goes nowhere");
  await expect(dialog).toContainText("payments, clicks");
  await expect(dialog).toContainText("Of clicks there are options that are shown to nobody");
  await dialog.getByLabel("Name").fill("both-of-them");
  const whole = `CREATE TABLE payments (\n    id BIGINT,\n    country VARCHAR,\n    amount DOUBLE,\n    at TIMESTAMP,\n    PRIMARY KEY (id) NOT ENFORCED\n);\n\n${declared};\n\n-- größer\nCREATE MATERIALIZED VIEW "both-of-them" AS\nSELECT url, country FROM clicks JOIN payments ON n = id`;
  await expect(dialog.getByRole("region", { name: "What is submitted" })).toHaveText(whole);

  const at = Buffer.byteLength(whole.slice(0, whole.lastIndexOf("country")));
  standIn.answers.jobs = new Refusal(422, "unknown column", [{ message: "unknown column 'country'", span: [at, at + 7], help: null }]);
  await dialog.getByRole("button", { name: "Submit" }).click();
  await expect(dialog).toBeHidden();
  await expect(page.locator(".cm-mistake")).toHaveText(["country"]);

  standIn.answers.jobs = new Refusal(409, "group 'both-of-them' belongs to a schedule");
  await page.getByRole("button", { name: "Submit as job" }).click();
  await dialog.getByRole("button", { name: "Submit" }).click();
  await expect(dialog.getByRole("alert")).toHaveText("group 'both-of-them' belongs to a schedule");

  standIn.answers.jobs = () => ({ group: "both-of-them", jobs: ["both-of-them/both-of-them"] });
  await dialog.getByRole("button", { name: "Submit" }).click();
  await expect(heading(page)).toHaveText("both-of-them/both-of-them");
  expect(standIn.sent.at(-1)).toEqual({ path: "jobs", body: { text: whole, file: "both-of-them.sql", base_dir: "" } });
});

test("what writes is submitted as it is", async ({ standIn, page }) => {
  standIn.answers.jobs = () => ({ group: "a", jobs: ["a/t"] });
  await open(page, standIn.url, "#/query");
  const text = "CREATE TABLE t (a BIGINT) WITH (connector = 'blackhole');\nINSERT INTO t SELECT 1;";
  await write(page, text);
  await page.getByRole("button", { name: "Submit as job" }).click();
  const dialog = page.getByRole("dialog", { name: "Submit as job" });
  await expect(dialog).not.toContainText("goes nowhere");
  await dialog.getByLabel("Name").fill("a");
  await page.keyboard.press("Enter");
  await expect(heading(page)).toHaveText("a/t");
  expect(standIn.sent.at(-1)?.body).toEqual({ text, file: "a.sql", base_dir: "" });
});
