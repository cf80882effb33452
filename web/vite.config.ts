import { defineConfig } from "vite";

// Relative addresses: the page works below any path a proxy gives it.
export default defineConfig({
  base: "./",
  build: { outDir: "../src/geoglot/server/page", emptyOutDir: true, chunkSizeWarningLimit: 1500 },
  server: {
    proxy: Object.fromEntries(
      ["/search", "/collections", "/pictures", "/settings", "/tasks", "/jobs"].map((path) => [path, "http://127.0.0.1:8080"]),
    ),
  },
});
