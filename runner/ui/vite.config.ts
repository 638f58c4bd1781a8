// Builds the page into one file, `dist/index.html`, which the binary embeds: no request but those to the API is made.

import { createHash } from "node:crypto";
import { build, defineConfig, type Plugin } from "vite";

const TARGET = "es2022";

/** What ends the element must not stand in it. */
const within = (script: string) => script.trim().replaceAll("</script", "<\\/script");

/** The editor as a script of its own, which leaves `smackEditor`. */
async function editor(): Promise<string> {
  const made = await build({
    configFile: false,
    logLevel: "warn",
    build: {
      target: TARGET,
      write: false,
      reportCompressedSize: false,
      lib: { entry: "src/query/codemirror.ts", formats: ["iife"], name: "smackEditor" },
    },
  });
  const [part] = [made].flat();
  const [file] = part && "output" in part ? part.output : [];
  if (file?.type !== "chunk") throw new Error("the editor was not built");
  return within(file.code);
}

/** Puts the scripts and the styles into the page, and lets the browser run these and nothing else. */
function oneFile(): Plugin {
  return {
    name: "one-file",
    apply: "build",
    enforce: "post",
    async generateBundle(_, bundle) {
      const page = bundle["index.html"];
      if (page?.type !== "asset") throw new Error("the page was not built");
      let script = "";
      let style = "";
      for (const [name, file] of Object.entries(bundle)) {
        if (file === page) continue;
        if (file.type === "chunk") script += within(file.code);
        else if (name.endsWith(".css")) style += file.source.toString().trim();
        else throw new Error(`'${name}' cannot go into the page`);
        delete bundle[name];
      }
      const held = await editor();
      const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
      const policy = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        `script-src ${hash(script)} ${hash(held)}`,
        `style-src ${hash(style)}`,
        "base-uri 'none'",
        "form-action 'none'",
      ].join("; ");
      page.source = page.source
        .toString()
        .replace(/\s*<(script type="module"|link rel="stylesheet")[^>]*>(<\/script>)?/g, "")
        .replace("<title>", () => `<meta http-equiv="Content-Security-Policy" content="${policy}">\n<title>`)
        .replace("</head>", () => `<style>${style}</style>\n</head>`)
        // A browser reads over it: it is run when it is wanted, and the page is painted before.
        .replace("</body>", () => `<script type="module">${script}</script>\n<script type="text/plain" id="editor-script">${held}</script>\n</body>`);
    },
  };
}

export default defineConfig({
  base: "./",
  build: {
    target: TARGET,
    cssCodeSplit: false,
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    // One build is within the other, and how long that takes is nothing to mend.
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  plugins: [oneFile()],
  // For work on the page: `npm run dev` beside a cluster whose API is at SMACK_RUNNER.
  server: { proxy: { "/api": { target: process.env.SMACK_RUNNER ?? "http://127.0.0.1:5080", changeOrigin: true } } },
});
