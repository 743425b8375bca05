// Makes the artifact {{name}}.wasm. All of WASI is disabled: a function has no clock, random source, file or socket,
// and tidemill refuses artifacts that import one.
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { componentize } from "@bytecodealliance/componentize-js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { component } = await componentize({
  sourcePath: here("function.js"),
  witPath: here("tidemill.wit"),
  worldName: "transform",
  disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
});
await writeFile(here("{{name}}.wasm"), component);
