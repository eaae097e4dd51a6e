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
  syncBuiltinESMExports();
}
