#!/usr/bin/env node
// Exact answers about a CSV file of any size: it is streamed, and only groups,
// bounded samples and what is printed stay in memory.
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { once } from "node:events";

const MAX_DISTINCT = 100_000; // values remembered for counting distinct ones
const MAX_GROUPS = 200_000;
const MAX_ROWS = 500_000; // rows kept for sorting

class Problem extends Error {}

function parseArguments(argv) {
  const [command, file, ...rest] = argv;
  const options = { where: [] };
  const known = ["where", "by", "agg", "select", "sort", "limit", "out", "sep", "decimal", "rows", "no-header"];
  for (let i = 0; i < rest.length; i++) {
    const name = rest[i].replace(/^--/, "");
    if (!rest[i].startsWith("--") || !known.includes(name)) throw new Problem(`unknown option ${rest[i]}`);
    if (name === "no-header") options.noHeader = true;
    else if (i + 1 >= rest.length) throw new Problem(`--${name} needs a value`);
    else if (name === "where") options.where.push(rest[++i]);
    else options[name] = rest[++i];
  }
  return { command, file, options };
}

// rows yields arrays of fields; quotes may hold separators and line ends.
async function* rows(file, sep) {
  let row = [], field = "", quoted = false, wasQuote = false, started = false, first = true, cr = false;
  for await (let chunk of createReadStream(file, "utf8")) {
    if (first) { chunk = chunk.replace(/^\uFEFF/, ""); first = false; }
    for (const c of chunk) {
      if (cr) { cr = false; if (c === "\n") continue; }
      if (quoted) {
        if (wasQuote) {
          wasQuote = false;
          if (c === '"') { field += '"'; continue; }
          quoted = false; // falls through: the quote closed the field
        } else if (c === '"') { wasQuote = true; continue; } else { field += c; continue; }
      }
      if (c === '"' && field === "" ) { quoted = true; started = true; }
      else if (c === sep) { row.push(field); field = ""; started = true; }
      else if (c === "\n" || c === "\r") {
        cr = c === "\r";
        if (started || field !== "") { row.push(field); yield row; }
        row = []; field = ""; started = false;
      } else { field += c; started = true; }
    }
  }
  if (started || field !== "") { row.push(field); yield row; }
}

async function separator(file) {
  let sample = "";
  for await (const chunk of createReadStream(file, { encoding: "utf8", end: 65_535 })) sample += chunk;
  const line = sample.split(/\r?\n|\r/, 1)[0].replace(/"[^"]*"/g, "");
  const counts = [",", ";", "\t", "|"].map((s) => [s, line.split(s).length]);
  return counts.reduce((best, now) => (now[1] > best[1] ? now : best))[0];
}

async function open(file, options) {
  const info = await stat(file).catch(() => null);
  if (!info?.isFile()) throw new Problem(`there is no file ${file}`);
  const sep = options.sep === "\\t" || options.sep === "tab" ? "\t" : (options.sep ?? (await separator(file)));
  if ([...sep].length !== 1) throw new Problem("--sep must be one character");
  const all = rows(file, sep);
  const head = await all.next();
  if (head.done) throw new Problem("the file is empty");
  const names = options.noHeader ? head.value.map((_, i) => `c${i + 1}`) : unique(head.value.map((n) => n.trim()));
  const uneven = { rows: 0, first: 0 };
  async function* body() {
    let line = options.noHeader ? 0 : 1;
    if (options.noHeader) { line++; yield head.value; }
    for await (const row of all) {
      line++;
      if (row.length !== names.length) { uneven.rows++; uneven.first ||= line; }
      yield row;
    }
  }
  return { names, body, uneven, sep, number: numbers(options.decimal ?? ".") };
}

function unique(names) {
  const seen = new Map();
  return names.map((n, i) => {
    const name = n || `c${i + 1}`;
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return count > 1 ? `${name}_${count}` : name;
  });
}

// numbers makes a reader of numbers; NaN for what is none.
function numbers(decimal) {
  if (decimal !== "." && decimal !== ",") throw new Problem("--decimal must be . or ,");
  const shape = decimal === "." ? /^[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?(e[+-]?\d+)?%?$/i : /^[+-]?(\d+|\d{1,3}([. ]\d{3})+)(,\d+)?%?$/;
  return (text) => {
    const s = text.trim();
    if (!shape.test(s)) return NaN;
    return Number((decimal === "." ? s.replaceAll(",", "") : s.replace(/[. ]/g, "").replace(",", ".")).replace("%", ""));
  };
}

function dateOf(text) {
  const s = text.trim();
  let m = /^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ].*)?$/.exec(s);
  if (m) return [m[1], m[2], m[3]];
  m = /^(\d{1,2})\.(\d{1,2})\.(\d{4})(?:[T ].*)?$/.exec(s);
  return m ? [m[3], m[2], m[1]] : null; // 03/04/2026 could be two days, so it is none
}

