import eslint from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

const NODE_ONLY = ["src/node.ts", "src/address.ts", "src/environment.ts", "src/sessions.ts"];

export default defineConfig(
  globalIgnores(["dist", "build", "src/gen", "node_modules"]),
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/explicit-module-boundary-types": "error",
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "no-console": "error",
    },
  },
  {
    files: ["src/**"],
    ignores: NODE_ONLY,
    // The rest is for browsers too.
    rules: {
      "no-restricted-imports": ["error", { patterns: ["node:*", "@connectrpc/connect-node"] }],
      "no-restricted-globals": ["error", "process", "Buffer", "require", "global", "__dirname"],
    },
  },
  { files: ["examples/**"], rules: { "no-console": "off" } },
  { files: ["**/*.js"], extends: [tseslint.configs.disableTypeChecked] },
);
