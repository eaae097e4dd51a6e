#!/usr/bin/env node
// Says which recurring reports are due. Definitions are reports/definitions/*.md
// below the current directory; the only file written is reports/state.json.
import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

const DIR = "reports";
const DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

class Problem extends Error {}

async function definitions() {
  const names = (await readdir(join(DIR, "definitions")).catch(() => [])).filter((f) => f.endsWith(".md")).sort();
  return Promise.all(names.map(async (file) => {
    const name = file.slice(0, -3);
    try {
      return { name, ...check(name, header(await readFile(join(DIR, "definitions", file), "utf8"))) };
    } catch (err) {
      return { name, error: err.message };
    }
  }));
}

function header(text) {
  const m = /^\uFEFF?---[ \t]*\r?\n([\s\S]*?)\r?\n---[ \t]*(\r?\n|$)/.exec(text);
  if (!m) throw new Problem("it must begin with a block between two lines of ---");
  const out = {};
  for (const line of m[1].split(/\r?\n/)) {
    const f = /^([a-z]+):\s*("[^"]*"|'[^']*'|[^#]*?)\s*(#.*)?$/.exec(line);
    if (f) out[f[1]] = f[2].replace(/^(["'])(.*)\1$/, "$2");
    else if (line.trim() && !line.trim().startsWith("#")) throw new Problem(`cannot read the line: ${line}`);
  }
  return out;
}

function check(name, h) {
  if (!/^[a-z0-9][a-z0-9-]*$/.test(name) || (h.name && h.name !== name)) throw new Problem("name must be the file's name, in lower-case letters, digits and hyphens");
  const every = h.every ?? "";
  if (!["day", "weekday", "week", "month"].includes(every)) throw new Problem("every must be day, weekday, week or month");
  const at = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(h.at ?? "08:00");
  if (!at) throw new Problem('at must be a time such as "08:30"');
  let on = (h.on ?? "").toLowerCase();
  if (every === "week" && !DAYS.includes((on ||= "monday"))) throw new Problem("on must be a day of the week");
  if (every === "month" && (on ||= "1") !== "last" && !(/^\d{1,2}$/.test(on) && +on >= 1 && +on <= 31)) throw new Problem("on must be 1-31 or last");
  const zone = h.timezone ?? "UTC";
  try { new Intl.DateTimeFormat("en", { timeZone: zone }); } catch { throw new Problem(`there is no time zone ${zone}`); }
  return { every, on, hour: +at[1], minute: +at[2], zone, paused: h.paused === "true" };
}

// local gives the wall clock of a moment in a zone.
function local(ms, zone) {
  const parts = new Intl.DateTimeFormat("en-US", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" }).formatToParts(ms);
  const get = (type) => +parts.find((p) => p.type === type).value;
  return { y: get("year"), m: get("month"), d: get("day"), wall: Date.UTC(get("year"), get("month") - 1, get("day"), get("hour"), get("minute"), get("second")) };
}

// moment finds when a wall clock shows a time; one that a clock change skips is the moment after.
function moment(y, m, d, def) {
  const wall = Date.UTC(y, m - 1, d, def.hour, def.minute);
  let ms = wall;
  for (let i = 0; i < 3; i++) ms += wall - local(ms, def.zone).wall;
  return ms;
}

function matches(def, y, m, d) {
  const weekday = new Date(Date.UTC(y, m - 1, d)).getUTCDay();
  switch (def.every) {
    case "day": return true;
    case "weekday": return weekday >= 1 && weekday <= 5;
    case "week": return weekday === DAYS.indexOf(def.on);
    default: {
      const last = new Date(Date.UTC(y, m, 0)).getUTCDate();
      return d === (def.on === "last" ? last : Math.min(+def.on, last));
    }
  }
}

// occurrence looks day by day for the latest run until now (step -1), or the next one (1).
function occurrence(def, now, step) {
  const from = local(now, def.zone);
  for (let i = 0; i <= 63; i++) {
    const day = new Date(Date.UTC(from.y, from.m - 1, from.d + i * step));
    const [y, m, d] = [day.getUTCFullYear(), day.getUTCMonth() + 1, day.getUTCDate()];
    if (!matches(def, y, m, d)) continue;
    const ms = moment(y, m, d, def);
    if (step < 0 ? ms <= now : ms > now) return ms;
  }
  return NaN;
}

async function state() {
  const text = await readFile(join(DIR, "state.json"), "utf8").catch(() => "{}");
  try {
    const s = JSON.parse(text);
    return s && typeof s === "object" && !Array.isArray(s) ? s : {};
  } catch {
    throw new Problem("reports/state.json is damaged; look at it, then delete it: every report counts as new then");
  }
}

async function save(s) {
  const temporary = join(DIR, "state.json.new");
  await writeFile(temporary, JSON.stringify(s, null, 1) + "\n");
  await rename(temporary, join(DIR, "state.json"));
}

const show = (ms, zone) => (Number.isNaN(ms) || !ms ? "never" : new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "short" }).format(ms) + " " + zone);

async function due(now) {
  const s = await state();
  const all = await definitions();
  let changed = false;
  for (const def of all.filter((d) => !d.error)) {
    // a new report is due at its next time, not for all the past
    if (!s[def.name]?.since) { s[def.name] = { ...s[def.name], since: now }; changed = true; }
  }
  if (changed) await save(s);
  const isDue = (def) => {
    const latest = occurrence(def, now, -1);
    return !def.error && !def.paused && latest > Math.max(s[def.name].since, s[def.name].done ?? 0) ? latest : 0;
  };
  return { all, s, isDue };
}

async function listDue(now) {
  const { all, isDue } = await due(now);
  const found = all.map((def) => [def, isDue(def)]).filter(([, at]) => at).sort((a, b) => a[1] - b[1]);
  for (const [def, at] of found) console.log(`due: ${def.name} (since ${show(at, def.zone)})`);
  for (const def of all.filter((d) => d.error)) console.log(`broken: ${def.name}: ${def.error}`);
  if (found.length > 0) return;
  const next = all.filter((d) => !d.error && !d.paused).map((d) => [d, occurrence(d, now, 1)]).sort((a, b) => a[1] - b[1])[0];
  console.log(next ? `nothing is due; next: ${next[0].name} at ${show(next[1], next[0].zone)}` : "nothing is due and nothing is scheduled");
}

async function list(now) {
  const { all, s, isDue } = await due(now);
  if (all.length === 0) console.log("no reports are defined");
  for (const def of all) {
    if (def.error) console.log(`${def.name}: broken: ${def.error}`);
    else console.log(`${def.name}: every ${def.every}${def.on ? " on " + def.on : ""}, last ${show(s[def.name].done, def.zone)}, ${def.paused ? "paused" : isDue(def) ? "due now" : "next " + show(occurrence(def, now, 1), def.zone)}`);
  }
}

async function done(now, name) {
  const { all, s } = await due(now);
  if (!all.some((d) => d.name === name)) throw new Problem(`there is no report ${name}`);
  s[name] = { ...s[name], done: now };
  await save(s);
  const def = all.find((d) => d.name === name);
  console.log(`noted; next: ${def.error ? "unknown, the definition is broken" : show(occurrence(def, now, 1), def.zone)}`);
}

async function main() {
  const [command, ...rest] = process.argv.slice(2);
  const at = rest.indexOf("--now"); // for trying out a schedule: --now 2026-03-02T08:30:00Z
  const now = at >= 0 ? Date.parse(rest[at + 1]) : Date.now();
  if (Number.isNaN(now)) throw new Problem("--now must be a time such as 2026-03-02T08:30:00Z");
  if (command === "due") return listDue(now);
  if (command === "list") return list(now);
  if (command === "done" && rest[0]) return done(now, rest[0]);
  throw new Problem("usage: reports.mjs due | list | done NAME");
}

main().catch((err) => {
  console.error(err instanceof Problem || err.code ? `error: ${err.message}` : err);
  process.exitCode = 1;
});