function datePart(text, part) {
  const d = dateOf(text);
  if (!d) return "(no date)";
  const [y, m, day] = [d[0], d[1].padStart(2, "0"), d[2].padStart(2, "0")];
  return part === "year" ? y : part === "month" ? `${y}-${m}` : `${y}-${m}-${day}`;
}

function column(names, name) {
  let i = names.indexOf(name);
  if (i < 0) i = names.findIndex((n) => n.toLowerCase() === name.toLowerCase());
  if (i < 0) throw new Problem(`there is no column ${name}; the columns are: ${names.join(", ")}`);
  return i;
}

// compensated addition: the sum of many amounts keeps its cents
class Sum {
  value = 0; lost = 0;
  add(n) {
    const t = this.value + n;
    this.lost += Math.abs(this.value) >= Math.abs(n) ? this.value - t + n : n - t + this.value;
    this.value = t;
  }
  get total() { return tidy(this.value + this.lost); }
}

function tidy(n) { return Number.isFinite(n) ? Number(n.toPrecision(15)) : n; }

function median(values) {
  if (values.length === 0) return "";
  values.sort((a, b) => a - b);
  const mid = values.length >> 1;
  return tidy(values.length % 2 ? values[mid] : (values[mid - 1] + values[mid]) / 2);
}

async function profile(table) {
  const cols = table.names.map((name) => ({ name, empty: 0, numbers: 0, dates: 0, sum: new Sum(), min: Infinity, max: -Infinity, first: "", last: "", values: new Map(), full: false }));
  let count = 0;
  for await (const row of table.body()) {
    count++;
    cols.forEach((c, i) => note(c, (row[i] ?? "").trim(), table.number));
  }
  console.log(`rows: ${count}   columns: ${cols.length}   separator: ${table.sep === "\t" ? "tab" : table.sep}`);
  warn(table);
  print(["column", "type", "empty", "distinct", "min", "max", "mean", "most frequent"], cols.map((c) => describe(c, count)));
}

function note(c, v, number) {
  if (v === "") { c.empty++; return; }
  const n = number(v);
  if (!Number.isNaN(n)) { c.numbers++; c.sum.add(n); c.min = Math.min(c.min, n); c.max = Math.max(c.max, n); }
  else if (dateOf(v)) c.dates++;
  if (c.first === "" || v < c.first) c.first = v;
  if (c.last === "" || v > c.last) c.last = v;
  if (c.values.has(v)) c.values.set(v, c.values.get(v) + 1);
  else if (c.values.size < MAX_DISTINCT) c.values.set(v, 1);
  else c.full = true;
}

function describe(c, count) {
  const filled = count - c.empty;
  const type = filled === 0 ? "empty" : c.numbers === filled ? "number" : c.dates === filled ? "date" : c.numbers + c.dates > filled * 0.5 ? `mixed (${filled - c.numbers - c.dates} text)` : "text";
  const numeric = type === "number" || (type.startsWith("mixed") && c.numbers > c.dates);
  const top = [...c.values].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 3).filter(([, n]) => n > 1).map(([v, n]) => `${short(v, 24)} (${n})`);
  return [c.name, type, c.empty, c.full ? `over ${MAX_DISTINCT}` : c.values.size, numeric ? tidy(c.min) : short(c.first, 24), numeric ? tidy(c.max) : short(c.last, 24), numeric && c.numbers ? tidy(c.sum.total / c.numbers) : "", top.join(", ")];
}

