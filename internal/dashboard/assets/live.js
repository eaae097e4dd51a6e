"use strict";
// Keeps the sections of the page that have data-live as they are on the server. One tab of a
// browser has the stream and tells the others; where the browser cannot share (no HTTPS), only
// the tab that is seen has one.
(() => {
  const { enhance, signIn, base, account } = agento;
  let moment = document.body.dataset.liveFrom; // what the page shows

  // What has changed

  const matches = (live, topic) => live.split(/\s+/).some((t) => t === topic || topic.startsWith(t + "/"));
  let waiting = null; // topics that the page was not fetched for yet; null: none
  let running = false, last = 0;

  // changed notes topics; null stands for everything.
  function changed(topics) {
    const sections = [...document.querySelectorAll("[data-live]")];
    document.dispatchEvent(new CustomEvent("agento:changed", { detail: topics }));
    const mine = topics === null ? null : topics.filter((t) => sections.some((s) => matches(s.dataset.live, t)));
    if (sections.length === 0 || mine?.length === 0) return;
    waiting = mine === null || waiting === "all" ? "all" : [...(waiting ?? []), ...mine];
    soon();
  }

  function soon() {
    if (running) return;
    running = true;
    setTimeout(refresh, Math.max(0, last + 500 - Date.now()));
  }

  // What a form that is being sent changes may be this very page, which is about to be left.
  const sending = () => document.querySelector("form[data-sending]") !== null;

  async function refresh() {
    if (sending()) { setTimeout(refresh, 200); return; }
    const topics = waiting;
    waiting = null;
    last = Date.now();
    try {
      const res = await fetch(location.pathname + location.search, { headers: { "X-Agento-Live": "1" } });
      if (res.status === 401) { signIn(); return; }
      if (res.ok) {
        const page = new DOMParser().parseFromString(await res.text(), "text/html");
        if (page.body.dataset.account === account()) show(page, topics);
      } else if ((res.status === 404 || res.status === 403) && !sending()) location.reload(); // what the page shows is gone
    } catch { waiting = topics; } // the stream is lost too, and comes back with everything since
    running = false;
    if (waiting && navigator.onLine) setTimeout(soon, 1000);
  }

  function show(page, topics) {
    enhance(page);
    for (const section of document.querySelectorAll("[data-live][id]")) {
      if (topics !== "all" && !topics.some((t) => matches(section.dataset.live, t))) continue;
      const now = page.getElementById(section.id);
      if (now) morph(section, now); else section.replaceChildren();
    }
    document.dispatchEvent(new CustomEvent("agento:refreshed"));
  }

  // morph makes an element like another one, without touching what people do in it: focus, open
  // details and dialogs, what was typed. Elements are matched by id, then by their order.
  function morph(old, now) {
    if (old.dataset?.keep !== undefined || old.matches?.("dialog:modal")) return;
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && !own(old, name)) old.removeAttribute(name);
    for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value && !own(old, name)) old.setAttribute(name, value);
    if (old.matches("input, textarea, select")) {
      const typed = old === document.activeElement || (old.type === "checkbox" || old.type === "radio" ? old.checked !== old.defaultChecked : old.matches("select") ? ![...old.options].every((o) => o.selected === o.defaultSelected) : old.value !== old.defaultValue);
      if (typed) return;
      if (old.matches("input")) { old.value = now.value; old.checked = now.checked; return; }
      if (old.matches("textarea")) { old.value = old.defaultValue = now.defaultValue; return; }
    }
    const byId = new Map([...old.children].filter((c) => c.id).map((c) => [c.id, c]));
    let at = old.firstChild;
    for (const child of [...now.childNodes]) {
      while (at?.dataset?.keep !== undefined) at = at.nextSibling;
      const known = child.id ? byId.get(child.id) : null;
      if (known && known.parentNode === old) {
        if (known !== at) old.insertBefore(known, at); else at = at.nextSibling;
        morph(known, child);
      } else if (at && !at.id && !child.id && at.nodeType === child.nodeType && at.nodeName === child.nodeName) {
        const same = at;
        at = at.nextSibling;
        if (same.nodeType === Node.ELEMENT_NODE) morph(same, child);
        else if (same.data !== child.data) same.data = child.data;
      } else old.insertBefore(document.adoptNode(child), at);
    }
    while (at) {
      const next = at.nextSibling;
      if (at.dataset?.keep === undefined) at.remove();
      at = next;
    }
  }
  const own = (e, name) => name === "open" && e.matches("details, dialog") || name === "data-sending" || name === "aria-busy";

  // The stream

  let controller = null, delay = 0, wanted = false;

  // A proxy that keeps responses until they are whole delivers nothing of a stream. Then the
  // server is asked for streams that end with the first news.
  let buffered = false;

  async function follow() {
    controller = new AbortController();
    const mine = controller, once = buffered;
    // A stream without a heartbeat for so long is dead, whatever the browser thinks.
    let timer = once ? setTimeout(() => mine.abort(), 45000) : setTimeout(() => { buffered = true; mine.abort(); }, 5000);
    let began = 0, whole = false;
    try {
      const res = await fetch(base() + "/live?from=" + encodeURIComponent(moment) + (once ? "&once=1" : ""), { signal: mine.signal, headers: { Accept: "text/event-stream", "X-Agento-Account": account() } });
      if (res.status === 401) { tell({ end: "sign-in" }); signIn(); return; }
      if (res.status === 409 || res.status === 403 || res.status === 404) { tell({ end: "reload" }); location.reload(); return; }
      if (!res.ok || !res.body) throw new Error(String(res.status));
      const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = "";;) {
        const { value, done } = await reader.read();
        clearTimeout(timer);
        if (done) break;
        timer = setTimeout(() => mine.abort(), 45000);
        if (began === 0) { began = Date.now(); delay = 0; lost(false); }
        text += value;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) read(text.slice(0, end));
      }
      whole = once && began > 0;
      if (whole && Date.now() - began > 1000) buffered = false; // it came in pieces
    } catch { /* it is tried again */ }
    clearTimeout(timer);
    if (!wanted || mine !== controller) return;
    if (whole || buffered !== once) { setTimeout(() => { if (wanted && mine === controller) follow(); }, 200); return; }
    lost(true);
    delay = Math.min(delay * 2 || 500, 30000);
    setTimeout(() => { if (wanted && mine === controller) follow(); }, delay * (0.5 + Math.random()));
  }

  function read(block) {
    const fields = Object.fromEntries(block.split("\n").filter((l) => !l.startsWith(":")).map((l) => [l.slice(0, l.indexOf(":")), l.slice(l.indexOf(":") + 1).trim()]));
    if (!fields.event) return;
    const topics = fields.event === "reset" ? null : JSON.parse(fields.data);
    moment = fields.id;
    for (const t of topics ?? []) seen.set(t, moment);
    if (topics === null) { seen.clear(); since = moment; }
    changed(topics);
    tell({ topics, moment });
  }

  function lost(yes) {
    document.documentElement.classList.toggle("lost", yes);
    if (yes) { timerOfLost ??= setTimeout(() => agento.say("The connection to the server is lost. It is tried again."), 8000); return; }
    clearTimeout(timerOfLost);
    timerOfLost = null;
  }
  let timerOfLost = null;

  function begin() { if (!wanted) { wanted = true; delay = 0; follow(); } }
  function end() { wanted = false; controller?.abort(); }

  // Tabs

  const name = "agento-live " + base() + " " + account();
  const channel = navigator.locks && window.BroadcastChannel ? new BroadcastChannel(name) : null;
  const seen = new Map(); // topics that this tab was told of as the leader, with their moments
  let since = moment;     // what was before is not in seen
  const tell = (what) => channel?.postMessage(what);
  const number = (m) => Number(m.split("-")[1]);
  const sameServer = (a, b) => a.split("-")[0] === b.split("-")[0];

  if (channel) {
    let leads = false;
    channel.onmessage = ({ data }) => {
      if (data.end === "sign-in") { signIn(); return; }
      if (data.end === "reload") { location.reload(); return; }
      if (data.from !== undefined) { // a new tab asks what it has missed
        if (!leads) return;
        const known = sameServer(data.from, since) && number(data.from) >= number(since);
        tell({ to: data.tab, topics: known ? [...seen].filter(([, m]) => number(m) > number(data.from)).map(([t]) => t) : null, moment });
        return;
      }
      if (leads || data.to !== undefined && data.to !== tab) return;
      moment = data.moment;
      changed(data.topics);
    };
    const tab = crypto.randomUUID();
    tell({ from: moment, tab });
    navigator.locks.request(name, () => {
      leads = true;
      since = moment;
      begin();
      return new Promise(() => { /* until the tab is closed */ });
    });
    // A page that comes back from the browser's cache shows what was.
    addEventListener("pageshow", (e) => { if (e.persisted) changed(null); });
  } else {
    const seenNow = () => { if (document.visibilityState === "visible") begin(); else end(); };
    document.addEventListener("visibilitychange", seenNow);
    seenNow();
  }
  addEventListener("online", () => { if (wanted && document.documentElement.classList.contains("lost")) { end(); begin(); } });
  document.addEventListener("agento:lost", () => changed(null));
  agento.refresh = () => changed(null);
})();
