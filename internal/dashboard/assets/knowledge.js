"use strict";
// Files can be dropped on the page of a knowledge base. Each is checked by itself, with its
// progress; what it would add is shown, beside what is there already, and then added.
(() => {
  const { element, base, account, signIn, say } = agento;
  const form = () => document.getElementById("drop");
  const list = () => document.getElementById("dropped");
  const files = []; // what was dropped: {file, row, state, result}
  let working = false;

  // send sends a file to the API; XMLHttpRequest tells how much of it has been sent.
  function send(item, dryRun) {
    return new Promise((done) => {
      const q = new URLSearchParams(form().dataset.owner);
      q.set("filename", item.file.name);
      if (item.replace) q.set("replaceSource", "true");
      if (dryRun) q.set("dryRun", "true");
      const r = new XMLHttpRequest();
      r.open("POST", base() + "/api/v1/knowledge/files?" + q);
      r.setRequestHeader("X-Agento-Account", account());
      r.setRequestHeader("Content-Type", "application/octet-stream");
      r.responseType = "json";
      r.upload.addEventListener("progress", (e) => { if (e.lengthComputable) show(item, dryRun ? "sending" : "adding", e.loaded / e.total); });
      r.upload.addEventListener("load", () => show(item, dryRun ? "reading" : "storing"));
      r.addEventListener("load", () => {
        if (r.status === 401) { signIn(); return; }
        const message = r.response?.error?.details ? Object.values(r.response.error.details)[0] : r.response?.error?.message;
        if (r.status === 200 && r.response?.data) done({ data: r.response.data });
        else if (message) done({ problem: message });
        else done({ unknown: true });
      });
      r.addEventListener("error", () => done({ unknown: true }));
      r.send(item.file);
    });
  }

  const words = { waiting: "waits", sending: "is sent", reading: "is read", checked: "checked", adding: "is sent", storing: "is stored", added: "added", failed: "not possible", unknown: "not known" };

  function show(item, state, share) {
    item.state = state;
    item.bar.hidden = !["sending", "reading", "adding", "storing"].includes(state);
    if (share === undefined) item.bar.removeAttribute("value"); else item.bar.value = share;
    if (item.badge.textContent !== words[state]) item.badge.textContent = words[state];
    item.badge.className = "badge " + ({ checked: "good", added: "good", failed: "bad", unknown: "warn" }[state] ?? "busy");
    item.add.hidden = state !== "checked" || item.result.stored + (item.result.deleted ?? 0) === 0;
    item.again.hidden = state !== "unknown";
    buttons();
  }

  function buttons() {
    const ready = files.filter((f) => !f.add.hidden);
    all.hidden = ready.length < 2;
    all.textContent = `Add all ${ready.reduce((n, f) => n + f.result.stored, 0)} entries`;
  }

  const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;

  // explain says what a file would add, with each duplicate beside what it equals.
  function explain(item) {
    const r = item.result, known = r.chunks.filter((c) => c.status === "skipped"), fresh = r.chunks.filter((c) => c.status === "stored");
    const parts = [element("p", {}, `${count(r.stored, "new entry", "new entries")}, ${count(r.skipped, "duplicate", "duplicates")}${r.deleted ? `, ${count(r.deleted, "old entry", "old entries")} replaced` : ""}.`)];
    if (known.length) {
      const d = element("details", { class: "more", open: known.length <= 5 }, element("summary", {}, "Already there"));
      for (const c of known.slice(0, 20)) {
        d.append(element("div", { class: "columns-2 pair" },
          element("div", {}, element("p", { class: "soft" }, "In the file"), element("p", { class: "text" }, cut(c.text))),
          element("div", {}, element("p", { class: "soft" }, `${c.matchedId ? "In the knowledge, from " + (c.matchedSource ?? "") : "Earlier in the file"} · ${c.reason ?? ""}`), element("p", { class: "text" }, cut(c.matchedText)))));
      }
      if (known.length > 20) d.append(element("p", { class: "soft" }, `and ${known.length - 20} more`));
      parts.push(d);
    }
    if (fresh.length) {
      const d = element("details", { class: "more" }, element("summary", {}, "New"));
      for (const c of fresh.slice(0, 20)) d.append(element("p", { class: "text" }, cut(c.text)));
      if (fresh.length > 20) d.append(element("p", { class: "soft" }, `and ${fresh.length - 20} more`));
      parts.push(d);
    }
    item.about.replaceChildren(...parts);
  }

  const cut = (text) => { const all = [...(text ?? "")]; return all.length > 600 ? all.slice(0, 600).join("") + "…" : all.join(""); };

  // One file after the other: the server reads one of an account at a time.
  async function work() {
    if (working) return;
    working = true;
    for (let item; (item = files.find((f) => f.state === "waiting" || f.state === "wanted"));) {
      const dryRun = item.state === "waiting";
      show(item, dryRun ? "sending" : "adding", 0);
      const { data, problem, unknown } = await send(item, dryRun);
      if (unknown) {
        item.about.replaceChildren(element("p", {}, dryRun ? "The connection was lost, nothing was stored." : "The connection was lost before the answer came, so it is not known whether it was stored. The list below shows what is there now. Adding it again stores nothing twice."));
        show(item, "unknown");
        document.dispatchEvent(new CustomEvent("agento:lost"));
      } else if (problem) {
        item.about.replaceChildren(element("p", {}, problem));
        show(item, "failed");
      } else if (dryRun) {
        item.result = data;
        explain(item);
        show(item, "checked");
      } else {
        item.about.replaceChildren(element("p", {}, `Added ${count(data.stored, "entry", "entries")}; ${count(data.skipped, "was", "were")} there already.`));
        show(item, "added");
        say(`${item.file.name}: added ${count(data.stored, "entry", "entries")}.`);
      }
    }
    working = false;
  }

  function want(item) { item.add.hidden = true; item.state = "wanted"; item.badge.textContent = "waits"; buttons(); work(); }

  const all = element("button", { type: "button", class: "primary", hidden: true, onclick: () => { for (const f of files.filter((f) => !f.add.hidden)) want(f); } });

  function take(chosen) {
    const box = list();
    if (!box || chosen.length === 0) return;
    box.hidden = false;
    if (!box.contains(all)) box.append(element("div", { class: "actions" }, all));
    const replace = form().elements.replace.checked;
    for (const file of chosen) {
      const item = { file, replace, result: { stored: 0, chunks: [] } };
      item.badge = element("span", { class: "badge busy" });
      item.bar = element("progress", { max: 1, "aria-label": `Progress of ${file.name}` });
      item.about = element("div", {});
      item.add = element("button", { type: "button", class: "small primary", onclick: () => want(item) }, "Add", element("span", { class: "quiet" }, " " + file.name));
      item.again = element("button", { type: "button", class: "small", onclick: () => { item.state = "waiting"; work(); } }, "Check again");
      box.insertBefore(element("div", { class: "card" }, element("p", {}, element("b", {}, file.name), " ", item.badge), item.bar, item.about, element("div", { class: "actions" }, item.add, item.again)), all.parentElement);
      files.push(item);
      show(item, "waiting");
      if (file.size > 16 << 20) {
        item.about.replaceChildren(element("p", {}, "The file has more than 16 MB. Divide it, or import it with agento knowledge import."));
        show(item, "failed");
      }
    }
    work();
  }

  document.addEventListener("submit", (e) => {
    if (e.target !== form()) return;
    e.preventDefault();
    const input = document.getElementById("files");
    take([...input.files]);
    input.value = "";
  }, true);
  document.addEventListener("dragover", (e) => {
    if (!form() || ![...e.dataTransfer.types].includes("Files")) return;
    e.preventDefault();
    form().classList.add("over");
  });
  document.addEventListener("dragleave", (e) => { if (!e.relatedTarget) form()?.classList.remove("over"); });
  document.addEventListener("drop", (e) => {
    if (!form() || e.dataTransfer.files.length === 0) return;
    e.preventDefault();
    form().classList.remove("over");
    take([...e.dataTransfer.files]);
  });
  addEventListener("beforeunload", (e) => { if (working) e.preventDefault(); });
})();