function condition(names, number, text) {
  const m = /^\s*(.+?)\s*(!=|>=|<=|=|>|<|~)\s*(.*?)\s*$/.exec(text) ?? /^\s*(.+?)\s+(empty|filled)\s*$/.exec(text);
  if (!m) throw new Problem(`cannot read the condition ${text}; write: column OP value`);
  const i = column(names, m[1].replace(/^"|"$/g, ""));
  const op = m[2], want = (m[3] ?? "").replace(/^(["'])(.*)\1$/, "$2");
  const wanted = number(want);
  return (row) => {
    const v = (row[i] ?? "").trim();
    if (op === "empty") return v === "";
    if (op === "filled") return v !== "";
    if (op === "~") return v.toLowerCase().includes(want.toLowerCase());
    const n = number(v);
    if (!Number.isNaN(n) && !Number.isNaN(wanted)) return test(op, n, wanted);
    if (op === "=" || op === "!=") return test(op, v, want);
    const a = dateOf(v), b = dateOf(want);
    return a && b ? test(op, datePart(v, "day"), datePart(want, "day")) : false; // a text is neither more nor less
  };
}

function test(op, a, b) {
  switch (op) {
    case "=": return a === b;
    case "!=": return a !== b;
    case ">": return a > b;
    case ">=": return a >= b;
    case "<": return a < b;
    default: return a <= b;
  }
}

function aggregates(names, list) {
  return list.split(",").map((s) => s.trim()).filter(Boolean).map((label) => {
    const [how, name] = label.split(/:(.*)/);
    if (how === "count") return { label, how };
    if (!["sum", "mean", "median", "min", "max", "distinct"].includes(how) || !name) throw new Problem(`cannot read ${label}; write count or sum:column`);
    return { label, how, i: column(names, name) };
  });
}

class Cell {
  constructor(agg) { this.agg = agg; this.n = 0; this.skipped = 0; this.sum = new Sum(); this.min = Infinity; this.max = -Infinity; this.values = agg.how === "median" ? [] : agg.how === "distinct" ? new Set() : null; }
  add(row, number) {
    if (this.agg.how === "count") { this.n++; return; }
    const v = (row[this.agg.i] ?? "").trim();
    if (v === "") { this.skipped++; return; }
    if (this.agg.how === "distinct") { this.values.add(v); return; }
    const x = number(v);
    if (Number.isNaN(x)) { this.skipped++; return; }
    this.n++;
    this.sum.add(x);
    this.min = Math.min(this.min, x);
    this.max = Math.max(this.max, x);
    this.values?.push(x);
  }
  get value() {
    switch (this.agg.how) {
      case "count": return this.n;
      case "distinct": return this.values.size;
      case "sum": return this.sum.total;
      case "mean": return this.n ? tidy(this.sum.total / this.n) : "";
      case "median": return median(this.values);
      case "min": return this.n ? this.min : "";
      default: return this.n ? this.max : "";
    }
  }
}

async function query(table, options) {
  const { names, number } = table;
  const tests = options.where.map((w) => condition(names, number, w));
  const grouped = options.by !== undefined || options.agg !== undefined;
  const result = grouped ? await group(table, options, tests) : await plain(table, options, tests);
  sort(result, options.sort, number);
  const limit = whole(options.limit ?? "50", "--limit");
  const all = result.rows.length;
  if (options.out) return write(options.out, result);
  if (limit > 0) result.rows = result.rows.slice(0, limit);
  console.log(`rows read: ${result.read}   matching: ${result.matching}   result: ${all}${all > result.rows.length ? ` (first ${result.rows.length} shown)` : ""}`);
  for (const s of result.skipped ?? []) console.log(`skipped for ${s.label}: ${s.n} cells that are empty or no number`);
  warn(table);
  print(result.head, result.rows);
}

async function plain(table, options, tests) {
  const picked = options.select ? options.select.split(",").map((s) => column(table.names, s.trim())) : table.names.map((_, i) => i);
  const result = { head: picked.map((i) => table.names[i]), rows: [], read: 0, matching: 0 };
  for await (const row of table.body()) {
    result.read++;
    if (!tests.every((t) => t(row))) continue;
    if (++result.matching > MAX_ROWS) throw new Problem(`more than ${MAX_ROWS} rows match; narrow it with --where, or use --by`);
    result.rows.push(picked.map((i) => row[i] ?? ""));
  }
  return result;
}

async function group(table, options, tests) {
  const keys = (options.by ?? "").split(",").map((s) => s.trim()).filter(Boolean).map((label) => {
    const m = /^(.*):(year|month|day)$/.exec(label);
    return { label, i: column(table.names, m ? m[1] : label), part: m?.[2] };
  });
  const aggs = aggregates(table.names, options.agg ?? "count");
  const groups = new Map();
  const result = { head: [...keys, ...aggs].map((k) => k.label), rows: [], read: 0, matching: 0 };
  for await (const row of table.body()) {
    result.read++;
    if (!tests.every((t) => t(row))) continue;
    result.matching++;
    const values = keys.map((k) => { const v = (row[k.i] ?? "").trim(); return k.part ? datePart(v, k.part) : v; });
    const id = JSON.stringify(values);
    let g = groups.get(id);
    if (!g) {
      if (groups.size >= MAX_GROUPS) throw new Problem(`more than ${MAX_GROUPS} groups; group by something coarser`);
      groups.set(id, (g = { values, cells: aggs.map((a) => new Cell(a)) }));
    }
    for (const c of g.cells) c.add(row, table.number);
  }
  result.rows = [...groups.values()].map((g) => [...g.values, ...g.cells.map((c) => c.value)]);
  result.skipped = aggs.map((a, i) => ({ label: a.label, n: [...groups.values()].reduce((n, g) => n + g.cells[i].skipped, 0) })).filter((s) => s.n > 0);
  if (!options.sort) options.sort = keys.length ? keys[0].label : undefined;
  return result;
}

function sort(result, by, number) {
  if (!by) return;
  const down = by.startsWith("-");
  const i = column(result.head, down ? by.slice(1) : by);
  const key = (row) => (typeof row[i] === "number" ? row[i] : number(String(row[i])));
  result.rows.sort((a, b) => {
    const x = key(a), y = key(b);
    const order = Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) || String(a[i]).localeCompare(String(b[i])) : x - y;
    return down ? -order : order;
  });
}

async function dupes(table, options) {
  if (!options.by) throw new Problem("dupes needs --by COLUMN,COLUMN");
  const keys = options.by.split(",").map((s) => column(table.names, s.trim()));
  const seen = new Map();
  let line = options.noHeader ? 0 : 1;
  for await (const row of table.body()) {
    line++;
    const id = JSON.stringify(keys.map((i) => (row[i] ?? "").trim()));
    const at = seen.get(id);
    if (at) { at.n++; if (at.lines.length < 10) at.lines.push(line); }
    else seen.set(id, { n: 1, lines: [line] });
  }
  const found = [...seen].filter(([, v]) => v.n > 1).sort((a, b) => b[1].n - a[1].n);
  console.log(`values that occur more than once: ${found.length}   rows too many: ${found.reduce((n, [, v]) => n + v.n - 1, 0)}`);
  warn(table);
  print([...keys.map((i) => table.names[i]), "rows", "row numbers"], found.slice(0, whole(options.limit ?? "50", "--limit") || undefined).map(([id, v]) => [...JSON.parse(id), v.n, v.lines.join(" ")]));
}

async function head(table, options) {
  const want = whole(options.rows ?? "10", "--rows");
  const out = [];
  for await (const row of table.body()) {
    if (out.length >= want) break;
    out.push(table.names.map((_, i) => row[i] ?? ""));
  }
  print(table.names, out);
}

function whole(text, name) {
  if (!/^\d{1,9}$/.test(text)) throw new Problem(`${name} must be a whole number`);
  return Number(text);
}

function warn(table) {
  if (table.uneven.rows) console.log(`warning: ${table.uneven.rows} rows do not have ${table.names.length} fields, the first is row ${table.uneven.first}`);
}

function short(s, n) { s = String(s).replace(/\s+/g, " "); return s.length > n ? s.slice(0, n - 1) + "…" : s; }

function print(names, list) {
  const cell = (v) => short(v, 60).replaceAll("|", "\\|");
  console.log(`| ${names.map(cell).join(" | ")} |`);
  console.log(`|${names.map(() => " --- |").join("")}`);
  for (const row of list) console.log(`| ${row.map(cell).join(" | ")} |`);
}

async function write(file, result) {
  const quote = (v) => (/[",\n\r]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
  const out = createWriteStream(file, { flags: "wx" }); // never over a file that exists
  await once(out, "open");
  for (const row of [result.head, ...result.rows]) if (!out.write(row.map(quote).join(",") + "\n")) await once(out, "drain");
  out.end();
  await once(out, "finish");
  console.log(`wrote ${result.rows.length} rows to ${file}`);
}

const usage = "usage: csv.mjs profile|head|query|dupes FILE [--where 'col = x'] [--by cols] [--agg list] [--select cols] [--sort [-]col] [--limit n] [--out file]";

async function main() {
  const { command, file, options } = parseArguments(process.argv.slice(2));
  const commands = { profile, head, query, dupes };
  if (!Object.hasOwn(commands, command ?? "") || !file) throw new Problem(usage);
  await commands[command](await open(file, options), options);
}

main().catch((err) => {
  const known = err instanceof Problem || ["EEXIST", "ENOENT", "EACCES"].includes(err.code);
  console.error(known ? `error: ${err.message}` : err);
  process.exitCode = 1;
});
