import { defineConfig } from "@playwright/test";

const build = process.env.SMACK_PAGE_BUILD ?? ".";

export default defineConfig({
  testDir: ".",
  outputDir: `${build}/results`,
  // All share one cluster, and small machines are to do.
  workers: 1,
  // Far above what any of it takes; machines differ, and none of this is a measurement.
  timeout: 180_000,
  // A browser on a machine that is busy may lose a click; one that passes the second time is listed as flaky.
  retries: 1,
  expect: { timeout: 30_000 },
  reporter: [["list"]],
  use: {
    viewport: { width: 1280, height: 800 },
    screenshot: "only-on-failure",
    launchOptions: { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] },
  },
});
