"use strict";
// The pages work without this script. It shows times in the zone of the viewer, sends forms so
// that a lost connection is said, and adds dialogs, the palette, the theme switch and drafts.
const agento = (() => {
  const root = document.documentElement;
  const body = () => document.body;
  const base = () => body().dataset.base;
  root.classList.add("scripted");

  // element builds an element. Text is text: nothing is ever parsed as HTML.
  function element(tag, properties = {}, ...children) {
    const e = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
      else if (name in e && typeof value !== "string") e[name] = value;
      else e.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
    }
    e.append(...children.filter((c) => c !== undefined && c !== null));
    return e;
  }

  // api calls the API as the person: agento.api("/agents") is GET /v1/agents. A body is sent as
  // JSON. It returns the decoded answer, and throws an Error with .status, .code and .details.
  // With {raw: true} it returns the Response, for streams.
  async function api(path, { method = "GET", body: sent, headers = {}, signal, raw } = {}) {
    const given = { "X-Agento-Account": body().dataset.account, ...headers };
    if (sent !== undefined && !(sent instanceof FormData)) given["Content-Type"] = "application/json";
    const res = await fetch(base() + "/api/v1" + path, {
      method, headers: given, signal, body: sent === undefined || sent instanceof FormData ? sent : JSON.stringify(sent),
    });
    if (res.status === 401) signIn();
    if (!res.ok) {
      const answer = await res.json().catch(() => ({}));
      const e = new Error(answer.error?.message ?? `The server answered ${res.status}.`);
      throw Object.assign(e, { status: res.status, code: answer.error?.code, details: answer.error?.details, retryAfter: Number(res.headers.get("Retry-After")) || 0 });
    }
    if (raw) return res;
    return res.status === 204 ? undefined : res.json();
  }

  // signIn leads to the sign-in page, and back to this one.
  function signIn() {
    location.assign(base() + "/sign-in?next=" + encodeURIComponent(location.pathname.slice(base().length) + location.search));
  }

  // say tells people who see and people who listen.
  let saidTimer;
  function say(text) {
    const said = document.getElementById("said");
    said.textContent = text;
    clearTimeout(saidTimer);
    saidTimer = setTimeout(() => { said.textContent = ""; }, 6000);
  }

  // notice shows a notice on top of the page, in place of the one before.
  function notice(kind, text) {
    document.getElementById("own-notice")?.remove();
    const n = element("div", { id: "own-notice", class: "notice " + kind, role: kind === "good" ? "status" : "alert", "data-keep": true }, text);
    document.getElementById("main").prepend(n);
    n.scrollIntoView({ block: "nearest" });
  }

  const remembered = (store, name) => { try { return store.getItem(name); } catch { return null; } };
  const remember = (store, name, value) => { try { if (value === null) store.removeItem(name); else store.setItem(name, value); } catch { /* not allowed */ } };

  // Times
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", timeZone: zone });
  const short = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  function ago(date) {
    const seconds = (date - Date.now()) / 1000, size = Math.abs(seconds);
    for (const [unit, n] of [["day", 86400], ["hour", 3600], ["minute", 60]]) if (size >= n) return relative.format(Math.round(seconds / n), unit);
    return size < 5 ? "now" : relative.format(Math.round(seconds), "second");
  }
  // time returns a <time> for a date, in a style: "ago", "date" or none.
  function time(date, as) {
    const t = element("time", { datetime: date.toISOString(), "data-as": as });
    showTime(t);
    return t;
  }
  function showTime(t) {
    const date = new Date(t.dateTime);
    if (isNaN(date)) return;
    const text = t.dataset.as === "ago" ? ago(date) : t.dataset.as === "date" ? day.format(date) : short.format(date);
    if (t.textContent !== text) t.textContent = text;
    t.title = `${full.format(date)} ${zone}`;
  }
  setInterval(() => { for (const t of document.querySelectorAll("time[data-as=ago]")) showTime(t); }, 20000);

  // enhance prepares a part of a page, also one that is not shown yet: it changes elements only,
  // all listeners are on the document.
  function enhance(part) {
    for (const t of part.querySelectorAll("time[datetime]")) showTime(t);
    for (const pre of part.querySelectorAll("pre.code, code.secret")) {
      if (pre.parentElement?.classList.contains("frame")) continue;
      const frame = element("div", { class: "frame" });
      pre.replaceWith(frame);
      frame.append(pre, element("button", { type: "button", class: "small copy" }, "Copy"));
    }
    for (const d of part.querySelectorAll("details.confirm > dialog")) d.removeAttribute("open");
  }

  async function copy(button) {
    const text = button.parentElement.querySelector("pre, code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch { // the page is neither from localhost nor by HTTPS
      const range = document.createRange();
      range.selectNodeContents(button.parentElement.querySelector("pre, code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  document.addEventListener("click", (e) => {
    const target = e.target.closest("button, summary, a");
    if (!target) return;
    if (target.matches(".copy")) copy(target);
    else if (target.matches("details.confirm > summary")) {
      e.preventDefault();
      const dialog = target.parentElement.querySelector("dialog");
      target.parentElement.open = true;
      dialog.showModal();
      dialog.addEventListener("close", () => { target.parentElement.open = false; target.focus(); }, { once: true });
    } else if (target.dataset.opens) document.getElementById(target.dataset.opens)?.showModal();
    else if (target.dataset.close !== undefined) target.closest("dialog")?.close();
  });

  // Forms
  document.addEventListener("change", (e) => {
    if (e.target.matches("input[data-all]")) for (const box of e.target.closest("form, table").querySelectorAll(`input[name="${e.target.dataset.all}"]`)) box.checked = e.target.checked;
    if (e.target.closest("form[data-instant]")) e.target.form.requestSubmit();
  });
  document.addEventListener("submit", (e) => {
    const form = e.target, button = e.submitter;
    const typed = form.querySelector("[data-must-be]");
    if (typed && typed.value.trim() !== typed.dataset.mustBe) {
      e.preventDefault();
      typed.setCustomValidity(`Type ${typed.dataset.mustBe}`);
      typed.reportValidity();
      typed.addEventListener("input", () => typed.setCustomValidity(""), { once: true });
      return;
    }
    if (form.method !== "post" || form.dataset.plain !== undefined || e.defaultPrevented) return;
    e.preventDefault();
    if (!form.dataset.sending) send(form, button);
  });

  async function send(form, button) {
    const data = new FormData(form, button);
    const action = button?.getAttribute("formaction") ?? form.getAttribute("action") ?? location.href;
    form.dataset.sending = "1";
    button?.setAttribute("aria-busy", "true");
    let res, text;
    try {
      res = await fetch(action, { method: "POST", headers: { "X-Agento-Form": "1" }, body: form.enctype === "multipart/form-data" ? data : new URLSearchParams(data) });
      text = await res.text();
    } catch { res = undefined; }
    const to = res?.headers.get("X-Agento-Location");
    if (!to) { // otherwise the form stays as sent until the page is left; live.js waits meanwhile
      delete form.dataset.sending;
      button?.removeAttribute("aria-busy");
    }
    if (!res || !res.headers.has("X-Agento-Page")) { unknown(button); return; }
    if (to) {
      if (!to.includes("/sign-in")) forgetDraft(form);
      const before = location.href.split("#")[0];
      location.assign(to);
      if (new URL(to, location.href).href.split("#")[0] === before) location.reload();
      return;
    }
    show(text);
  }

  // unknown says that nobody knows whether a request was done. It is not repeated.
  function unknown(button) {
    for (const d of document.querySelectorAll("dialog:modal")) d.close();
    const what = button?.textContent.trim();
    notice("warn", `The connection was lost before the answer came, so it is not known whether ${what ? `“${what}”` : "the request"} was done. It is not sent again by itself. What you see below is how it is now, once the connection is back.`);
    document.dispatchEvent(new CustomEvent("agento:lost"));
  }

  // show shows the page of an answer, such as a form with what is wrong, in place of this one.
  function show(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    enhance(page);
    for (const d of document.querySelectorAll("dialog:modal")) d.close();
    for (const typed of document.querySelectorAll("input[data-kept]")) { // a key need not be typed again for another field
      const now = page.getElementById(typed.id);
      if (now) now.value = typed.value;
    }
    document.getElementById("main").replaceWith(document.adoptNode(page.getElementById("main")));
    document.title = page.title;
    const first = document.querySelector("main [aria-invalid], main .notice.bad, main .problem h1, main h1");
    if (first) { if (!first.matches("input, textarea, select")) first.tabIndex = -1; first.focus(); first.scrollIntoView({ block: "center" }); }
    document.dispatchEvent(new CustomEvent("agento:shown"));
  }

  // Drafts of forms with data-draft survive navigation, in this tab. Secrets never do.
  const draftName = (form) => "agento-draft " + body().dataset.account + " " + location.pathname + " " + form.dataset.draft;
  // A hidden field is part of a draft with data-drafted: the digest of what the draft was made from, so that a change
  // of somebody else meanwhile is a conflict.
  const kept = (field) => field.name && field.name !== "account" && field.name !== "once" && !["password", "file", "submit", "button"].includes(field.type) && (field.type !== "hidden" || field.dataset.drafted !== undefined) && field.dataset.secret === undefined && field.autocomplete !== "off";
  function saveDraft(form) {
    const draft = {};
    for (const f of form.elements) if (kept(f) && (f.type !== "radio" || f.checked)) draft[f.name] = f.type === "checkbox" ? f.checked : f.value;
    remember(sessionStorage, draftName(form), JSON.stringify(draft));
  }
  function forgetDraft(form) { if (form.dataset.draft !== undefined) remember(sessionStorage, draftName(form), null); }
  function restoreDrafts() {
    for (const form of document.querySelectorAll("form[data-draft]")) {
      let draft;
      try { draft = JSON.parse(remembered(sessionStorage, draftName(form))); } catch { /* none */ }
      if (!draft) continue;
      let changed = false;
      for (const f of form.elements) {
        if (!kept(f) || !(f.name in draft)) continue;
        const was = f.type === "checkbox" || f.type === "radio" ? f.checked : f.value;
        if (f.type === "checkbox") f.checked = draft[f.name];
        else if (f.type === "radio") f.checked = f.value === draft[f.name];
        else f.value = draft[f.name];
        changed ||= was !== (f.type === "checkbox" || f.type === "radio" ? f.checked : f.value);
      }
      if (changed) {
        form.dispatchEvent(new CustomEvent("agento:restored", { bubbles: true }));
        form.prepend(element("div", { class: "notice", "data-keep": true }, "What you had typed here before is still in the form. ",
          element("button", { type: "button", class: "link", onclick: () => { forgetDraft(form); location.reload(); } }, "Discard it")));
      }
    }
  }
  document.addEventListener("input", (e) => { const form = e.target.form; if (form?.dataset.draft !== undefined) saveDraft(form); });

  // Theme
  function themeSwitch() {
    const button = document.getElementById("theme");
    if (!button) return;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    const show = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", isDark() ? "Change to light colours" : "Change to dark colours"); };
    button.hidden = false;
    show();
    button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; remember(localStorage, "agento-theme", root.dataset.theme); show(); });
    dark.addEventListener("change", show);
  }

  // Palette
  function palette() {
    const opener = document.getElementById("find");
    if (!opener || !body().dataset.account) return;
    opener.hidden = false;
    const list = element("ul", { role: "listbox", id: "palette-list", "aria-label": "Found" });
    const input = element("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list", "aria-label": "Go to an agent, a session or a page", placeholder: "Go to an agent, a session or a page", autocomplete: "off", spellcheck: "false" });
    const hint = element("p", { hidden: true });
    const dialog = element("dialog", { id: "palette", "aria-label": "Go to" }, input, list, hint);
    body().append(dialog);
    let at = 0, asked = 0, timer;
    const select = (n) => {
      const items = [...list.children];
      at = Math.max(0, Math.min(n, items.length - 1));
      for (const [i, item] of items.entries()) item.setAttribute("aria-selected", String(i === at));
      items[at]?.scrollIntoView({ block: "nearest" });
      if (items[at]) input.setAttribute("aria-activedescendant", items[at].id); else input.removeAttribute("aria-activedescendant");
    };
    const search = async () => {
      const mine = ++asked;
      let found;
      try {
        const res = await fetch(base() + "/palette?" + new URLSearchParams({ q: input.value }), { headers: { "X-Agento-Account": body().dataset.account } });
        if (res.status === 401) { signIn(); return; }
        if (!res.ok) throw new Error(String(res.status));
        found = await res.json();
      } catch { hint.hidden = false; hint.textContent = "The server cannot be reached."; return; }
      if (mine !== asked) return;
      list.replaceChildren(...found.map((f, i) => element("li", { role: "option", id: "palette-" + i, "data-to": f.path }, f.title, element("span", {}, f.kind))));
      hint.hidden = found.length > 0;
      hint.textContent = "Nothing found.";
      select(0);
    };
    const open = () => { if (document.querySelector("dialog:modal")) return; input.value = ""; dialog.showModal(); input.focus(); search(); };
    const go = () => { const to = list.children[at]?.dataset.to; if (to) location.assign(to); };
    opener.addEventListener("click", open);
    document.addEventListener("keydown", (e) => { if ((e.ctrlKey || e.metaKey) && !e.altKey && e.key.toLowerCase() === "k") { e.preventDefault(); open(); } });
    input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 120); });
    input.addEventListener("keydown", (e) => {
      if (e.isComposing || e.keyCode === 229) return;
      if (e.key === "ArrowDown") { e.preventDefault(); select(at + 1); }
      if (e.key === "ArrowUp") { e.preventDefault(); select(at - 1); }
      if (e.key === "Enter") { e.preventDefault(); go(); }
    });
    list.addEventListener("click", (e) => { const item = e.target.closest("li"); if (item) { select([...list.children].indexOf(item)); go(); } });
    dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
  }

  document.addEventListener("DOMContentLoaded", () => {
    enhance(document);
    themeSwitch();
    palette();
    restoreDrafts();
  });

  return { element, api, say, notice, signIn, enhance, time, base, account: () => body().dataset.account, remember, remembered };
})();
