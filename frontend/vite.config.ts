import { defineConfig } from "vite";

// Each entry is a page's own script; templates name them by their path in `{% vite %}`.
const entries = {
  site: "src/styles/site.css",
  annotate: "src/pages/annotate/main.tsx",
  project: "src/pages/project/main.tsx",
  review: "src/pages/review/main.tsx",
  reviewStyle: "src/styles/review.css",
  quality: "src/pages/quality/main.ts",
  qualityStyle: "src/styles/quality.css",
  audit: "src/pages/audit/main.ts",
  auditStyle: "src/styles/audit.css",
  rounds: "src/pages/rounds/main.ts",
  runs: "src/pages/runs/main.ts",
  roundsStyle: "src/styles/rounds.css",
};

export default defineConfig({
  base: "./", // assets find each other wherever Django serves them from
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    manifest: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // a strict Content-Security-Policy has no data: URLs for assets
    rollupOptions: { input: entries },
  },
});
