"use strict";
// Shows a chat widget as the form beside it describes it.
(() => {
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  function show() {
    const form = document.querySelector("[data-widget-form]"), preview = document.querySelector("[data-widget-preview]");
    if (!form || !preview) return;
    preview.hidden = false;
    const value = (name) => form.elements[name]?.value.trim() ?? "";
    const stage = preview.querySelector(".stage"), color = /^#[0-9a-f]{6}$/i.test(value("color")) ? value("color") : "#2563eb";
    const parts = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16) / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    stage.style.setProperty("--c", color);
    stage.style.setProperty("--on", 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] > 0.18 ? "#111" : "#fff");
    stage.classList.toggle("dark", value("mode") === "dark" || value("mode") === "auto" && prefersDark.matches);
    stage.classList.toggle("left", value("position") === "left");
    stage.querySelector(".bar").textContent = value("title") || value("name") || "Chat";
    stage.querySelector(".they").textContent = value("greeting");
  }
  document.addEventListener("input", show);
  document.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", show);
  for (const e of ["agento:shown", "agento:refreshed", "agento:restored"]) document.addEventListener(e, show);
  prefersDark.addEventListener("change", show);
})();
