import { syncBuiltinESMExports } from "node:module";
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

if (isMainThread) {
  keepWorkers();
  stopMonitor();
  stopSweeps();
  syncBuiltinESMExports();
}
