// What the tests share: the two clusters, the page in a browser that tells of its errors, and the check with axe.

import AxeBuilder from "@axe-core/playwright";
import { test as base, expect, type Page } from "@playwright/test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster } from "./cluster.ts";
import { StandIn } from "./stand_in.ts";

export { expect };

const ROOT = process.env.SMACK_ROOT ?? "";
export const DIST = readFileSync(join(ROOT, "runner/ui/dist/index.html"));
export const servesDist = process.env.SMACK_PAGE_DIST === "1";
const SHOTS = join(process.env.SMACK_PAGE_BUILD ?? ".", "shots");

interface Shared {
  /** With jobs of every kind. */
  live: Cluster;
  /** As it is right after its start. */
  empty: Cluster;
}

interface Each {
  /** What the browser's console and scripts complained of; nothing, unless a test takes it out. */
  complaints: string[];
  /** What answers in the place of a runner, for what no runner does when it is told to. */
  standIn: StandIn;
}

export const test = base.extend<Each, Shared>({
  live: [
    async ({}, use) => {
      const cluster = new Cluster();
      try {
        await cluster.start();
        await cluster.fill();
        await use(cluster);
      } finally {
        await cluster.end();
      }
    },
    { scope: "worker", timeout: 300_000 },
  ],
  empty: [
    async ({}, use) => {
      const cluster = new Cluster();
      try {
        await cluster.start();
        await use(cluster);
      } finally {
        await cluster.end();
      }
    },
    { scope: "worker", timeout: 150_000 },
  ],
  standIn: async ({}, use) => {
    const standIn = new StandIn(DIST);
    await standIn.start();
    await use(standIn);
    await standIn.end();
  },
  complaints: [
    async ({ page }, use) => {
      const complaints: string[] = [];
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.on("console", (message) => {
        // That a request failed is what some tests are about, and shown by the page.
        if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(message.text());
      });
      if (servesDist) await page.route(/^http:\/\/[^/]+\/$/, (route) => route.fulfill({ contentType: "text/html", body: DIST }));
      await use(complaints);
      expect(complaints).toEqual([]);
    },
    { auto: true },
  ],
});

export const heading = (page: Page) => page.getByRole("heading", { level: 1 });

export async function open(page: Page, url: string, hash = "") {
  await page.goto(`${url}/${hash}`);
  await expect(heading(page)).toBeVisible();
}

/** Nothing sticks out at the side: what is wide scrolls by itself. */
export async function expectToFit(page: Page) {
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBeLessThanOrEqual(0);
}

export async function expectAccessible(page: Page) {
  // The page has no frames, whose findings it would otherwise put together in a page of its own, each time anew.
  const { violations } = await new AxeBuilder({ page }).setLegacyMode(true).analyze();
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  expect(grave.map(({ id, help, nodes }) => ({ id, help, at: nodes.slice(0, 3).map(({ target, failureSummary }) => `${target}: ${failureSummary}`) }))).toEqual([]);
}

/** The editor of queries. */
export const editor = (page: Page) => page.getByRole("textbox", { name: "Query, in SQL" });

/** Puts a text in the place of the query's. */
export async function write(page: Page, text: string) {
  await editor(page).click();
  await page.keyboard.press("ControlOrMeta+a");
  // As if it were pasted: what is typed would be completed and closed.
  await page.keyboard.insertText(text);
}

export const shoot = (page: Page, name: string) => page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });

/** Answers the API with what is given, by path below `/api/v1`; all else is not there. */
export async function answer(page: Page, answers: Record<string, unknown>) {
  await page.route("**/api/v1/**", (route) => {
    const path = decodeURIComponent(new URL(route.request().url()).pathname.replace(/^\/api\/v1\//, ""));
    return path in answers ? route.fulfill({ json: answers[path] }) : route.fulfill({ status: 404, json: { error: `there is no '${path}'`, diagnostics: [] } });
  });
}
