// markdown.js renders the Markdown of an answer as a tree of allowed elements, made by
// createElement alone: HTML in the text stays text, an image becomes a link, and a link is one only
// with http, https or mailto. It renders as the text comes: what is finished stays as it is, and only
// the last paragraph and the last line are rendered anew, so that the last word of a long answer costs
// what the first did. All scanning is linear, whatever the text is.
"use strict";
(() => {
  const maxDepth = 12; // of lists and quotes in each other; what is deeper is text
  const maxPart = 2048; // of a paragraph that is rendered anew, and of a line that is waited for
  const maxLines = 512; // of a paragraph of several lines
  const maxColumns = 40;
  const codeLines = 50; // in one element of a code block, so that the browser lays out few of them anew

  // Inline text

  const punctuation = /[!-/:-@[-`{-~]/;
  const isSpace = (c) => c === undefined || c === " " || c === "\n" || (c > "~" || c < " ") && /\s/.test(c);
  const isPunctuation = (c) => c !== undefined && /[\p{P}\p{S}]/u.test(c);

  // target returns the address that a link may have, or null.
  function target(address) {
    if (address.length > 2000) return null;
    let url;
    try {
      url = new URL(address);
    } catch {
      return null;
    }
    if (!["http:", "https:", "mailto:"].includes(url.protocol) || url.username || url.password) return null;
    return url;
  }

  function link(doc, url, children, text) {
    const a = doc.createElement("a");
    a.setAttribute("href", url.href);
    a.setAttribute("rel", "noopener noreferrer nofollow");
    a.setAttribute("target", "_blank");
    for (const c of children) a.appendChild(c);
    const where = url.protocol === "mailto:" ? decode(url.pathname) : url.host;
    if (text.includes(where) && target(text.trim())?.host === url.host) return [a];
    // The text of a link can name another place than the one that it leads to.
    const host = doc.createElement("bdi");
    host.setAttribute("class", "link-host");
    host.appendChild(doc.createTextNode(" (" + where + ")"));
    return [a, host];
  }

  function decode(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  // brackets returns, for each opening bracket, the place of its closing one.
  function brackets(text) {
    const open = [], pair = new Map();
    for (let i = 0; i < text.length; i++) {
      if (text[i] === "\\") i++;
      else if (text[i] === "[") open.push(i);
      else if (text[i] === "]" && open.length) pair.set(open.pop(), i);
    }
    return pair;
  }

  // destination reads "(address "title")" at a place and returns the address and the place after it.
  function destination(text, at) {
    if (text[at] !== "(" || text.lastIndexOf(")") < at) return null;
    let i = at + 1, address = "", depth = 0;
    const limit = Math.min(text.length, at + 2500);
    while (i < limit && isSpace(text[i])) i++;
    if (text[i] === "<") {
      const end = text.indexOf(">", i);
      if (end < 0 || end > limit) return null;
      address = text.slice(i + 1, end);
      i = end + 1;
    } else {
      const from = i;
      for (; i < limit && !isSpace(text[i]); i++) {
        if (text[i] === "(") depth++;
        if (text[i] === ")" && depth-- === 0) break;
      }
      address = text.slice(from, i);
    }
    while (i < limit && isSpace(text[i])) i++;
    if (text[i] === '"' || text[i] === "'") {
      const end = text.indexOf(text[i], i + 1);
      if (end < 0 || end > limit) return null;
      i = end + 1;
      while (i < limit && isSpace(text[i])) i++;
    }
    return text[i] === ")" ? { address, end: i + 1 } : null;
  }

  // bareAddress returns the length of an address that stands in the text as it is.
  function bareAddress(text, at) {
    let end = at, open = 0;
    for (; end < text.length && end - at < 2000 && !/[\s<>"`|\\]/.test(text[end]); end++) {
      if (text[end] === "(") open++;
      if (text[end] === ")") {
        if (open === 0) break;
        open--;
      }
    }
    while (end > at && /[.,;:!?'*_~\]]/.test(text[end - 1])) end--;
    return end - at;
  }

  // inline returns the nodes of a text. inLink says that they are those of a link.
  function inline(doc, text, inLink = false, depth = 0) {
    const out = []; // nodes, and runs of delimiters: {char, count, opens, closes, node}
    let plain = "";
    const flush = () => {
      if (plain) out.push(doc.createTextNode(plain));
      plain = "";
    };
    const element = (tag, content) => {
      flush();
      const e = doc.createElement(tag);
      if (content !== undefined) e.appendChild(doc.createTextNode(content));
      out.push(e);
    };
    const pairs = text.includes("[") ? brackets(text) : new Map();
    const unclosed = new Set(); // lengths of runs of backticks that no other one ends
    for (let i = 0; i < text.length; ) {
      const c = text[i];
      if (c === "\n") {
        plain = plain.replace(/ {1,8}$/, "");
        element("br");
        i++;
      } else if (c === "\\" && i + 1 < text.length && (punctuation.test(text[i + 1]) || text[i + 1] === "\n")) {
        if (text[i + 1] !== "\n") plain += text[i + 1];
        i += text[i + 1] === "\n" ? 1 : 2;
      } else if (c === "`") {
        let n = 1;
        while (text[i + n] === "`") n++;
        let end = unclosed.has(n) ? -1 : i + n;
        while (end >= 0) {
          end = text.indexOf("`", end);
          if (end < 0) break;
          let m = 1;
          while (text[end + m] === "`") m++;
          if (m === n) break;
          end += m;
        }
        if (end < 0) {
          unclosed.add(n);
          plain += text.slice(i, i + n);
          i += n;
        } else {
          let code = text.slice(i + n, end).replaceAll("\n", " ");
          if (code.length > 2 && code.startsWith(" ") && code.endsWith(" ") && code.trim()) code = code.slice(1, -1);
          element("code", code);
          i = end + n;
        }
      } else if ((c === "[" || (c === "!" && text[i + 1] === "[")) && depth < 4) {
        const from = c === "!" ? i + 1 : i, close = pairs.get(from);
        const to = close === undefined ? null : destination(text, close + 1);
        const url = to && !inLink ? target(to.address) : null;
        if (!to) {
          plain += text.slice(i, from + 1);
          i = from + 1;
        } else {
          const label = text.slice(from + 1, close) || (c === "!" ? "image" : to.address);
          flush();
          if (url) out.push(...link(doc, url, inline(doc, label, true, depth + 1), label));
          else out.push(...inline(doc, label, true, depth + 1)); // an address that is not allowed
          i = to.end;
        }
      } else if (c === "<" && /^<(https?:\/\/|mailto:)/i.test(text.slice(i, i + 9)) && text.indexOf(">", i) > 0) {
        const end = text.indexOf(">", i), address = text.slice(i + 1, end);
        const url = inLink || /\s/.test(address) ? null : target(address);
        flush();
        if (url) out.push(...link(doc, url, [doc.createTextNode(address)], address));
        else plain += text.slice(i, end + 1);
        i = end + 1;
      } else if (c === "h" && !inLink && /^https?:\/\//.test(text.slice(i, i + 8)) && !/\w/.test(text[i - 1] ?? "")) {
        const n = bareAddress(text, i), address = text.slice(i, i + n), url = target(address);
        flush();
        if (url) out.push(...link(doc, url, [doc.createTextNode(address)], address));
        else plain += address;
        i += Math.max(n, 1);
        if (!n) plain += c;
      } else if (c === "*" || c === "_" || c === "~") {
        let n = 1;
        while (text[i + n] === c) n++;
        const before = text[i - 1], after = text[i + n];
        const left = !isSpace(after) && (!isPunctuation(after) || isSpace(before) || isPunctuation(before));
        const right = !isSpace(before) && (!isPunctuation(before) || isSpace(after) || isPunctuation(after));
        const opens = c === "_" ? left && (!right || isPunctuation(before)) : left;
        const closes = c === "_" ? right && (!left || isPunctuation(after)) : right;
        if ((!opens && !closes) || (c === "~" && n !== 2)) plain += text.slice(i, i + n);
        else {
          flush();
          out.push({ char: c, count: n, opens, closes });
        }
        i += n;
      } else {
        plain += c;
        i++;
      }
    }
    flush();
    return emphasis(doc, out);
  }

  // emphasis makes elements of what delimiters enclose. Its time is linear: each node is moved at most
  // once for each of at most maxDepth levels, and a search that found nothing is not made again. What
  // would be deeper stays text.
  function emphasis(doc, parts) {
    const done = [], open = []; // open: places of runs in done that can open
    const nothingBelow = new Map();
    for (const p of parts) {
      if (!p.char) {
        done.push(p);
        continue;
      }
      while (p.closes && p.count > 0) {
        const key = p.char + p.opens + (p.count % 3);
        const floor = nothingBelow.get(key) ?? 0;
        let at = open.length - 1;
        for (; at >= floor; at--) {
          const o = done[open[at]];
          if (o.char === p.char && !((o.closes || p.opens) && (o.count + p.count) % 3 === 0 && (o.count % 3 || p.count % 3))) break;
        }
        if (at < floor) {
          nothingBelow.set(key, open.length);
          break;
        }
        const place = open[at], o = done[place];
        let depth = 1;
        for (let i = place + 1; i < done.length; i++) depth = Math.max(depth, 1 + (done[i].emphasisDepth ?? 0));
        if (depth > maxDepth) {
          open.length = 0;
          nothingBelow.clear();
          break;
        }
        const n = o.count >= 2 && p.count >= 2 ? 2 : 1;
        const e = doc.createElement(p.char === "~" ? "del" : n === 2 ? "strong" : "em");
        e.emphasisDepth = depth;
        for (const d of done.splice(place + 1)) e.appendChild(d.char ? doc.createTextNode(d.char.repeat(d.count)) : d);
        done.push(e);
        open.length = at + 1;
        for (const [k, v] of nothingBelow) if (v > at) nothingBelow.set(k, at);
        o.count -= n;
        p.count -= n;
        if (o.count === 0) {
          done.splice(place, 1);
          open.pop();
        }
      }
      if (p.count > 0 && p.opens) {
        open.push(done.length);
        done.push(p);
      } else if (p.count > 0) {
        done.push(doc.createTextNode(p.char.repeat(p.count)));
      }
    }
    return done.map((d) => (d.char ? doc.createTextNode(d.char.repeat(d.count)) : d));
  }

  // Blocks

  function indentOf(line) {
    let n = 0;
    while (line[n] === " ") n++;
    return n;
  }

  const isRule = (s) => {
    const t = s.replaceAll(" ", "");
    return t.length >= 3 && "-*_".includes(t[0]) && t === t[0].repeat(t.length);
  };

  function fenceOf(s) {
    const c = s[0];
    if (c !== "`" && c !== "~") return null;
    let n = 1;
    while (s[n] === c) n++;
    const info = s.slice(n).trim();
    return n < 3 || (c === "`" && info.includes("`")) ? null : { char: c, count: n, info };
  }

  function markerOf(s) {
    const m = /^(?:([-*+])|(\d{1,9})([.)]))(?: {1,4}(?! )| (?= )|$)/.exec(s);
    if (!m) return null;
    return { kind: m[1] ?? m[3], start: m[2] === undefined ? null : Number(m[2]), width: m[0].length };
  }

  function headingOf(s) {
    const m = /^(#{1,6})(?: |$)/.exec(s);
    if (!m) return null;
    let text = s.slice(m[0].length).trim();
    let end = text.length;
    while (end > 0 && text[end - 1] === "#") end--;
    if (end < text.length && (end === 0 || text[end - 1] === " ")) text = text.slice(0, end).trim();
    return { level: m[1].length, text };
  }

  // cellsOf returns the cells of a row of a table.
  function cellsOf(line) {
    const cells = [];
    let cell = "", s = line.trim();
    if (s.startsWith("|")) s = s.slice(1);
    for (let i = 0; i < s.length; i++) {
      if (s[i] === "\\" && s[i + 1] === "|") {
        cell += "|";
        i++;
      } else if (s[i] === "|") {
        cells.push(cell.trim());
        cell = "";
      } else cell += s[i];
    }
    if (cell.trim() || !s.endsWith("|")) cells.push(cell.trim());
    return cells;
  }

  // alignments returns those of the line below the head of a table, or null.
  function alignments(line) {
    if (!line.includes("-") || !/^[-:| ]*$/.test(line) || !line.includes("|")) return null;
    const cells = cellsOf(line);
    if (!cells.every((c) => /^:?-+:?$/.test(c))) return null;
    return cells.map((c) => (c.endsWith(":") ? (c.startsWith(":") ? "center" : "right") : ""));
  }

  class Renderer {
    // root gets the elements; doc makes them.
    constructor(root, doc = root.ownerDocument) {
      this.doc = doc;
      this.stack = [{ kind: "root", el: root }]; // containers that are open, the innermost last
      this.leaf = null; // the paragraph, code or table that is open
      this.rest = ""; // of the last line, which is not complete
      this.inLine = false; // the beginning of the line in rest was rendered
      this.undo = null; // what removes the last line's rendering; null unless it is being rendered
      this.before = null; // state before it
    }

    // write adds text. flush renders it, at most once a frame.
    write(text) {
      this.rest += text;
    }

    flush() {
      this.forget();
      this.rest = this.rest.includes("\r") ? this.rest.replace(/\r\n?(?!$)/g, "\n") : this.rest;
      let from = 0;
      for (let end; (end = this.rest.indexOf("\n", from)) >= 0; from = end + 1) this.part(this.rest.slice(from, end), true);
      this.rest = this.rest.slice(from);
      while (this.rest.length > maxPart) {
        const n = cutBefore(this.rest, maxPart);
        this.part(this.rest.slice(0, n), false);
        this.rest = this.rest.slice(n);
      }
      if (this.rest) {
        this.undo = [];
        this.before = { stack: this.stack.map((c) => ({ ...c })), leaf: this.leaf && { ...this.leaf }, inLine: this.inLine };
        this.part(this.rest, true);
      }
      this.paint();
    }

    // end renders what is left: nothing follows.
    end() {
      this.forget();
      this.write("\n");
      this.flush();
      this.close(0);
    }

    forget() {
      if (!this.undo) return;
      for (const f of this.undo.reverse()) f();
      ({ stack: this.stack, leaf: this.leaf, inLine: this.inLine } = this.before);
      if (this.leaf?.kind === "p") this.leaf.dirty = true;
      this.undo = null;
    }

    add(parent, tag, attributes = {}) {
      const e = this.doc.createElement(tag);
      for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
      parent.appendChild(e);
      this.undo?.push(() => e.remove());
      return e;
    }

    get top() {
      return this.stack[this.stack.length - 1];
    }

    // part renders a line, or a part of one; whole says that the line ends with it.
    part(text, whole) {
      const begun = this.inLine;
      this.inLine = !whole;
      if (!begun) {
        this.line(text.replace(/^[\t ]*/, (w) => w.slice(0, 200).replaceAll("\t", "    ")), !whole);
      } else if (this.leaf?.kind === "code") {
        this.codeText(text + (whole ? "\n" : ""));
      } else {
        if (this.leaf?.kind !== "p") this.paragraph();
        this.leaf.text += text;
        this.leaf.dirty = true;
        this.shorten();
      }
    }

    line(line, long) {
      // The containers that the line goes on with.
      let at = 1, s = line;
      for (; at < this.stack.length; at++) {
        const c = this.stack[at], n = indentOf(s);
        if (c.kind === "quote") {
          if (n > 3 || s[n] !== ">") break;
          s = s.slice(n + (s[n + 1] === " " ? 2 : 1));
        } else if (c.kind === "item") {
          if (s.trim() === "") s = "";
          else if (n >= Math.min(c.content, c.marker + 2)) s = s.slice(Math.min(n, c.content));
          else break;
        }
      }
      const all = at === this.stack.length;

      if (this.leaf?.kind === "code" && all) {
        const t = s.trim(), f = this.leaf;
        if (!long && t.length >= f.count && t === f.char.repeat(t.length) && indentOf(s) < 4) return this.closeLeaf();
        return this.codeText(s.slice(Math.min(indentOf(s), f.indent)) + (long ? "" : "\n"));
      }
      if (s.trim() === "") {
        this.closeTo(at);
        return this.closeLeaf();
      }
      const t = s.trimStart(), indent = s.length - t.length;
      const starts = this.startsBlock(t, at);
      if (this.leaf?.kind === "p" && !starts && !(all && this.startsTable(t))) { // also a line that forgot its ">" or indent
        if (this.undo && /^[-:| ]*$/.test(t) && this.leaf.text.includes("|")) return; // maybe the line below the head of a table
        this.leaf.text += "\n" + t.trimEnd();
        this.leaf.dirty = true;
        return this.shorten();
      }
      if (this.leaf?.kind === "table" && all && !starts && t.includes("|")) return this.row(cellsOf(t), "td");
      if (this.leaf?.kind === "p" && all && this.startsTable(t)) return this.table(alignments(t));
      this.closeTo(at);
      this.closeLeaf();
      this.block(t, indent, long);
    }

    startsTable(t) {
      if (this.undo || !t.includes("-")) return false;
      const aligned = alignments(t);
      if (!aligned || aligned.length > maxColumns) return false;
      const head = this.leaf.text.slice(this.leaf.text.lastIndexOf("\n") + 1);
      return head.includes("|") && cellsOf(head).length === aligned.length;
    }

    // startsBlock reports whether a line can begin a block in the middle of a paragraph. at is the
    // number of containers that it goes on with.
    startsBlock(t, at) {
      if (t[0] === ">" || isRule(t) || headingOf(t) || fenceOf(t)) return true;
      const m = markerOf(t);
      if (!m) return false;
      const inList = this.stack[at]?.kind === "list" || this.stack[at]?.kind === "item";
      return inList || (t.length > m.width && (m.start === null || m.start === 1));
    }

    // block begins the block of a line in the innermost container.
    block(t, indent, long) {
      const rule = isRule(t), m = rule ? null : markerOf(t);
      if (this.top.kind === "list" && !(m && this.top.marker === m.kind)) this.close(this.stack.length - 1);
      const deep = this.stack.length > maxDepth;
      if (rule) return void this.add(this.top.el, "hr");
      const heading = headingOf(t);
      if (heading) {
        const e = this.add(this.top.el, "h" + Math.min(6, heading.level + 2), { dir: "auto" });
        for (const node of inline(this.doc, heading.text)) e.appendChild(node);
        return;
      }
      const fence = fenceOf(t);
      if (fence) return this.code(fence, indent);
      if (t[0] === ">" && !deep) {
        this.stack.push({ kind: "quote", el: this.add(this.top.el, "blockquote") });
        return this.inside(t.slice(t[1] === " " ? 2 : 1), long);
      }
      if (m && !deep) {
        if (this.top.kind !== "list") {
          const ordered = m.start !== null;
          const el = this.add(this.top.el, ordered ? "ol" : "ul", ordered && m.start !== 1 ? { start: String(m.start) } : {});
          this.stack.push({ kind: "list", el, marker: m.kind });
        }
        this.stack.push({ kind: "item", el: this.add(this.top.el, "li"), marker: indent, content: indent + m.width });
        return this.inside(t.slice(m.width), long);
      }
      this.paragraph();
      this.leaf.text = t.trimEnd();
      this.shorten();
    }

    // inside begins a block in a container that was just begun.
    inside(s, long) {
      const t = s.trimStart();
      if (t) this.block(t, s.length - t.length, long);
    }

    paragraph() {
      this.closeLeaf();
      if (this.top.kind === "list") this.close(this.stack.length - 1);
      this.leaf = { kind: "p", el: this.add(this.top.el, "p", { dir: "auto" }), text: "", dirty: true };
    }

    // shorten ends the first part of a long paragraph, so that what is rendered anew stays short.
    shorten() {
      for (;;) {
        const text = this.leaf.text;
        let n = text.length > 2 * maxLines && text.includes("\n") ? cutBefore(text, text.length - 1, "\n") : 0;
        if (!n && text.length > maxPart) n = cutBefore(text, maxPart * 3 / 4);
        if (!n) return;
        this.leaf.text = text.slice(0, n).trimEnd();
        this.leaf.dirty = true;
        this.paragraph();
        this.leaf.el.setAttribute("class", "continued");
        this.leaf.text = text.slice(n).trimStart();
      }
    }

    paint() {
      const p = this.leaf;
      if (p?.kind !== "p" || !p.dirty) return;
      p.dirty = false;
      while (p.el.firstChild) p.el.removeChild(p.el.firstChild);
      for (const node of inline(this.doc, p.text)) p.el.appendChild(node);
    }

    code(fence, indent) {
      const box = this.add(this.top.el, "div", { class: "code" });
      const head = this.add(box, "div", { class: "code-head" });
      this.add(head, "span", { class: "code-language" }).appendChild(this.doc.createTextNode(fence.info.split(/\s/, 1)[0].slice(0, 40)));
      this.add(head, "button", { type: "button", class: "copy", "data-copy-code": "" }).appendChild(this.doc.createTextNode("Copy"));
      const pre = this.add(box, "pre", { tabindex: "0" });
      this.leaf = { kind: "code", el: this.add(pre, "code"), char: fence.char, count: fence.count, indent, lines: null, n: 0 };
    }

    codeText(text) {
      const f = this.leaf;
      if (!f.lines || f.n >= codeLines || f.size > maxPart) {
        f.lines = this.add(f.el, "div");
        f.n = f.size = 0;
      }
      const node = this.doc.createTextNode(text);
      f.lines.appendChild(node);
      this.undo?.push(() => node.remove());
      f.n++;
      f.size += text.length;
    }

    table(aligned) {
      const p = this.leaf, cut = p.text.lastIndexOf("\n"), head = cellsOf(p.text.slice(cut + 1));
      p.text = p.text.slice(0, Math.max(cut, 0));
      p.dirty = true;
      this.paint();
      if (!p.text) p.el.remove();
      const box = this.add(this.top.el, "div", { class: "md-table", tabindex: "0" });
      const table = this.add(box, "table");
      this.leaf = { kind: "table", body: this.add(table, "thead"), aligned };
      this.row(head, "th");
      this.leaf.body = this.add(table, "tbody");
    }

    row(cells, tag) {
      const tr = this.add(this.leaf.body, "tr");
      this.leaf.aligned.forEach((align, i) => {
        const e = this.add(tr, tag, align ? { class: "align-" + align, dir: "auto" } : { dir: "auto" });
        for (const node of inline(this.doc, cells[i] ?? "")) e.appendChild(node);
      });
    }

    closeLeaf() {
      this.paint();
      this.leaf = null;
    }

    closeTo(n) {
      if (n < this.stack.length) this.close(n);
    }

    // close closes all containers but the first n, and what is in them.
    close(n) {
      this.closeLeaf();
      this.stack.length = Math.max(n, 1);
    }
  }

  // cutBefore returns a place of at most n at which a text can be cut: after white space where nothing
  // is emphasized if there is one, or at least not in a character. If it must be at a newline, 0
  // means that there is none.
  function cutBefore(text, n, newline) {
    const open = { "*": 0, _: 0, "`": 0, "~": 0 };
    let links = 0, good = 0, any = 0;
    for (let i = 0; i < n; i++) {
      const c = text[i];
      if (c in open) open[c] ^= 1;
      else if (c === "[") links++;
      else if (c === "]" && links) links--;
      else if (newline ? c === newline : isSpace(c)) {
        any = i + 1;
        if (!links && !open["*"] && !open._ && !open["`"] && !open["~"]) good = i + 1;
      }
    }
    if (good > n / 4 || newline) return good;
    if (any > n / 4) return any;
    const c = text.charCodeAt(n - 1);
    return c >= 0xd800 && c < 0xdc00 ? n - 1 : n;
  }

  // render renders a whole text into an element.
  function render(root, text) {
    const r = new Renderer(root);
    r.write(text);
    r.end();
    return r;
  }

  agento.markdown = { Renderer, render };
})();
