/* agento chat widget. Guide: docs/widgets.md. No cookies, no innerHTML, no inline styles, no remote images. */
(() => {
'use strict';
const script = document.currentScript, d = script ? script.dataset : {};
const base = new URL('.', script ? script.src : location.href).href + 'widget/v1/';
const queue = (window.agentoWidget || {}).q || [];
const TEXT = {
  open: 'Open chat', close: 'Close chat', write: 'Write a message', send: 'Send', stop: 'Stop the answer', you: 'You', bot: 'Assistant',
  sending: 'Sending…', typing: 'Writing an answer…', again: 'Reconnecting…', unsent: 'This message was not sent.', retry: 'Send again', older: 'Earlier messages',
  stopped: 'Stopped.', failed: 'I cannot answer at the moment. Please try again later.', offline: 'The chat cannot be reached at the moment.', reload: 'Try again', unknown: 'Connection lost. Checking whether your message arrived…',
};
const CSS = `:host{--c:var(--agento-color,var(--aw-color,#2563eb));--on:var(--agento-on-color,var(--aw-on,#fff));--bg:var(--agento-background,var(--b));--fg:var(--agento-text,var(--t));--dim:var(--agento-muted,var(--d));--soft:var(--agento-surface,var(--s));
--b:#fff;--t:#1a1d21;--d:#5b6470;--s:#eff1f4;--line:#d5d9df;
font:15px/1.5 var(--agento-font,system-ui,sans-serif);color:var(--fg);color-scheme:light}
:host([data-mode=dark]){--b:#16191d;--t:#eceff2;--d:#a3acb7;--s:#252a30;--line:#3a414a;color-scheme:dark}
*{box-sizing:border-box}button,textarea{font:inherit;color:inherit}button{cursor:pointer;border:0;background:none}
:focus-visible{outline:2px solid var(--c);outline-offset:2px}
.l{position:fixed;bottom:20px;right:20px;z-index:2147483000;width:56px;height:56px;border-radius:50%;background:var(--c);color:var(--on);box-shadow:0 4px 16px #0004}
.l::before{content:'';display:block;width:24px;height:24px;margin:auto;background:currentColor;clip-path:path('M4 3h16a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H9l-5 4v-4a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2z')}
.p{position:fixed;bottom:88px;right:20px;z-index:2147483001;display:flex;flex-direction:column;width:400px;max-width:90vw;height:620px;max-height:80vh;background:var(--bg);border:1px solid var(--line);border-radius:14px;overflow:hidden;box-shadow:0 12px 40px #0003}
:host([data-position=left]) :is(.l,.p){right:auto;left:20px}[hidden]{display:none!important}
:host([data-layout=page]) .p{inset:0;width:auto;height:auto;max-width:none;max-height:none;border:0;border-radius:0}:host([data-layout=page]) :is(.l,.x){display:none}
.h{display:flex;align-items:center;gap:8px;padding:12px 16px;background:var(--c);color:var(--on)}.h b{flex:1;overflow-wrap:anywhere}.h :focus-visible{outline-color:var(--on)}
.x{width:32px;height:32px;font-size:20px;line-height:1;border-radius:8px}
.m{flex:1;overflow-y:auto;padding:16px;display:flex;flex-direction:column;gap:12px;overscroll-behavior:contain}
.b{max-width:88%;align-self:flex-start;padding:8px 12px;border-radius:12px;background:var(--soft);overflow-wrap:anywhere}
.u{align-self:flex-end;background:var(--c);color:var(--on);white-space:pre-wrap}.n{align-self:center;color:var(--dim);font-size:13px;text-align:center}
.n button,.o{text-decoration:underline;padding:4px 8px}.o{align-self:center;font-size:13px}
.b :is(p,ul,ol,pre,blockquote,h3){margin:0 0 8px}.b :last-child{margin-bottom:0}.b table{border-collapse:collapse}.w{margin-bottom:8px}.b :is(ul,ol){padding-left:22px}.b h3{font-size:1em}.b a{color:inherit}.b hr{border:0;border-top:1px solid var(--line)}
.b blockquote{padding-left:10px;border-left:3px solid var(--line)}.b pre{overflow-x:auto;padding:8px 10px;border-radius:8px;background:var(--bg);font:13px/1.45 ui-monospace,monospace}.b code{font:13px ui-monospace,monospace}.b pre code{white-space:pre}
.b td,.b th{border:1px solid var(--line);padding:2px 6px;text-align:left}.w{overflow-x:auto}
.s{min-height:20px;padding:0 16px;color:var(--dim);font-size:13px}
.f{display:flex;gap:8px;align-items:flex-end;padding:10px 12px;border-top:1px solid var(--line)}
.f textarea{flex:1;resize:none;max-height:140px;padding:8px 10px;border:1px solid var(--line);border-radius:10px;background:var(--bg)}
.f button{height:40px;padding:0 14px;border-radius:10px;background:var(--c);color:var(--on)}.f button:disabled{opacity:.5;cursor:default}
.v{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@media(max-width:480px){.p{inset:0!important;width:auto;height:auto;max-width:none;max-height:none;border:0;border-radius:0}.f textarea{font-size:16px}}
@media(prefers-reduced-motion:no-preference){.t::after{content:'';animation:b 1s steps(4) infinite}@keyframes b{25%{content:'.'}50%{content:'..'}75%{content:'...'}}}`;

const el = (name, props, ...kids) => {
  const e = document.createElement(name);
  for (const k in props || {}) if (k in e && !k.includes('-')) e[k] = props[k]; else e.setAttribute(k, props[k]);
  e.append(...kids);
  return e;
};
const wait = (ms) => new Promise((done) => {
  const end = () => { clearTimeout(t); removeEventListener('online', end); done(); };
  const t = setTimeout(end, ms);
  addEventListener('online', end);
});

/* Markdown as a tree of few elements. What it does not know stays text. */
const SAFE = /^(https?:\/\/|mailto:)/i;
const link = (url, text) => {
  if (!SAFE.test(url)) return text;
  return el('a', { href: url, target: '_blank', rel: 'noopener noreferrer nofollow' }, text);
};
const INLINE = /(`+)([^]*?[^`])\1(?!`)|!?\[([^\]]*)\]\(\s*<?([^\s)>]+)>?[^)]*\)|\*\*(?=\S)([^]+?)\*\*|__(?=\S)([^]+?)__|\*(?=[^\s*])([^*\n]+?)\*|\b_(?=\S)([^_\n]+?)_\b|~~(?=\S)([^]+?)~~|(https?:\/\/[^\s<>()"']*[^\s<>()"'.,;:!?])|\\([\\`*_{}\[\]()#+.!~|>-])/;
const inline = (to, text, depth = 0) => {
  for (let m; depth < 8 && text && (m = INLINE.exec(text)); text = text.slice(m.index + m[0].length)) {
    to.append(text.slice(0, m.index));
    if (m[2]) to.append(el('code', {}, m[2]));
    else if (m[4]) to.append(link(m[4], m[3] || m[4]));
    else if (m[10]) to.append(link(m[10], m[10]));
    else if (m[11]) to.append(m[11]);
    else to.append(inline(el(m[5] || m[6] ? 'strong' : m[9] ? 'del' : 'em'), m[5] || m[6] || m[7] || m[8] || m[9], depth + 1));
  }
  to.append(text);
  return to;
};
const FENCE = /^ {0,3}(```+|~~~+)[^`\n]*$/, ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const row = (line, name) => el('tr', {}, ...line.replace(/^\s*\||\|\s*$/g, '').split('|').map((c) => inline(el(name), c.trim())));
const blocks = (text) => {
  const out = [], lines = text.split('\n');
  for (let i = 0, m; i < lines.length;) {
    const line = lines[i];
    if ((m = FENCE.exec(line))) {
      const code = [];
      for (i++; i < lines.length && !lines[i].trim().startsWith(m[1]); i++) code.push(lines[i]);
      i++;
      out.push(el('pre', { tabIndex: 0 }, el('code', {}, code.join('\n'))));
    } else if (!line.trim()) i++;
    else if ((m = /^ {0,3}#{1,6}\s+(.*)$/.exec(line))) { out.push(inline(el('h3'), m[1])); i++; }
    else if (/^ {0,3}([-*_])(\s*\1){2,}\s*$/.test(line)) { out.push(el('hr')); i++; }
    else if (/^ {0,3}>/.test(line)) {
      const quoted = [];
      for (; i < lines.length && /^ {0,3}>/.test(lines[i]); i++) quoted.push(lines[i].replace(/^ {0,3}> ?/, ''));
      out.push(inline(el('blockquote'), quoted.join('\n')));
    } else if (ITEM.test(line)) {
      const stack = [];
      for (; i < lines.length && lines[i].trim(); i++) {
        if ((m = ITEM.exec(lines[i]))) {
          const depth = m[1].length;
          while (stack.length > 1 && depth < stack[stack.length - 1].depth) stack.pop();
          let top = stack[stack.length - 1];
          if (!top || depth > top.depth + 1 && stack.length < 8 && top.list.lastChild) {
            const n = parseInt(m[2], 10), list = el(n >= 0 ? 'ol' : 'ul', n > 1 ? { start: n } : {});
            if (top) top.list.lastChild.append(list); else out.push(list);
            stack.push(top = { depth, list });
          }
          top.list.append(inline(el('li'), m[3]));
        } else stack[stack.length - 1].list.lastChild.append(' ', inline(el('span'), lines[i].trim()));
      }
    } else if (line.includes('|') && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[i + 1] || '')) {
      const table = el('table', {}, row(line, 'th'));
      for (i += 2; i < lines.length && lines[i].includes('|'); i++) table.append(row(lines[i], 'td'));
      out.push(el('div', { className: 'w' }, table));
    } else {
      const p = [];
      for (; i < lines.length && lines[i].trim() && !(p.length && (FENCE.test(lines[i]) || ITEM.test(lines[i]) || /^ {0,3}(#{1,6}\s|>)/.test(lines[i]))); i++) p.push(lines[i]);
      out.push(inline(el('p'), p.join('\n')));
    }
  }
  return out;
};
/* Writes an answer as it comes: blocks that are complete stay, the last one is made anew once a frame. */
const writer = (to, after) => {
  let text = '', from = 0, seen = 0, tail = [], fence = '', was = '', due = 0, shown = 0;
  const draw = (final) => {
    due = 0;
    let end = from;
    for (let at; (at = text.indexOf('\n', seen)) >= 0; seen = at + 1) {
      const line = text.slice(seen, at), m = FENCE.exec(line);
      if (fence ? line.trim().startsWith(fence) : m) { fence = fence ? '' : m[1]; if (!fence) end = at + 1; }
      else if (!fence && !line.trim()) end = at + 1;
    }
    const open = final !== 1 && was && fence && tail.length == 1 && tail[0].nodeName == 'PRE' && end == from;
    if (open && text.length > shown) tail[0].firstChild.firstChild.appendData(text.slice(shown));
    else {
      tail.forEach((e) => e.remove());
      to.append(...blocks(text.slice(from, end)));
      from = end;
      to.append(...(tail = blocks(text.slice(from))));
    }
    shown = text.length; was = fence;
    after();
  };
  return { add(s) { text += s; if (!due) due = requestAnimationFrame(draw); }, end() { cancelAnimationFrame(due); draw(1); return text; } };
};

const create = (options) => {
  const o = { widget: d.widget, tokenUrl: d.tokenUrl, layout: d.layout, storage: d.storage || 'local', ...options }, T = { ...TEXT, ...o.text };
  const name = 'agento-widget:' + o.widget;
  const store = (key, value) => {
    try {
      if (o.storage == 'none') return null;
      const s = o.storage == 'session' || key == 'draft' ? sessionStorage : localStorage, k = name + ':' + key;
      if (value === undefined) return s.getItem(k);
      if (value) s.setItem(k, value); else s.removeItem(k);
    } catch { /* storage is off */ }
    return null;
  };
  let visitor = store('visitor'), token = '', tokenEnd = 0, ready = null, turn = '', last = 0, gone = false, reading = null, before = null, looked = 0, composing = false, known = new Set(), sent = [];

  const host = el('agento-widget'), root = host.attachShadow({ mode: 'open' });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(CSS);
  root.adoptedStyleSheets = [sheet];
  const launcher = el('button', { className: 'l', type: 'button', 'aria-label': T.open, 'aria-expanded': 'false' });
  const title = el('b', { id: 'title' }), close = el('button', { className: 'x', type: 'button', 'aria-label': T.close }, '×');
  const log = el('div', { className: 'm', tabIndex: 0, 'aria-label': T.bot }), state = el('div', { className: 's', role: 'status' }), said = el('div', { className: 'v', 'aria-live': 'polite' });
  const input = el('textarea', { rows: 1, maxLength: 8000, placeholder: T.write, 'aria-label': T.write, value: store('draft') || '' });
  const button = el('button', { type: 'submit' }, T.send);
  const form = el('form', { className: 'f' }, input, button);
  const panel = el('div', { className: 'p', role: 'dialog', 'aria-labelledby': 'title', hidden: true }, el('div', { className: 'h' }, title, close), log, state, form, said);
  root.append(launcher, panel);

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 48;
  const keep = (change) => { const follow = atEnd(); change(); if (follow) log.scrollTop = log.scrollHeight; };
  const say = (text, busy) => { state.textContent = text; state.classList.toggle('t', !!busy); };
  const busy = (on) => {
    button.textContent = on ? T.stop : T.send;
    button.disabled = on && !turn;
  };
  const bubble = (role, content) => {
    const b = el('div', { className: 'b' + (role == 'user' ? ' u' : '') }, el('span', { className: 'v' }, (role == 'user' ? T.you : T.bot) + ': '));
    if (role == 'user') b.append(content); else b.append(...blocks(content));
    return b;
  };
  const note = (text, action, run) => {
    const n = el('div', { className: 'n' }, text);
    if (action) n.append(' ', el('button', { type: 'button', onclick: () => { n.remove(); run(); } }, action));
    keep(() => log.append(n));
    return n;
  };

  const dark = matchMedia('(prefers-color-scheme: dark)');
  let theme = {};
  const paint = (t) => {
    theme = { ...theme, ...t };
    const color = o.color || d.color || theme.color || '#2563eb', mode = o.mode || d.mode || theme.mode || 'auto';
    const m = /^#(..)(..)(..)$/.exec(color), lum = m ? [.2126, .7152, .0722].reduce((s, f, i) => { const c = parseInt(m[i + 1], 16) / 255; return s + f * (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4); }, 0) : 0;
    host.style.setProperty('--aw-color', color);
    host.style.setProperty('--aw-on', lum > .18 ? '#111' : '#fff');
    host.dataset.mode = mode == 'auto' ? (dark.matches ? 'dark' : 'light') : mode;
    host.dataset.position = o.position || d.position || theme.position || 'right';
    if (o.layout) host.dataset.layout = o.layout;
    title.textContent = o.title || d.title || theme.title || '';
  };
  dark.addEventListener('change', () => paint());

  /* The token of the customer's backend, if the page gets one. */
  const signed = async (fresh) => {
    if (!o.token && !o.tokenUrl) return '';
    if (!fresh && token && Date.now() < tokenEnd) return token;
    let t = '';
    if (o.token) t = await o.token();
    else {
      const res = await fetch(o.tokenUrl, { credentials: 'same-origin', cache: 'no-store' });
      if (res.ok) { t = (await res.text()).trim(); try { t = JSON.parse(t).token || ''; } catch { /* the token itself */ } }
    }
    token = t || ''; tokenEnd = 0;
    try { tokenEnd = JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).exp * 1000 - 30000; } catch { /* it is asked for each time */ }
    return token;
  };
  const call = async (method, to, body, extra, second) => {
    const h = { 'X-Widget-Key': o.widget, ...extra }, t = await signed(second);
    if (t) h.Authorization = 'Bearer ' + t;
    if (visitor) h['X-Widget-Visitor'] = visitor;
    if (body) h['Content-Type'] = 'application/json';
    const res = await fetch(base + to, { method, headers: h, body: body && JSON.stringify(body), credentials: 'omit', cache: 'no-store', referrerPolicy: 'strict-origin' });
    if (!res.ok) {
      let e = {};
      try { e = (await res.json()).error || {}; } catch { /* not ours */ }
      if (res.status == 401 && !second && e.details) { /* a token was refused, and nothing has happened */
        if (!t && visitor) { visitor = ''; store('visitor', ''); }
        if (to != 'visits') await visit(true);
        return call(method, to, body, extra, true);
      }
      throw Object.assign(new Error(e.message || T.failed), { status: res.status });
    }
    return res;
  };
  const visit = async (second) => {
    const v = (await (await call('POST', 'visits', {}, {}, second)).json()).data;
    if (v.visitor) { visitor = v.visitor; store('visitor', visitor); }
    paint({ ...v.theme, title: v.title });
    return v;
  };
  const start = () => ready || (ready = visit().catch((e) => { ready = null; throw e; }));

  /* Shows what is so: the history, and the turn that is being answered. */
  const sync = async () => {
    const v = await start(), h = await (await call('GET', 'messages?limit=30')).json();
    before = h.pagination.hasMore ? h.pagination.before : null;
    looked = Date.now(); sent = []; known = new Set(h.data.map((m) => m.id));
    log.replaceChildren(...h.data.map((m) => bubble(m.role, m.content)));
    if (!h.data.length && v.greeting) log.append(bubble('assistant', v.greeting));
    older();
    log.scrollTop = log.scrollHeight;
    if (h.turn && !reading) { turn = h.turn; last = 0; read(null); }
    return h;
  };
  const older = () => {
    if (!before) return;
    const b = el('button', { className: 'o', type: 'button', onclick: async () => {
      b.disabled = true;
      try {
        const h = await (await call('GET', 'messages?limit=30&before=' + encodeURIComponent(before))).json(), height = log.scrollHeight;
        before = h.pagination.hasMore ? h.pagination.before : null;
        b.remove();
        log.prepend(...h.data.map((m) => bubble(m.role, m.content)));
        older();
        log.scrollTop += log.scrollHeight - height;
        log.focus();
      } catch (e) { b.disabled = false; say(e.message); }
    } }, T.older);
    log.prepend(b);
  };

  /* Reads the events of a response; returns the last one, or null if the connection broke. */
  const events = async (res, on) => {
    const stream = res.body.pipeThrough(new TextDecoderStream()).getReader();
    reading = stream;
    let buffer = '', id = 0;
    for (;;) {
      const { done, value } = await stream.read();
      if (done) return null;
      const lines = (buffer + value).split('\n');
      buffer = lines.pop();
      for (const line of lines) {
        if (line.startsWith('id:')) id = +line.slice(3);
        else if (line.startsWith('data:')) {
          const e = JSON.parse(line.slice(5));
          if (e.type == 'error' && e.code == 'unauthorized') return null; /* the token has ended: get another one */
          if (id) last = id;
          if (e.type != 'text') return e;
          on(e.content || '');
        }
      }
    }
  };
  /* Reads the answer to the end, through lost connections. res is the response that has begun. */
  const read = async (res) => {
    let b = null, out = null, tries = 0, end = null;
    const add = (s) => {
      if (!b) {
        b = bubble('assistant', '');
        const box = el('div');
        b.append(box);
        keep(() => log.append(b));
        let follow = true;
        out = writer(box, () => { if (follow) log.scrollTop = log.scrollHeight; });
        const plain = out.add;
        out.add = (t) => { follow = atEnd(); plain(t); };
        log.setAttribute('aria-busy', 'true');
        say('');
      }
      tries = 0;
      out.add(s);
    };
    reading = reading || true;
    busy(true);
    say(T.typing, true);
    while (!gone) {
      try {
        if (!res) { res = await call('GET', 'turns/' + turn + '/stream', null, { 'Last-Event-ID': String(last) }); say(b ? '' : T.typing, !b); }
        if ((end = await events(res, add))) break;
      } catch (e) {
        if (e.status && e.status < 500 && e.status != 429) break; /* the turn is not there any more */
      }
      res = null;
      if (!turn) break;
      say(T.again, true);
      await wait(Math.min(1000 * 2 ** tries++, 20000) * (.5 + Math.random()));
    }
    reading = null; turn = ''; last = 0;
    log.removeAttribute('aria-busy');
    busy(false);
    if (gone) return;
    say('');
    if (out) said.textContent = T.bot + ': ' + out.end();
    if (!end) return sync().catch((e) => say(e.message));
    if (end.type == 'error') note(end.stopReason == 'cancelled' ? T.stopped : end.message || T.failed);
  };
  const send = async (text) => {
    const mine = bubble('user', text), fail = (why) => {
      say('');
      if (!mine.isConnected) log.append(mine);
      note(why || T.unsent, T.retry, () => { mine.remove(); send(text); });
    };
    if (reading) return;
    reading = true; turn = ''; last = 0;
    keep(() => log.append(mine));
    log.scrollTop = log.scrollHeight;
    say(T.sending, true);
    busy(true);
    let res;
    try {
      await start();
      res = await call('POST', 'messages', { message: text });
    } catch (e) {
      reading = null;
      busy(false);
      if (e.status) return fail(e.message);
      return unknown(text, fail);
    }
    turn = res.headers.get('X-Turn-Id') || '';
    if (turn) sent.push(text);
    await read(res);
  };
  /* The connection broke before the answer began: shows what is so, and sends nothing again. */
  const unknown = async (text, fail) => {
    const k = known, before = sent.filter((s) => s == text).length;
    say(T.unknown, true);
    for (let tries = 0; !gone; tries++) {
      await wait(Math.min(1000 * 2 ** tries, 20000) * (.5 + Math.random()));
      try {
        const h = await sync(), arrived = h.data.filter((m) => m.role == 'user' && m.content == text && !k.has(m.id)).length > before;
        if (!reading) say('');
        if (!arrived && !h.turn) fail();
        return;
      } catch { /* still no connection */ }
    }
  };

  const grow = () => { input.style.setProperty('height', 'auto'); input.style.setProperty('height', input.scrollHeight + 2 + 'px'); };
  const show = (on) => {
    panel.hidden = !on;
    launcher.setAttribute('aria-expanded', String(on));
    launcher.setAttribute('aria-label', on ? T.close : T.open);
    if (!on) { launcher.focus(); return; }
    input.focus();
    grow();
    if (!reading) load();
  };
  const load = () => sync().then(() => { if (!reading) say(''); }, (e) => { say(''); log.replaceChildren(); note(e.status ? e.message : T.offline, T.reload, load); });
  launcher.onclick = () => show(panel.hidden);
  close.onclick = () => show(false);
  panel.onkeydown = (e) => { if (e.key == 'Escape' && !o.layout && !e.isComposing) show(false); };
  input.oninput = () => { store('draft', input.value); grow(); };
  for (const on of ['start', 'end']) input.addEventListener('composition' + on, () => { composing = on == 'start'; });
  input.onkeydown = (e) => {
    if (e.key != 'Enter' || e.shiftKey || composing || e.isComposing || e.keyCode == 229) return; /* Enter of an input method chooses a word */
    e.preventDefault();
    if (!reading) form.requestSubmit();
  };
  form.onsubmit = (e) => {
    e.preventDefault();
    if (reading) {
      if (turn) { button.disabled = true; call('POST', 'turns/' + turn + '/cancel').catch(() => { button.disabled = !turn; }); }
      return;
    }
    const text = input.value.trim();
    if (!text) return;
    input.value = '';
    store('draft', '');
    grow();
    input.focus();
    send(text);
  };
  const visible = () => { if (!document.hidden && !panel.hidden && !reading && Date.now() - looked > 30000 && !log.querySelector('.n')) load(); };
  document.addEventListener('visibilitychange', visible);
  paint();
  document.body.append(host);
  if (o.layout || d.open !== undefined) show(true); else start().catch(() => {});

  return {
    open: () => show(true), close: () => show(false),
    /* Another person uses the page now: forgets the visitor and asks for the token anew. */
    reset() { visitor = ''; token = ''; ready = null; store('visitor', ''); store('draft', ''); input.value = ''; log.replaceChildren(); if (!panel.hidden) load(); },
    remove() { gone = true; if (reading && reading.cancel) reading.cancel().catch(() => {}); document.removeEventListener('visibilitychange', visible); host.remove(); },
    set(options) { Object.assign(o, options); token = ''; ready = null; paint(); start().catch(() => {}); },
  };
};

let handle = null;
window.agentoWidget = (options) => {
  if (handle) handle.set(options || {}); else handle = create(options || {});
  return handle;
};
const begin = () => {
  if (queue.length) queue.forEach((q) => window.agentoWidget(q));
  else if (d.widget && d.manual === undefined) window.agentoWidget({});
};
if (document.body) begin(); else addEventListener('DOMContentLoaded', begin);
})();
