// The log of an agent as it is written. The page has at most 5,000 lines, and this script at most
// 20,000, among which the filters choose.
"use strict";
(() => {
  const { api, element } = agento;
  const logs = document.getElementById("logs");
  if (!logs) return;
  const agent = encodeURIComponent(logs.dataset.agent);
  const maxShown = 5000, maxKept = 20000, firstTail = 1000, overlap = 20;
  const box = document.getElementById("log-box"), list = document.getElementById("lines"), none = document.getElementById("no-lines");
  const state = document.getElementById("log-state"), form = document.getElementById("log-filters");
  const pauseButton = document.getElementById("pause"), newLines = document.getElementById("new-lines");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const two = (n) => String(n).padStart(2, "0");
  const clock = (d) => `${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, "0")}`;
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

  // Lines. The format and the ranks are those of logs.go.
  const format = /^(\d{4}-\d\d-\d\dT\S+) \[(\w+)\] ?(.*)$/s;
  const ranks = { trace: 0, debug: 0, info: 1, warn: 2, warning: 2, error: 3, fatal: 3 };
  const known = Object.keys(ranks);
  let lines = []; // {raw, at, level, rank, text, gap}
  let rank = 1;   // of the last line: one without a level belongs to it

  function parse(raw) {
    const m = format.exec(raw);
    if (!m || isNaN(Date.parse(m[1]))) return { raw, rank, text: raw, gap: raw.startsWith("… ") };
    rank = ranks[m[2]] ?? 1;
    return { raw, at: m[1], level: m[2], rank, text: m[3] };
  }

  function show(line) {
    if (line.gap) return element("li", { class: "gap" }, line.text);
    const li = element("li", { class: known.includes(line.level) ? line.level : null });
    if (line.at) {
      const date = new Date(line.at);
      li.append(element("time", { datetime: line.at, title: `${full.format(date)} (${zone})` }, clock(date)), " ");
    }
    if (line.level) li.append(element("span", { class: "level" }, line.level), " ");
    li.append(element("span", { class: "line" }, line.text));
    return li;
  }

  let wanted = { least: 0, words: "" };
  const matches = (l) => l.gap || l.rank >= wanted.least && l.text.toLowerCase().includes(wanted.words);

  // Following

  let paused = false, held = 0, waiting = [], frame = null;
  const atEnd = () => box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
  let follows = true;
  box.addEventListener("scroll", () => { follows = atEnd(); if (follows) newLines.hidden = true; }, { passive: true });
  newLines.addEventListener("click", () => { follows = true; newLines.hidden = true; box.scrollTop = box.scrollHeight; box.focus({ preventScroll: true }); });

  function add(line) {
    lines.push(line);
    if (lines.length > maxKept + 1000) lines = lines.slice(-maxKept);
    if (paused) {
      held++;
      tell();
      return;
    }
    if (!matches(line)) return;
    waiting.push(line);
    frame ??= setTimeout(flush, document.hidden ? 1000 : 50);
  }

  function flush() {
    frame = null;
    const now = waiting.slice(-maxShown);
    waiting = [];
    if (now.length === 0) return;
    list.append(...now.map(show));
    const over = list.childElementCount - maxShown;
    if (over > 0) {
      const range = document.createRange();
      range.setStartBefore(list.children[0]);
      range.setEndAfter(list.children[over - 1]);
      range.deleteContents();
    }
    none.hidden = true;
    if (follows) box.scrollTop = box.scrollHeight;
    else newLines.hidden = false;
  }

  function redraw() {
    waiting = lines.filter(matches).slice(-maxShown);
    list.replaceChildren();
    follows = true;
    if (waiting.length) flush();
    else {
      none.hidden = false;
      none.textContent = wanted.words || wanted.least ? `No line matches among the last ${new Intl.NumberFormat().format(lines.length)}.` : "The log is empty: the agent was not started yet.";
    }
  }

  let connection = "connecting";
  function tell() {
    const text = paused ? `Paused${held ? `: ${new Intl.NumberFormat().format(held)} new ${held === 1 ? "line" : "lines"}` : ""}.`
      : connection === "open" ? `Follows the log. Times are in ${zone}.` : connection === "lost" ? "The connection is lost. It is tried again." : "";
    if (text && state.textContent !== text) state.textContent = text;
  }

  pauseButton.hidden = false;
  pauseButton.addEventListener("click", () => {
    paused = !paused;
    pauseButton.setAttribute("aria-pressed", String(paused));
    pauseButton.textContent = paused ? "Go on" : "Pause";
    if (!paused) { held = 0; redraw(); }
    tell();
  });

  function filters() {
    const search = form.elements.search.value.trim(), level = form.elements.level.value;
    wanted = { least: level ? ranks[level] ?? 0 : 0, words: search.toLowerCase() };
    const url = new URL(location.href);
    for (const [name, value] of [["search", search], ["level", level]]) {
      if (value) url.searchParams.set(name, value);
      else url.searchParams.delete(name);
    }
    if (url.href !== location.href) history.replaceState(null, "", url);
  }
  form.addEventListener("submit", (e) => { e.preventDefault(); filters(); redraw(); });
  let typing;
  form.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { filters(); redraw(); }, 150); });

  // The stream. It has no numbers: after a break the lines are read again from before it, and those
  // that are here already are left out. Where they do not meet, lines are missing.

  async function follow() {
    for (let tries = 0; ;) {
      try {
        const abort = new AbortController();
        const res = await api(`/agents/${agent}/logs/stream?tail=${firstTail}`, { raw: true, signal: abort.signal });
        connection = "open";
        tell();
        tries = 0;
        await read(res, abort);
      } catch (e) {
        if (e.status === 401) return;
        if (e.status && e.status < 500 && e.status !== 429) { state.textContent = e.message; return; }
      }
      connection = "lost";
      tell();
      await new Promise((done) => {
        setTimeout(done, Math.min(500 * 2 ** tries++, 15000) * (0.5 + Math.random()));
        addEventListener("online", done, { once: true });
      });
    }
  }

  let served = true; // the list has the first paint of the server
  async function read(res, abort) {
    // What was seen before the break; null: nothing has to be left out.
    let seen = lines.length === 0 ? null : lines.filter((l) => !l.gap).slice(-overlap).map((l) => l.raw);
    let again = [], settle;
    const meet = () => {
      clearTimeout(settle);
      if (!seen) return;
      const from = meets(again, seen);
      if (from < 0) add({ raw: "", rank: 3, text: "… lines may be missing here: the connection was lost", gap: true });
      const fresh = again.slice(from < 0 ? 0 : from);
      seen = null;
      for (const raw of fresh) add(parse(raw));
    };
    const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => { abort.abort(); reader.cancel().catch(() => {}); }, 60000);
      const { value, done } = await reader.read().finally(() => clearTimeout(silence));
      if (done) { meet(); return; }
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) {
        if (!part.startsWith("data: ")) continue;
        const raw = part.slice(6);
        if (served) { list.replaceChildren(); served = false; }
        if (!seen) { add(parse(raw)); continue; }
        again.push(raw);
        clearTimeout(settle);
        if (again.length >= firstTail) meet();
        else settle = setTimeout(meet, 300);
      }
    }
  }

  // meets returns where in lines that were read again the new ones begin; -1: they do not meet.
  function meets(again, seen) {
    for (let end = again.length; end > 0; end--) {
      const n = Math.min(seen.length, end);
      let same = 0;
      while (same < n && again[end - 1 - same] === seen[seen.length - 1 - same]) same++;
      if (same === seen.length || same === end && end === n) return end;
    }
    return -1;
  }

  filters();
  box.scrollTop = box.scrollHeight;
  follow();
})();
