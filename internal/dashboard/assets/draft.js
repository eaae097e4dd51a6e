// Keeps what was typed into forms with data-draft while the person is elsewhere in this tab: it
// is in sessionStorage until the form is sent. No such form has a secret.
"use strict";
for (const form of document.querySelectorAll("form[data-draft]")) {
  const name = "draft " + document.body.dataset.account + " " + form.dataset.draft;
  const fields = [...form.querySelectorAll("textarea, input:not([type=hidden])")];
  const hash = form.querySelector("input[name=hash]");
  const opened = hash ? hash.value : "";
  const refused = document.querySelector(".notice.bad") !== null;
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem(name)); } catch { sessionStorage.removeItem(name); }
  if (kept && !refused && fields.some((f) => kept.fields[f.name] !== undefined && kept.fields[f.name] !== f.value)) {
    for (const f of fields) if (kept.fields[f.name] !== undefined) f.value = kept.fields[f.name];
    if (hash) hash.value = kept.hash; // a change that was made meanwhile is a conflict, and not lost
    const note = document.createElement("p");
    note.className = "notice";
    note.setAttribute("role", "status");
    note.append("This is your draft, which is not saved yet. ");
    const drop = document.createElement("button");
    drop.type = "button";
    drop.className = "small";
    drop.textContent = "Throw it away";
    drop.addEventListener("click", () => { sessionStorage.removeItem(name); location.reload(); });
    note.append(drop);
    form.prepend(note);
  }
  form.addEventListener("input", () => {
    sessionStorage.setItem(name, JSON.stringify({ hash: kept && hash ? hash.value : opened, fields: Object.fromEntries(fields.map((f) => [f.name, f.value])) }));
  });
  form.addEventListener("submit", () => sessionStorage.removeItem(name));
}
