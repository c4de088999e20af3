import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const src = (name: string): string => fileURLToPath(new URL(`../../src/${name}.ts`, import.meta.url));

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  // Outside this repository these come from node_modules.
  resolve: {
    alias: [
      { find: /^virtrpc$/, replacement: src("index") },
      { find: /^virtrpc\/v1$/, replacement: src("v1") },
      { find: /^virtrpc\/web$/, replacement: src("web") },
    ],
  },
  build: { outDir: "../../build/page", emptyOutDir: true },
});
