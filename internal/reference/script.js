"use strict";
// The pages work without this script. It adds the switch between light and dark, the search,
// the buttons that copy, and remembers the language of the examples.
(() => {
  const root = document.documentElement;
  const remembered = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private mode */ } };

  const theme = remembered("agento-theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  document.addEventListener("DOMContentLoaded", () => {
    themeSwitch();
    languages();
    copyButtons();
    search();
    contents();
  });

  function themeSwitch() {
    const button = document.getElementById("theme");
    const show = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember("agento-theme", root.dataset.theme);
      show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  }

  function languages() {
    const inputs = [...document.querySelectorAll(".samples input")];
    const choose = (language) => { for (const i of inputs) if (i.value === language) i.checked = true; };
    const before = remembered("agento-language");
    if (before) choose(before);
    for (const input of inputs) input.addEventListener("change", () => {
      const top = input.getBoundingClientRect().top;
      choose(input.value);
      remember("agento-language", input.value);
      scrollBy(0, input.getBoundingClientRect().top - top); // samples above have another height now
    });
  }

  function copyButtons() {
    for (const block of document.querySelectorAll("pre.code")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(block.textContent);
          button.textContent = "Copied";
        } catch { // the page is not from localhost or by HTTPS
          const range = document.createRange();
          range.selectNodeContents(block);
          getSelection().removeAllRanges();
          getSelection().addRange(range);
          button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      const frame = document.createElement("div");
      frame.className = "frame";
      block.replaceWith(frame);
      frame.append(block, button);
    }
  }

  // The contents are beside the page, or below it where there is no room.
  function contents() {
    const current = document.querySelector("#contents [aria-current]");
    if (current && matchMedia("(min-width: 60rem)").matches) current.scrollIntoView({ block: "center" });
    const links = new Map([...document.querySelectorAll("#contents a[href^='#']")].map((a) => [a.hash.slice(1), a]));
    const seen = new IntersectionObserver((entries) => {
      for (const e of entries) if (e.isIntersecting) {
        for (const a of links.values()) a.classList.remove("here");
        links.get(e.target.id)?.classList.add("here");
      }
    }, { rootMargin: "-10% 0px -80% 0px" });
    for (const section of document.querySelectorAll(".operation")) seen.observe(section);
  }

  function search() {
    const input = document.getElementById("search");
    const list = document.getElementById("found");
    input.parentElement.hidden = false;
    let index;
    const load = async () => { index ??= (await fetch("/docs/search.json")).json(); return index; };
    const score = (entry, words) => {
      let sum = 0;
      const title = entry.t.toLowerCase(), place = entry.p.toLowerCase(), text = entry.x.toLowerCase();
      for (const w of words) {
        const here = (title.startsWith(w) ? 8 : title.includes(w) ? 5 : 0) + (place.includes(w) ? 2 : 0) + (text.includes(w) ? 1 : 0);
        if (here === 0) return 0;
        sum += here;
      }
      return sum;
    };
    const show = async () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (words.length === 0) { list.hidden = true; return; }
      const entries = await load();
      const best = entries.map((e) => [score(e, words), e]).filter(([s]) => s > 0).sort((a, b) => b[0] - a[0]).slice(0, 12);
      list.replaceChildren(...best.map(([, e]) => {
        const item = document.createElement("li"), a = document.createElement("a"), place = document.createElement("span");
        a.href = e.a;
        a.textContent = e.t;
        place.textContent = e.p;
        a.append(place);
        item.append(a);
        return item;
      }));
      if (best.length === 0) list.textContent = "Nothing found.";
      list.hidden = false;
    };
    input.addEventListener("input", show);
    input.addEventListener("focus", show);
    input.addEventListener("keydown", (e) => {
      const first = list.querySelector("a");
      if (e.key === "Escape") { list.hidden = true; input.blur(); }
      if (e.key === "Enter" && first) location.href = first.href;
      if (e.key === "ArrowDown" && first) { first.focus(); e.preventDefault(); }
    });
    list.addEventListener("keydown", (e) => {
      const links = [...list.querySelectorAll("a")], at = links.indexOf(document.activeElement);
      if (e.key === "ArrowDown") { links[Math.min(at + 1, links.length - 1)].focus(); e.preventDefault(); }
      if (e.key === "ArrowUp") { (at > 0 ? links[at - 1] : input).focus(); e.preventDefault(); }
      if (e.key === "Escape") { list.hidden = true; input.focus(); }
    });
    list.addEventListener("click", () => { list.hidden = true; });
    document.addEventListener("click", (e) => { if (!input.parentElement.contains(e.target)) list.hidden = true; });
    document.addEventListener("keydown", (e) => {
      if (e.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) { input.focus(); e.preventDefault(); }
    });
  }
})();
