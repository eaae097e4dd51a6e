import { existsSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

const state = process.env.OPENCLAW_STATE_DIR;
if (isMainThread && state && process.argv[2] === "gateway" && process.argv[3] === "run") {
  for (const entry of ["main", "guest"]) {
    const file = `${state}/agents/${entry}/agent/openclaw-agent.sqlite`;
    if (!existsSync(file)) continue;
    try {
      const { DatabaseSync } = process.getBuiltinModule("node:sqlite");
      const database = new DatabaseSync(file, { timeout: 2000 });
      database.exec("DELETE FROM auth_profile_state");
      database.close();
    } catch {
      // A gateway that never ran has no such table, and a damaged database is OpenClaw's.
    }
  }
}
