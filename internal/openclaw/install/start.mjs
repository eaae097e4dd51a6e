import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";

for (const entry of ["main", "guest", "task"]) {
  const file = `${process.env.OPENCLAW_STATE_DIR}/agents/${entry}/agent/openclaw-agent.sqlite`;
  if (!existsSync(file)) continue;
  try {
    const database = new DatabaseSync(file, { timeout: 2000 });
    database.exec("DELETE FROM auth_profile_state");
    database.close();
  } catch {
    // A database without the table has no holds, and a damaged one is OpenClaw's.
  }
}
process.execve(process.execPath, [process.execPath, ...process.argv.slice(1)], process.env);
