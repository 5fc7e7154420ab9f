// Runs lsmdbm in the CPython of Pyodide, under node; `tox run -e newer` calls it.
//
//     node run.mjs PYODIDE PACKAGES PYTHON WHAT...
//
// PYODIDE is the directory of the npm package, PACKAGES holds packages in pure Python, PYTHON is another Python, whose
// library has `dbm` and `test`, which Pyodide leaves out.  Each WHAT is one for session.py, in a new interpreter.

import { execFileSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const [pyodide, packages, other, ...all] = process.argv.slice(2);
const stdlib = execFileSync(other, ["-c", "import os; print(os.path.dirname(os.__file__))"], { encoding: "utf8" }).trim();
const here = path.dirname(fileURLToPath(import.meta.url));
const { loadPyodide } = await import(pathToFileURL(path.resolve(pyodide, "pyodide.mjs")));

const places = {
  "/here": here,
  "/lsmdbm": path.resolve(here, "../.."),
  "/packages": path.resolve(packages),
  "/stdlib/dbm": path.join(stdlib, "dbm"),
  "/stdlib/test": path.join(stdlib, "test"),
};

let failed = 0;
for (const what of all) {
  const env = { HOME: "/home", LSMDBM_BUDGET: "small", HYPOTHESIS_STORAGE_DIRECTORY: "/tmp/hypothesis" };
  const python = await loadPyodide({ env });
  for (const [inside, outside] of Object.entries(places)) {
    python.FS.mkdirTree(inside);
    python.FS.mount(python.FS.filesystems.NODEFS, { root: outside }, inside);
  }
  python.runPython(`import sys; sys.path = ["/here", "/lsmdbm", "/lsmdbm/tests", *sys.path, "/packages", "/stdlib"]`);
  try {
    failed |= python.runPython(`import session; session.main(${JSON.stringify(what)})`);
  } catch (error) {
    console.error(error.message); // what node prints by itself ends with a line of 600,000 characters
    failed = 1;
  }
}
process.exit(failed);
