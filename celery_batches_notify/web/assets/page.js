// Keeps the page up to date: a stream where there is one, else asking; what you are at is left as it is.
const live = document.getElementById("live");
const link = document.getElementById("link");
const pause = document.getElementById("pause");
const { stream, kind } = live.dataset;
const part = live.dataset.part ?? `${location.pathname}/part`;
const every = Number(live.dataset.every) * 1000;
const MOST = 30000;
const FIRST = 10000, SILENCE = 40000;  // the stream's first drawing comes at once, and then a ping every 15 s
let mode = live.dataset.live, source = null, timer = null, wait = every, tag = "", held = null, paused = false, silences = 0;

function say(text, off = false) {
  link.hidden = false;
  link.textContent = text;
  link.classList.toggle("off", off);
}

const keep = {
  beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS")
    && !["checked", "value"].includes(name),
};

function isBusy() {
  const chosen = document.getSelection();
  return chosen && !chosen.isCollapsed && live.contains(chosen.anchorNode);
}

function show(html) {
  if (isBusy()) { held = html; say("waits while you select", true); return; }
  held = null;
  if (kind === "list") showList(html);
  else window.Idiomorph.morph(live, html, { morphStyle: "innerHTML", ignoreActiveValue: true, callbacks: keep });
}

// Rows stay where they are: each is brought up to date in place, and new ones only announce themselves.
function showList(html) {
  const next = new DOMParser().parseFromString(html, "text/html");
  const options = { morphStyle: "outerHTML", callbacks: keep };
  let fresh = 0;
  for (const row of next.querySelectorAll(".row")) {
    const mine = document.getElementById(row.id);
    if (mine) window.Idiomorph.morph(mine, row.outerHTML, options);
    else fresh += 1;
  }
  for (const row of live.querySelectorAll(".row")) {  // it fits no more, is gone, or newer ones took its place
    if (next.getElementById(row.id)) continue;
    row.classList.add("left");
    row.querySelector(".sentence").textContent = "no longer on this page";
  }
  const tabs = next.querySelector(".tabs");
  if (tabs) window.Idiomorph.morph(live.querySelector(".tabs"), tabs.outerHTML, options);
  const bar = document.getElementById("fresh");
  bar.hidden = !fresh || location.search.includes("after=");
  bar.querySelector(".n").textContent = fresh === 1 ? "1 new batch" : `${fresh} new batches`;
}

async function ask() {
  const asked = timer;  // another one, or none, once somebody paused: the answer comes too late
  try {
    const answer = await fetch(part + (kind === "list" ? location.search : ""), {
      headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", credentials: "same-origin",
      redirect: "error",  // to somebody's login page, which must not be shown as the batch
    });
    const html = await answer.text();
    if (timer !== asked) return;
    if (answer.status === 200) { tag = answer.headers.get("ETag") || ""; say("live"); show(html); }
    else if (answer.status !== 304) throw new Error(answer.status);
    wait = every;
    if (held === null) say("live");
  } catch {
    if (timer !== asked) return;
    wait = Math.min(wait * 2, kind === "batch" ? 5000 : MOST);
    say("no answer, trying again", true);
  }
  timer = setTimeout(ask, wait);
}

function open() {
  if (paused || document.hidden) return;
  if (mode === "stream") {
    let opened = false;
    const hear = () => {  // a proxy may hold the stream back, or a dead connection look like a quiet one
      clearTimeout(timer);
      timer = setTimeout(() => {
        close();
        silences += 1;
        if (opened && silences === 1) { open(); return; }  // your machine may have slept
        mode = "poll";
        timer = setTimeout(ask, 0);
      }, opened ? SILENCE : FIRST);
    };
    source = new EventSource(stream);
    hear();
    source.addEventListener("open", hear);
    source.addEventListener("ping", () => { silences = 0; hear(); });
    source.addEventListener("again", () => { close(); open(); });  // whether you may still read is asked anew
    source.addEventListener("page", (event) => { opened = true; hear(); say("live"); show(event.data); });
    source.addEventListener("error", () => {
      clearTimeout(timer);
      say("no answer, trying again", true);
      if (!opened || source.readyState === EventSource.CLOSED) {  // no stream is to be had: ask instead
        close();
        mode = opened ? mode : "poll";
        timer = setTimeout(opened ? () => { timer = null; open(); } : ask, opened ? 2000 : every);
      }
    });
  } else {
    timer = setTimeout(ask, every);
  }
  say("live");
}

function close() {
  if (source) source.close();
  clearTimeout(timer);
  source = timer = null;
}

function toggle() {
  paused = !paused;
  pause.setAttribute("aria-pressed", paused);
  pause.textContent = paused ? "Go on" : "Pause";
  close();
  if (paused) say("paused", true); else open();
}

pause.hidden = false;
pause.addEventListener("click", toggle);
document.addEventListener("visibilitychange", () => { close(); if (!document.hidden) { tag = ""; open(); } });
document.addEventListener("selectionchange", () => {
  if (held === null || isBusy()) return;
  say("live");
  show(held);
});

// -- theme: a cookie, so that the next page comes in it ----------------------------------------------
const brand = document.querySelector(".brand").href;
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const { dataset } = document.documentElement;
  const chosen = { auto: "light", light: "dark", dark: "auto" }[dataset.theme || "auto"];
  if (chosen === "auto") delete dataset.theme; else dataset.theme = chosen;
  document.cookie = `batches_theme=${chosen}; path=${new URL(brand).pathname}; max-age=31536000; samesite=lax`;
  document.getElementById("theme-name").textContent = chosen;
});

// -- keys: single ones, unless somebody turns them off -----------------------------------------------
const help = document.getElementById("help");
const keys = document.getElementById("keys");
const keysOn = document.getElementById("keys-on");
help.hidden = false;
help.addEventListener("click", () => keys.showModal());
document.getElementById("keys-close").addEventListener("click", () => keys.close());
try {
  keysOn.checked = localStorage.getItem("batches_keys") !== "off";
} catch { /* a frame, or a browser without cookies, may have no storage: then they are on */ }
keysOn.addEventListener("change", () => localStorage.setItem("batches_keys", keysOn.checked ? "on" : "off"));
let before = "";

document.addEventListener("keydown", (event) => {
  const { key } = event;
  if (!keysOn.checked || keys.open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const rows = [...document.querySelectorAll(".row > a")];
  const at = rows.indexOf(document.activeElement);
  if (key === "/" && document.getElementById("q")) { event.preventDefault(); document.getElementById("q").focus(); }
  else if (key === "j" && rows.length) rows[Math.min(at + 1, rows.length - 1)].focus();
  else if (key === "k" && rows.length) rows[Math.max(at - 1, 0)].focus();
  else if (key === "p") toggle();
  else if (key === "?") keys.showModal();
  else if (key === "l" && before === "g") location.href = brand;
  before = key;
});
open();
