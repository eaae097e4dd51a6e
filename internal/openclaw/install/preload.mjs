import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import path from "node:path";
import perfHooks from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";

// OpenClaw keeps the database worker of one idle agent, so that two entries that take turns
// start a worker for each turn. It finds this object in place of its own, and no idle agent.
function keepWorkers() {
  globalThis[Symbol.for("openclaw.agentDatabaseExecutionOwners")] = {
    owners: new Map(),
    get idle() {},
    set idle(_) {},
  };
}

// Its monitor of the event loop runs 50 times a second, but not without a histogram.
function stopMonitor() {
  perfHooks.createHistogram = () => {
    throw new Error("the monitor of the event loop is switched off");
  };
}

// Every minute it starts a worker to compare sessions with cloud workers, which no agent has.
function stopSweeps() {
  const set = globalThis.setInterval;
  globalThis.setInterval = (callback, delay, ...args) =>
    set(callback, callback?.name === "sweepActivePlacements" ? 2 ** 31 - 1 : delay, ...args);
}

// Its watcher of skills takes a change of the directory "state" in its state directory, of the same
// name, for one of the state directory: it then watches anew and reads all skills. A database
// worker sets the mode of that directory some times a minute.
function watchOnlyRoot() {
  const watch = fs.watch;
  fs.watch = (root, ...rest) => {
    const listener = rest.at(-1);
    if (typeof root !== "string" || typeof listener !== "function") return watch(root, ...rest);
    return watch(root, ...rest.slice(0, -1), (event, name) => {
      const isChild = name === path.basename(root) && fs.existsSync(path.join(root, name));
      if (!isChild) listener(event, name);
    });
  };
}

// It prints the answer to each turn, whatever its log level is: as a line without a subsystem, which
// all other lines below a warning have.
function hideAnswers() {
  const answer = /^\{"time":"[^"]*","level":"info","message":/;
  for (const name of ["log", "info"]) {
    const print = console[name];
    console[name] = (...args) => {
      if (args.length !== 1 || !answer.test(args[0])) print.apply(console, args);
    };
  }
}

if (isMainThread) {
  hideAnswers();
  keepWorkers();
  stopMonitor();
  stopSweeps();
  watchOnlyRoot();
  syncBuiltinESMExports();
}
