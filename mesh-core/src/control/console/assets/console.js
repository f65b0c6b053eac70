// What makes pages live. Every page is whole without it.
//
// The server makes the markup; here it is put in place of what has changed, without losing what is
// focused, scrolled or unfolded. Texts of others become text nodes, never markup.

const main = document.getElementById("main");
const announce = document.getElementById("announce");

/** Makes `old` like `fresh`, changing as little as there is to change. */
function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    const isTheUsers = name === "open" && old.nodeName === "DETAILS";
    if (!fresh.hasAttribute(name) && !isTheUsers) old.removeAttribute(name);
  }
  if (old === document.activeElement && "value" in old) return;
  patchChildren(old, fresh);
}

function patchChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    const isLike = at && at.nodeName === next.nodeName && !at.dataset?.key;
    const same = key ? keyed.get(key) : isLike ? at : null;
    if (!same) {
      old.insertBefore(next, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    patch(same, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

/** Patches and leaves the focus where it was. */
function patchKept(old, fresh) {
  const focused = document.activeElement;
  patchChildren(old, fresh);
  if (focused && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

function parse(markup) {
  const template = document.createElement("template");
  template.innerHTML = markup;
  return template.content;
}

// Live: one stream for the page; none while nobody looks.

const live = document.querySelector(".live");
const pause = live?.querySelector("button");
let stream = null;
let isPaused = false;

function say(state, text) {
  if (!live || live.dataset.state === state) return;
  const before = live.dataset.state;
  live.dataset.state = state;
  live.querySelector(".said").textContent = text;
  if (state === "lost" || before === "lost") announce.textContent = text;
}

function connect() {
  disconnect();
  if (!live || isPaused || document.hidden) return;
  const at = location.pathname + location.search;
  stream = new EventSource("/live?at=" + encodeURIComponent(at));
  stream.addEventListener("parts", (event) => {
    say("live", "Live");
    for (const [id, markup] of Object.entries(JSON.parse(event.data))) {
      const part = document.getElementById(id);
      if (part) patchKept(part, parse(markup));
    }
  });
  stream.addEventListener("open", () => say("live", "Live"));
  stream.addEventListener("error", () => say("lost", "Connection lost; trying again"));
}

function disconnect() {
  stream?.close();
  stream = null;
}

if (live) {
  live.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume" : "Pause";
    if (isPaused) {
      disconnect();
      say("paused", "Paused");
    } else {
      connect();
    }
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => event.persisted && connect());
  connect();
}

// Forms, orders and pages of tables take the place of what is there, and are the address's.

let asked = 0;

async function swap(url, isNewEntry) {
  const ask = ++asked;
  main.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(url, { headers: { accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (ask !== asked) return;
    if (isNewEntry) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    shown = location.pathname + location.search;
    document.title = fresh.title;
    patchKept(main, fresh.getElementById("main"));
    patchKept(document.querySelector(".command"), fresh.querySelector(".command"));
    const said = main.querySelector("[data-said]");
    if (said) announce.textContent = said.dataset.said;
    connect();
  } catch {
    location.href = url;
  } finally {
    main.removeAttribute("aria-busy");
  }
}

function addressOf(form) {
  const url = new URL(form.action || location.pathname, location.href);
  url.search = "";
  for (const [name, value] of new FormData(form)) if (value) url.searchParams.append(name, value);
  return url.pathname + url.search;
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-swap]")) return;
  event.preventDefault();
  swap(addressOf(event.target), true);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("form[data-swap] select")) swap(addressOf(event.target.form), true);
});
let typing = 0;
document.addEventListener("input", (event) => {
  if (!event.target.matches("form[data-swap] input[type=search]")) return;
  clearTimeout(typing);
  typing = setTimeout(() => swap(addressOf(event.target.form), false), 200);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-swap]");
  const isPlain = !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0;
  if (!link || !isPlain) return;
  event.preventDefault();
  swap(link.href, true);
});
let shown = location.pathname + location.search;
addEventListener("popstate", () => {
  // A step to a place on the same page asks for nothing.
  if (location.pathname + location.search !== shown) swap(location.href, false);
});

// The theme, and commands to take along.

const theme = document.getElementById("theme");
const themes = { auto: "light", light: "dark", dark: "auto" };
function showTheme() {
  const chosen = document.documentElement.dataset.theme ?? "auto";
  theme.textContent = "Theme: " + chosen;
}
if (theme) {
  theme.hidden = false;
  showTheme();
  theme.addEventListener("click", () => {
    const next = themes[document.documentElement.dataset.theme ?? "auto"];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("weft-theme", next);
    } catch {
      // It holds for this page.
    }
    showTheme();
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  announce.textContent = "Copied";
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});

// In the strip of a narrow screen, the current page is in sight.
document.querySelector("nav [aria-current]")?.scrollIntoView?.({ block: "nearest", inline: "center" });
