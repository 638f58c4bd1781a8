// Builds the page into one file, `dist/index.html`, which the binary embeds: no request but those to the API is made.

import { createHash } from "node:crypto";
import { defineConfig, type Plugin } from "vite";

/** Puts the script and the styles into the page, and lets the browser run these and nothing else. */
function oneFile(): Plugin {
  return {
    name: "one-file",
    enforce: "post",
    generateBundle(_, bundle) {
      const page = bundle["index.html"];
      if (page?.type !== "asset") throw new Error("the page was not built");
      let script = "";
      let style = "";
      for (const [name, file] of Object.entries(bundle)) {
        if (file === page) continue;
        if (file.type === "chunk") script += file.code.trim();
        else if (name.endsWith(".css")) style += file.source.toString().trim();
        else throw new Error(`'${name}' cannot go into the page`);
        delete bundle[name];
      }
      // What ends the element must not stand in it.
      script = script.replaceAll("</script", "<\\/script");
      const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
      const policy = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        `script-src ${hash(script)}`,
        `style-src ${hash(style)}`,
        "base-uri 'none'",
        "form-action 'none'",
      ].join("; ");
      page.source = page.source
        .toString()
        .replace(/\s*<(script type="module"|link rel="stylesheet")[^>]*>(<\/script>)?/g, "")
        .replace("<title>", () => `<meta http-equiv="Content-Security-Policy" content="${policy}">\n<title>`)
        .replace("</head>", () => `<style>${style}</style>\n</head>`)
        .replace("</body>", () => `<script type="module">${script}</script>\n</body>`);
    },
  };
}

export default defineConfig({
  base: "./",
  build: { target: "es2022", cssCodeSplit: false, modulePreload: false, assetsInlineLimit: 0, reportCompressedSize: false },
  plugins: [oneFile()],
  // For work on the page: `npm run dev` beside a cluster whose API is at SMACK_RUNNER.
  server: { proxy: { "/api": { target: process.env.SMACK_RUNNER ?? "http://127.0.0.1:5080", changeOrigin: true } } },
});
