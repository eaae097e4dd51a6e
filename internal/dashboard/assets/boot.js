"use strict";
// Shows the log of a start as it is written.
(() => {
  let following = null;
  async function follow() {
    const out = document.querySelector("[data-boot]");
    if (!out) { following?.abort(); following = null; return; }
    if (following) return;
    following = new AbortController();
    const mine = following;
    try {
      const res = await agento.api(`/agents/${encodeURIComponent(out.dataset.boot)}/logs/stream?tail=50`, { raw: true, signal: mine.signal });
      const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = "";;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const lines = text.split("\n");
        text = lines.pop();
        const said = lines.filter((l) => l.startsWith("data:")).map((l) => l.slice(5).replace(/^ /, "") + "\n").join("");
        if (!said) continue;
        const end = out.scrollHeight - out.scrollTop - out.clientHeight < 40;
        out.append(said);
        if (end) out.scrollTop = out.scrollHeight;
      }
    } catch { /* the agent has no log yet, or the page is left: the next change tries again */ }
    if (following === mine) following = null;
  }
  document.addEventListener("DOMContentLoaded", follow);
  document.addEventListener("agento:refreshed", follow);
})();
