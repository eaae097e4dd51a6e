// The chat: sends messages, follows answers word by word, and goes on where it was when a connection
// comes back. Nothing is sent twice by itself.
"use strict";
(() => {
  const { element, api, time, signIn, remember, remembered } = agento;
  const chat = document.getElementById("chat");
  if (!chat) return;
  const agent = chat.dataset.agent, agentName = chat.dataset.name;
  let session = chat.dataset.session;
  const list = document.getElementById("messages");
  const form = document.getElementById("composer");
  const input = document.getElementById("message");
  const at = (path) => `/agents/${encodeURIComponent(agent)}/chat${path}`;
  const short = matchMedia("(max-width: 59.99rem)");

  // The place in the page

  const newText = document.getElementById("new-text");
  const end = document.getElementById("end");
  let follows = true;
  const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  addEventListener("scroll", () => {
    follows = atEnd();
    if (follows && newText) newText.hidden = true;
  }, { passive: true });
  // grown is called after text was added: it keeps the end in view for who looks at the end.
  function grown() {
    if (follows) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
    else if (newText) newText.hidden = false;
  }
  newText?.addEventListener("click", () => { follows = true; newText.hidden = true; grown(); });

  // What is read out: finished sentences, at most every two seconds.

  const heard = document.getElementById("heard");
  let unread = "", readAt = 0, readTimer;
  function readOut(text, whole) {
    unread += text;
    const cut = whole ? unread.length : Math.max(...[". ", "! ", "? ", ".\n", ":\n", "\n\n"].map((s) => unread.lastIndexOf(s) + 1));
    if (cut <= 0) return;
    clearTimeout(readTimer);
    readTimer = setTimeout(() => {
      const said = unread.slice(0, cut).replace(/[*_`#>|]+/g, "").trim();
      unread = unread.slice(cut);
      readAt = Date.now();
      if (said) heard.append(element("p", {}, said));
      while (heard.childElementCount > 5) heard.firstElementChild.remove();
    }, whole ? 0 : Math.max(0, readAt + 2000 - Date.now()));
  }

  // Messages

  const raw = new WeakMap(); // the text of an answer as the model wrote it
  const sourceNames = { api: "API", openai: "OpenAI API", mcp: "MCP", telegram: "Telegram", slack: "Slack" };

  function message(role, who, date, source, text) {
    document.getElementById("no-messages")?.remove();
    const body = element("div", { class: role === "user" ? "text" : "text md", dir: "auto" });
    if (text) body.append(text);
    return element("article", { class: "message " + role },
      element("header", {}, element("b", { class: "who" }, who), role === "user" && source ? element("span", { class: "from" }, sourceNames[source] ?? source) : null, " ", element("span", { class: "soft" }, time(date))),
      body);
  }

  function rendered(body, text) {
    body.replaceChildren();
    body.classList.add("rendered");
    agento.markdown.render(body, text);
    raw.set(body, text);
  }

  // tools puts the buttons below an answer.
  function tools(article) {
    let footer = article.querySelector("footer.turn");
    if (!footer) article.append(footer = element("footer", { class: "turn" }));
    if (footer.querySelector(".tools")) return;
    const body = article.querySelector(".text.md");
    const box = element("div", { class: "tools" });
    if (raw.get(body)) box.append(element("button", { type: "button", class: "small", "data-copy-answer": "" }, "Copy"));
    if (form && article.dataset.failed !== undefined && before(article)) box.append(element("button", { type: "button", class: "small", "data-again": "" }, "Send it again"));
    if (box.childElementCount) footer.append(box);
  }

  // before returns the message that an article answers.
  const before = (article) => article.previousElementSibling?.classList.contains("user") ? article.previousElementSibling : null;

  const number = (n) => new Intl.NumberFormat().format(n);
  function money(micros) {
    const d = micros / 1e6;
    return "$" + d.toFixed(micros !== 0 && Math.abs(d) < 0.01 ? 4 : 2);
  }
  const seconds = (ms) => ms < 10000 ? (ms / 1000).toFixed(1) + "s" : ms < 60000 ? Math.round(ms / 1000) + "s" : `${Math.floor(ms / 60000)}m${Math.round(ms % 60000 / 1000)}s`;

  // The words are those of endOf in chat.go.
  const ends = {
    length: "The answer is longer than the model may write at once. Ask it to go on.", truncated: "The answer was ended at 1 MB. Ask for the rest.", refusal: "The model refused to answer.",
    filter: "A filter of the model's provider ended the answer.", limit: "The answer was ended at a limit of the agent.", cancelled: "Somebody stopped this answer.",
  };

  // showEnd shows how a turn has ended, below its answer.
  function showEnd(article, turn) {
    const failed = turn.state === "failed" || turn.state === "cancelled";
    if (failed) article.dataset.failed = "";
    article.querySelector("footer.turn")?.remove();
    const why = turn.stopReason === "completed" ? "" : ends[turn.stopReason] ?? turn.error?.message ?? "The answer failed.";
    const u = turn.usage, took = turn.startedAt && turn.endedAt ? seconds(new Date(turn.endedAt) - new Date(turn.startedAt)) : "";
    const facts = element("dl", { class: "facts" });
    const fact = (name, value) => facts.append(element("dt", {}, name), element("dd", {}, value));
    if (u.requests) {
      fact("Model calls", number(u.requests));
      fact("Tokens in", number(u.inputTokens) + (u.cacheReadTokens ? `, ${number(u.cacheReadTokens)} of them from the cache` : ""));
      fact("Tokens out", number(u.outputTokens) + (u.reasoningTokens ? `, ${number(u.reasoningTokens)} of them to think` : ""));
    }
    fact("Turn", turn.id);
    const parts = [took, ...u.requests ? [`${number(u.inputTokens)} + ${number(u.outputTokens)} tokens`, u.unpricedRequests ? "price not known" : money(u.costMicros)] : []];
    article.append(element("footer", { class: "turn" },
      why ? element("p", { class: `notice ${failed ? "bad" : "warn"} end` }, why) : null,
      element("details", { class: "steps-of", "data-turn": turn.id }, element("summary", {}, parts.filter(Boolean).join(" · ") || "Details"), facts)));
    showSteps(article.querySelector("details.steps-of"), turn.steps ?? []);
    tools(article);
  }

  // showSteps shows the calls of tools of a turn.
  function showSteps(details, steps) {
    details.querySelectorAll(".tool").forEach((t) => t.remove());
    for (const s of steps) {
      const took = s.endedAt ? seconds(new Date(s.endedAt) - new Date(s.startedAt)) : "no result";
      details.append(element("details", { class: "tool" }, element("summary", {}, element("code", {}, s.name), " · " + took),
        element("h3", {}, "Called with"), element("pre", { tabindex: "0" }, pretty(s.input)),
        element("h3", {}, "Returned"), element("pre", { tabindex: "0" }, s.output || (s.endedAt ? "(nothing)" : "(no result)")),
        s.cut ? element("p", { class: "soft" }, "It was longer than what is kept.") : null));
    }
    const summary = details.querySelector("summary");
    const names = steps.length ? ` · ${steps.length} tool ${steps.length === 1 ? "call" : "calls"}` : "";
    if (!summary.textContent.endsWith(names) || !names) summary.textContent = summary.textContent.replace(/ · \d+ tool calls?$/, "") + names;
  }
  function pretty(json) {
    try { return JSON.stringify(JSON.parse(json), null, 2); } catch { return json; }
  }

  list.addEventListener("toggle", async (e) => {
    const d = e.target;
    if (!d.open || !d.matches("details.steps-of") || d.dataset.read !== undefined) return;
    d.dataset.read = "";
    try {
      showSteps(d, (await api(at("/turns/" + d.dataset.turn))).data.steps ?? []);
    } catch { delete d.dataset.read; }
  }, true);

  list.addEventListener("click", async (e) => {
    const button = e.target.closest("button");
    if (!button) return;
    const article = button.closest(".message");
    if (button.dataset.copyCode !== undefined) copied(button, button.closest(".code").querySelector("code").textContent);
    else if (button.dataset.copyAnswer !== undefined) copied(button, raw.get(article.querySelector(".text.md")));
    else if (button.dataset.again !== undefined) send(before(article).querySelector(".text").textContent);
    else if (button.dataset.cancel !== undefined) cancel(article.dataset.turn, button);
  });
  async function copied(button, text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // the page is neither from localhost nor by HTTPS
      const area = element("textarea", { class: "quiet" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  // Answers

  const waits = {
    queue: "Earlier messages of this conversation are answered first", wake: "The agent wakes up", room: "The server has no memory left: the agent waits for room",
    boot: "The agent prepares", model: "The model is at work",
  };
  const following = new Map(); // turn → its Answer
  const stop = document.getElementById("stop");
  const showStop = () => { if (stop) stop.hidden = ![...following.values()].some((a) => !a.queued); };

  class Answer {
    constructor(article, turn) {
      this.article = article;
      this.body = article.querySelector(".text.md");
      this.last = 0; // the number of the last event
      this.begin();
      if (turn) this.setTurn(turn);
    }

    begin() {
      this.article.setAttribute("aria-busy", "true");
      this.waits = this.article.querySelector(".waits") ?? element("p", { class: "waits soft", role: "status" }, "Sent");
      this.body.after(this.waits);
      this.body.replaceChildren();
      this.body.classList.add("rendered");
      this.text = "";
      this.renderer = new agento.markdown.Renderer(this.body);
    }

    setTurn(id) {
      this.turn = this.article.dataset.turn = id;
      following.set(id, this);
      showStop();
    }

    add(text) {
      this.text += text;
      this.renderer.write(text);
      this.waiting("");
      readOut(text, false);
      // Once a frame. A page that is not seen has no frames, and its text waits.
      this.frame ??= requestAnimationFrame(() => { this.frame = null; this.renderer.flush(); grown(); });
    }

    waiting(text) {
      if (this.waits.textContent !== text) this.waits.textContent = text;
      this.waits.hidden = !text;
    }

    async comment(what) {
      this.queued = what === "queue";
      showStop();
      const tool = what.startsWith("tool ") ? what.slice(5) : "";
      this.waiting(tool ? `The agent uses ${tool}` : waits[what] ?? this.waits.textContent);
      if (this.queued) {
        const open = (await api(at(`/turns?limit=50&sessionId=${session}`)).catch(() => ({ data: [] }))).data;
        const mine = open.findIndex((t) => t.id === this.turn);
        const ahead = open.slice(mine + 1).filter((t) => !t.endedAt).length;
        if (this.queued && mine >= 0 && ahead > 0) this.waiting(`Queued behind ${ahead} ${ahead === 1 ? "message" : "messages"}`);
      }
    }

    // follow reads the events of the turn until its end, over any number of connections.
    async follow(res) {
      for (let tries = 0; ;) {
        try {
          res ??= await api(at(`/turns/${this.turn}/stream`), { raw: true, headers: this.last ? { "Last-Event-ID": String(this.last) } : {}, signal: (this.abort = new AbortController()).signal });
          const from = this.last;
          if (await this.read(res)) return this.ended();
          if (this.last > from) tries = 0;
        } catch (e) {
          if (e.status === 401) return undefined;
          if (e.status === 404) return this.gone(e.message);
          if (e.status === 409 && this.last) { // it ended long ago: its events are gone, and its text is whole
            this.last = 0;
            this.begin();
          } else if (e.status && e.status < 500 && e.status !== 429) return this.gone(e.message);
        }
        res = undefined;
        this.waiting("The connection is lost. It goes on where it was");
        await pause(Math.min(500 * 2 ** tries++, 15000) * (0.5 + Math.random()));
      }
    }

    // read reads one connection, and reports whether the end of the turn was read.
    async read(res) {
      const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "", id = 0;
      for (;;) {
        // The server sends a comment at least every 15 s.
        const silence = setTimeout(() => { this.abort?.abort(); reader.cancel().catch(() => {}); }, 60000);
        const { value, done } = await reader.read().finally(() => clearTimeout(silence));
        if (done) return false;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (line.startsWith(": ")) this.comment(line.slice(2).trim());
          else if (line.startsWith("id: ")) id = Number(line.slice(4));
          else if (line.startsWith("data: ")) {
            const event = JSON.parse(line.slice(6));
            if (event.type === "text") {
              if (id > this.last) this.add(event.content);
              this.last = Math.max(this.last, id);
            } else {
              reader.cancel().catch(() => {});
              return true;
            }
          }
        }
      }
    }

    async ended() {
      this.close();
      for (let tries = 0; ; tries++) {
        try {
          const turn = (await api(at("/turns/" + this.turn))).data;
          showEnd(this.article, turn);
          break;
        } catch (e) {
          if (e.status) break;
          await pause(Math.min(500 * 2 ** tries, 15000) * (0.5 + Math.random()));
        }
      }
      if (this.article.dataset.failed !== undefined) readOut(" The answer failed. ", true);
      grown();
    }

    gone(why) {
      this.close();
      this.article.append(element("p", { class: "notice warn end" }, why));
    }

    close() {
      if (this.frame) cancelAnimationFrame(this.frame);
      this.renderer.end();
      this.waits.remove();
      this.article.classList.remove("open");
      this.article.removeAttribute("aria-busy");
      raw.set(this.body, this.text);
      following.delete(this.turn);
      showStop();
      readOut("", true);
      grown();
    }
  }

  let wakeUp = [];
  // pause waits, but not longer than until the browser says that it is online again.
  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); wakeUp.push(done); }).then(() => { wakeUp = []; });
  addEventListener("online", () => wakeUp.forEach((f) => f()));

  async function cancel(turn, button) {
    if (!turn) return;
    button.setAttribute("aria-busy", "true");
    try {
      await api(at(`/turns/${turn}/cancel`), { method: "POST" });
    } catch (e) {
      problem(e.status ? e.message : "The connection is lost, so it is not known whether the answer was stopped. If it goes on, stop it again.");
    }
    button.removeAttribute("aria-busy");
  }
  stop?.addEventListener("click", () => cancel([...following.values()].find((a) => !a.queued)?.turn, stop));

  // Sending

  const problemBox = document.getElementById("composer-problem");
  function problem(text, ...more) {
    if (problemBox) problemBox.replaceChildren(...text ? [element("p", { class: "notice bad" }, text, ...more)] : []);
    grown();
  }

  function context() {
    const field = document.getElementById("context"), text = field.value.trim();
    const wrong = document.getElementById("context-wrong");
    wrong.textContent = "";
    if (!text) return undefined;
    if (!text.startsWith("{")) return text;
    try {
      return JSON.parse(text);
    } catch (e) {
      wrong.textContent = "It is no JSON object: " + e.message;
      document.getElementById("composer-more").open = true;
      field.focus();
      throw e;
    }
  }

  let beginning = null; // the session that is being made
  async function withSession() {
    if (session) return;
    const peer = document.getElementById("peer")?.value.trim();
    beginning ??= api(at("/sessions"), { method: "POST", headers: { "Idempotency-Key": crypto.randomUUID() }, body: peer ? { peerId: peer } : {} });
    try {
      session = chat.dataset.session = (await beginning).data.id;
    } finally { beginning = null; }
    form.elements.session.value = session;
    document.getElementById("peer")?.closest(".field").remove();
    const url = new URL(location.href);
    url.searchParams.set("session", session);
    url.searchParams.delete("peer");
    history.replaceState(null, "", url);
    document.querySelector(".talk-head h2").textContent = peer ? `With the peer ${peer}` : "Conversation";
    chat.dataset.peer = peer ?? "";
    keepDraft();
  }

  async function send(text) {
    let ctx;
    try { ctx = context(); } catch { return; }
    problem("");
    const mine = message("user", chat.dataset.peer || document.getElementById("peer")?.value.trim() || "User", new Date(), "dashboard", text);
    const article = message("assistant", agentName, new Date());
    mine.classList.add("unsent");
    article.classList.add("open");
    list.append(mine, article);
    follows = true;
    const answer = new Answer(article);
    sending.add(mine);
    grown();
    try {
      await withSession();
    } catch (e) {
      refused(text, mine, article, e.status ? e.message : "The connection is lost. The message was not sent.");
      return;
    }
    transmit(text, ctx, crypto.randomUUID(), mine, answer);
  }

  const sending = new Set(); // messages whose outcome is not known yet

  function refused(text, mine, article, why) {
    mine.remove();
    article.remove();
    sending.delete(mine);
    if (!input.value.trim()) { input.value = text; grow(); }
    keepDraft();
    problem(why);
    input.focus();
  }

  async function transmit(text, ctx, key, mine, answer) {
    let res;
    try {
      res = await api(at("/messages"), { method: "POST", raw: true, headers: { "Idempotency-Key": key }, body: { message: text, sessionId: session, context: ctx } });
    } catch (e) {
      if (e.status) refused(text, mine, answer.article, e.message);
      else unknown(text, ctx, key, mine, answer);
      return;
    }
    sending.delete(mine);
    mine.classList.remove("unsent");
    const turn = mine.dataset.turn = res.headers.get("X-Turn-Id");
    answer.setTurn(turn);
    answer.follow(res);
  }

  // unknown says that nobody knows whether a message has arrived, and finds out.
  async function unknown(text, ctx, key, mine, answer) {
    answer.waiting("The connection was lost before the answer came, so it is not known whether the message has arrived. It is not sent again by itself");
    const known = new Set([...list.querySelectorAll("[data-turn]")].map((e) => e.dataset.turn));
    for (let tries = 0; ; tries++) {
      await pause(Math.min(500 * 2 ** tries, 15000) * (0.5 + Math.random()));
      try {
        const [turns, messages] = await Promise.all([api(at(`/turns?limit=20&sessionId=${session}`)), api(at(`/messages?limit=20&sessionId=${session}`))]);
        const fresh = turns.data.filter((t) => !known.has(t.id));
        const turn = fresh.find((t) => t.state === "queued" || messages.data.some((m) => m.turnId === t.id && m.role === "user" && m.content === text));
        if (turn) {
          sending.delete(mine);
          mine.classList.remove("unsent");
          mine.dataset.turn = turn.id;
          answer.setTurn(turn.id);
          answer.waiting("The message has arrived");
          answer.follow();
          return;
        }
        break;
      } catch (e) { if (e.status === 401) return; }
    }
    sending.delete(mine);
    answer.waiting("");
    const box = element("div", { class: "notice warn" }, element("p", {}, "The message has not arrived."), element("div", { class: "actions" },
      element("button", { type: "button", onclick: () => { box.remove(); sending.add(mine); answer.waiting("Sent"); transmit(text, ctx, key, mine, answer); } }, "Send it again"),
      element("button", { type: "button", onclick: () => refused(text, mine, answer.article, "") }, "Back to the field")));
    answer.article.append(box);
    grown();
  }

  // Drafts stay in this tab, for each conversation.

  const draftName = () => `agento-draft ${document.body.dataset.account} ${agent} ${session || "new"}`;
  const fields = () => ["message", "context", "peer"].map((id) => document.getElementById(id)).filter(Boolean);
  function keepDraft() {
    const draft = Object.fromEntries(fields().filter((f) => f.value).map((f) => [f.id, f.value]));
    remember(sessionStorage, draftName(), Object.keys(draft).length ? JSON.stringify(draft) : null);
  }
  function restoreDraft() {
    let draft = {};
    try { draft = JSON.parse(remembered(sessionStorage, draftName())) ?? {}; } catch { /* none */ }
    for (const f of fields()) if (!f.value && typeof draft[f.id] === "string") f.value = draft[f.id];
    if (draft.context || draft.peer && !session) document.getElementById("composer-more").open = true;
  }

  function grow() {
    input.style.height = "auto";
    input.style.height = Math.min(input.scrollHeight + 2, innerHeight * 0.4) + "px";
  }

  if (form) {
    restoreDraft();
    grow();
    form.addEventListener("input", () => { keepDraft(); grow(); });
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      const text = input.value;
      if (!text.trim()) { input.focus(); return; }
      input.value = "";
      keepDraft();
      grow();
      send(text);
      input.focus();
    });
    // Enter that ends a word of an input method is not ours. Browsers tell the end of the word
    // before or after the key.
    let composed = 0;
    input.addEventListener("compositionend", () => { composed = performance.now(); });
    input.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" || e.shiftKey || e.ctrlKey || e.altKey || e.metaKey) return;
      if (e.isComposing || e.keyCode === 229 || performance.now() - composed < 100) return;
      e.preventDefault();
      if (!e.repeat) form.requestSubmit();
    });
  }
  document.addEventListener("submit", async (e) => {
    if (e.target.id !== "start-agent") return;
    e.preventDefault();
    const button = e.target.querySelector("button");
    button.setAttribute("aria-busy", "true");
    try {
      await api(`/agents/${encodeURIComponent(agent)}/start`, { method: "POST" });
      agento.refresh?.();
    } catch (err) {
      problem(err.status ? err.message : "The connection was lost before the answer came, so it is not known whether the agent was started. What you see is how it is now, once the connection is back.");
      agento.refresh?.();
    }
    button.removeAttribute("aria-busy");
  }, true);

  // What happens elsewhere: other tabs, programs, channels.

  let syncing = false, again = false;
  async function sync() {
    if (!session || chat.dataset.past !== undefined || sending.size) return;
    if (syncing) { again = true; return; }
    syncing = true;
    try {
      do {
        again = false;
        const newest = [...list.querySelectorAll(".message[id]")].pop()?.id;
        const [turns, messages] = await Promise.all([
          api(at(`/turns?limit=20&sessionId=${session}`)),
          api(at(`/messages?limit=50&sessionId=${session}` + (newest ? `&after=${newest}` : ""))),
        ]);
        if (sending.size) return;
        for (const m of messages.data) place(m);
        for (const t of turns.data.slice().reverse()) if (!t.endedAt) openTurn(t);
      } while (again);
    } catch { /* the next change tries again */ } finally { syncing = false; }
  }

  const find = (turn, role) => turn && list.querySelector(`.message.${role}[data-turn="${CSS.escape(turn)}"]`);

  // place shows a message of the history, unless it is shown.
  function place(m) {
    if (document.getElementById(m.id)) return;
    let article = find(m.turnId, m.role);
    if (article) { article.id = m.id; return; }
    article = message(m.role, m.role === "user" ? m.peerId ?? "User" : agentName, new Date(m.timestamp), m.source, m.role === "user" ? m.content : undefined);
    article.id = m.id;
    if (m.turnId) article.dataset.turn = m.turnId;
    const open = m.role === "user" && find(m.turnId, "assistant");
    if (open) open.before(article);
    else list.append(article);
    if (m.role === "assistant") {
      rendered(article.querySelector(".text.md"), m.content);
      if (m.turnId) api(at("/turns/" + m.turnId)).then((t) => showEnd(article, t.data), () => {});
      else tools(article);
      readOut(m.content, true);
    }
    grown();
  }

  function openTurn(t) {
    if (following.has(t.id)) return;
    let article = find(t.id, "assistant");
    if (article && !article.classList.contains("open")) return;
    if (!article) {
      article = message("assistant", agentName, new Date(t.createdAt));
      article.classList.add("open");
      const asked = find(t.id, "user");
      if (asked) asked.after(article);
      else list.append(article);
    }
    const answer = new Answer(article, t.id);
    answer.queued = t.state === "queued";
    answer.waiting(answer.queued ? waits.queue : "The agent is at work");
    showStop();
    answer.follow();
    grown();
  }

  document.addEventListener("agento:changed", ({ detail: topics }) => {
    if (topics === null || topics.includes("chat/" + agent)) sync();
  });
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") for (const a of following.values()) a.renderer.flush(); });

  // Earlier messages

  const earlier = document.getElementById("earlier");
  earlier?.addEventListener("click", async (e) => {
    if (e.ctrlKey || e.metaKey || e.shiftKey || e.button) return;
    e.preventDefault();
    earlier.setAttribute("aria-busy", "true");
    let html;
    try {
      const res = await fetch(earlier.href);
      if (res.status === 401) { signIn(); return; }
      if (!res.ok) throw new Error(String(res.status));
      html = await res.text();
    } catch { agento.say("The earlier messages could not be loaded."); return; } finally { earlier.removeAttribute("aria-busy"); }
    const page = new DOMParser().parseFromString(html, "text/html");
    agento.enhance(page);
    const was = document.documentElement.scrollHeight - scrollY, focus = list.firstElementChild;
    const got = [...page.querySelectorAll("#messages > .message")].filter((m) => !m.id || !document.getElementById(m.id)).map((m) => document.adoptNode(m));
    list.prepend(...got);
    got.forEach(enhance);
    const next = page.getElementById("earlier");
    if (next) earlier.href = next.getAttribute("href");
    else earlier.closest(".earlier").remove();
    scrollTo({ top: document.documentElement.scrollHeight - was, behavior: "instant" });
    if (!next && focus) { focus.tabIndex = -1; focus.focus({ preventScroll: true }); }
  });

  // Search among the conversations that are listed; Enter asks the server for all.
  document.getElementById("find-session")?.addEventListener("input", (e) => {
    const words = e.target.value.toLowerCase();
    for (const li of document.querySelectorAll("#sessions li")) li.hidden = !li.textContent.toLowerCase().includes(words);
  });

  function enhance(article) {
    const body = article.querySelector("[data-markdown]");
    if (!body) return;
    body.removeAttribute("data-markdown");
    if (article.classList.contains("open")) return;
    rendered(body, body.textContent);
    if (article.querySelector(".end.bad")) article.dataset.failed = "";
    tools(article);
  }

  const showSessions = () => { document.getElementById("session-list").open = !short.matches; };
  short.addEventListener("change", showSessions);
  showSessions();
  for (const article of list.querySelectorAll(".message")) enhance(article);
  for (const article of list.querySelectorAll(".message.open")) openTurn({ id: article.dataset.turn, state: article.dataset.state });
  if (chat.dataset.past === undefined && list.childElementCount > 1) { grown(); requestAnimationFrame(grown); }
  if (form && !short.matches && chat.dataset.past === undefined) input.focus({ preventScroll: true });
  sync();
})();
