// Keeps the page up to date: a stream where there is one, else asking; what you are at is left as it is.
const live = document.getElementById("live");
const link = document.getElementById("link");
const pause = document.getElementById("pause");
const { part, stream, kind } = live.dataset;
const every = Number(live.dataset.every) * 1000;
const MOST = 30000;
let mode = live.dataset.live, source = null, timer = null, wait = every, tag = "", held = null, paused = false;

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
  if (isBusy()) { held = html; return; }
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
  const tabs = next.querySelector(".tabs");
  if (tabs) window.Idiomorph.morph(live.querySelector(".tabs"), tabs.outerHTML, options);
  const bar = document.getElementById("fresh");
  bar.hidden = !fresh || location.search.includes("after=");
  bar.querySelector(".n").textContent = fresh === 1 ? "1 new batch" : `${fresh} new batches`;
}

async function ask() {
  try {
    const answer = await fetch(part + (kind === "list" ? location.search : ""), {
      headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", credentials: "same-origin",
    });
    if (answer.status === 200) { tag = answer.headers.get("ETag") || ""; show(await answer.text()); }
    if (answer.status >= 500) throw new Error(answer.status);
    wait = every;
    say("live");
  } catch {
    wait = Math.min(wait * 2, kind === "batch" ? 5000 : MOST);
    say("no answer, trying again", true);
  }
  if (timer !== null) timer = setTimeout(ask, wait);
}

function open() {
  if (paused || document.hidden) return;
  if (mode === "stream") {
    let opened = false;
    source = new EventSource(stream);
    source.addEventListener("page", (event) => { opened = true; say("live"); show(event.data); });
    source.addEventListener("error", () => {
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
document.addEventListener("selectionchange", () => { if (held !== null && !isBusy()) show(held); });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const rows = [...document.querySelectorAll(".row > a")];
  const at = rows.indexOf(document.activeElement);
  if (event.key === "/" && document.getElementById("q")) { event.preventDefault(); document.getElementById("q").focus(); }
  else if (event.key === "j" && rows.length) rows[Math.min(at + 1, rows.length - 1)].focus();
  else if (event.key === "k" && rows.length) rows[Math.max(at - 1, 0)].focus();
  else if (event.key === "p") toggle();
});
const keys = document.querySelector(".keys");
if (keys) keys.hidden = false;
open();
