// Tap and top: rows of the streams of /api/v1/tap and /api/v1/top. What they say becomes text nodes,
// never markup.

const ROWS_MAX = 200;
const SHOWN_MAX = 100;
const OPEN_MAX = 2000;

const card = document.getElementById("tap");
const state = document.getElementById("tap-state");
const stop = document.getElementById("tap-stop");
const body = card.querySelector("tbody");
const isTop = card.dataset.kind === "top";

/** An element with text. */
function el(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = visible(text);
  if (className) made.className = className;
  return made;
}

/** Characters that nobody sees, or that turn others about, are shown as what they are. */
function visible(text) {
  return String(text).replace(
    /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (hidden) => "\u2039U+" + hidden.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "\u203a",
  );
}

/** A pod's name, or else its address. */
function nameOf(end) {
  if (!end) return "\u2013";
  return end.metadata?.pod || `${end.ip}:${end.port}`;
}

function millis(time) {
  return (Number(time?.seconds ?? 0) * 1e9 + Number(time?.nanos ?? 0)) / 1e6;
}

function sayMillis(value) {
  if (value === undefined) return "\u2013";
  if (value < 10) return value.toFixed(1) + " ms";
  if (value < 1000) return value.toFixed(0) + " ms";
  return (value / 1000).toFixed(1) + " s";
}

function tlsOf(event) {
  const end = event.proxyDirection === "INBOUND" ? event.source : event.destination;
  return end?.metadata?.tls === "true";
}

function sign(kind, shape, text) {
  const made = el("span", undefined, "sign " + kind);
  const icon = el("i", shape);
  icon.setAttribute("aria-hidden", "true");
  made.append(icon, el("b", text));
  return made;
}

// Requests that have begun, by their number.

const open = new Map();
let seen = 0;
let lost = 0;

function keyOf(event, what) {
  return `${what.id.base}:${what.id.stream}`;
}

function take(event) {
  const init = event.requestInitEvent;
  const head = event.responseInitEvent;
  const end = event.responseEndEvent;
  if (init) {
    seen += 1;
    if (open.size >= OPEN_MAX) open.delete(open.keys().next().value);
    const request = { event, init, at: new Date() };
    open.set(keyOf(event, init), request);
    addRow(request);
  }
  const what = head ?? end;
  const request = what && open.get(keyOf(event, what));
  if (!request) return;
  if (head) {
    request.status = head.httpStatus;
    request.latency = millis(head.sinceRequestInit);
    request.head = head;
  }
  if (end) {
    request.end = end;
    request.duration = millis(end.sinceRequestInit);
    open.delete(keyOf(event, end));
  }
  fillRow(request);
}

function isFailure(request) {
  if (request.end?.resetErrorCode !== undefined) return true;
  const grpc = request.end?.grpcStatusCode;
  if (grpc !== undefined) return [2, 4, 7, 13, 14, 15].includes(grpc);
  return !(request.status < 500);
}

// Tap: a row for each request.

function addRow(request) {
  const { event, init } = request;
  const row = el("tr");
  const time = el("td", request.at.toLocaleTimeString([], { hour12: false }), "mono");
  const direction = el("td", event.proxyDirection === "INBOUND" ? "in" : "out");
  const ask = el("td");
  const button = el("button", `${init.method} ${init.path}`, "row path");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => unfold(request));
  ask.append(button);
  const tls = el("td");
  tls.append(tlsOf(event) ? sign("good", "\u221a", "mTLS") : sign("warn", "\u203c", "plain"));
  request.cells = { status: el("td", "\u2026", "number"), latency: el("td", "\u2026", "number") };
  row.append(
    time,
    direction,
    el("td", nameOf(event.source)),
    el("td", nameOf(event.destination)),
    tls,
    ask,
    request.cells.status,
    request.cells.latency,
  );
  request.row = row;
  request.button = button;
  waiting.push(request);
  if (waiting.length > ROWS_MAX) waiting.shift();
}

let waiting = [];

function flush() {
  if (body.contains(document.activeElement) || body.querySelector("tr.more")) {
    // Nobody's row moves away under the pointer that unfolded it.
    state.dataset.held = waiting.length;
    return;
  }
  for (const request of waiting) body.prepend(request.row);
  waiting = [];
  while (body.rows.length > ROWS_MAX) body.lastElementChild.remove();
}

function fillRow(request) {
  const { status, latency } = request.cells;
  const grpc = request.end?.grpcStatusCode;
  const reset = request.end?.resetErrorCode;
  let text = request.status === undefined ? "\u2026" : String(request.status);
  if (grpc !== undefined) text += ` grpc ${grpc}`;
  if (reset !== undefined) text = `reset ${reset}`;
  const isOver = request.status !== undefined || request.end;
  status.replaceChildren(
    !isOver ? text : isFailure(request) ? sign("bad", "\u00d7", text) : sign("good", "\u221a", text),
  );
  latency.textContent = sayMillis(request.latency ?? request.duration);
}

function unfold(request) {
  const isOpen = request.button.getAttribute("aria-expanded") === "true";
  request.button.setAttribute("aria-expanded", String(!isOpen));
  if (isOpen) {
    request.more?.remove();
    request.more = null;
    return;
  }
  const more = el("tr", undefined, "more");
  const cell = el("td");
  cell.colSpan = 8;
  cell.append(detail(request));
  more.append(cell);
  request.more = more;
  request.row.after(more);
}

function detail(request) {
  const { event, init, head, end } = request;
  const list = el("dl", undefined, "facts");
  const fact = (name, text) => {
    if (text === undefined || text === "" || text === null) return;
    list.append(el("dt", name), el("dd", text));
  };
  const labels = (from) => Object.entries(from ?? {}).map(([name, value]) => `${name}=${value}`).join("  ");
  const headers = (from) => (from ?? []).map(({ name, valueStr }) => `${name}: ${valueStr}`).join("  \u00b7  ");
  const end_of = (end) => (end ? `${end.ip}:${end.port}  ${labels(end.metadata)}` : undefined);
  fact("Request", `${init.method} ${init.scheme ? init.scheme + "://" : ""}${init.authority}${init.path}`);
  fact("Source", end_of(event.source));
  fact("Destination", end_of(event.destination));
  fact("Route", labels(event.routeMeta));
  fact("Request headers", headers(init.headers));
  fact("Response", head && `${head.httpStatus} after ${sayMillis(request.latency)}`);
  fact("Response headers", headers(head?.headers));
  fact("End", end && `after ${sayMillis(request.duration)}, ${end.responseBytes} bytes`);
  fact("Trailers", headers(end?.trailers));
  fact("Request body", end?.requestBody?.text);
  fact("Response body", end?.responseBody?.text);
  return list;
}

// Top: a row for all requests that go the same way, as the controller sums them up.

let top = [];

function takeRows({ rows, left_out: leftOut }) {
  top = rows;
  seen = rows.reduce((all, row) => all + row.count, leftOut);
}

function drawTop() {
  body.replaceChildren(
    ...top.slice(0, SHOWN_MAX).map((way) => {
      const row = el("tr");
      const share = way.success_rate;
      const percent = share === 1 ? "100%" : (Math.floor(share * 10000) / 100).toFixed(2) + "%";
      const success = el("td", undefined, "number");
      success.append(
        share >= 0.99
          ? sign("good", "\u221a", percent)
          : share >= 0.95
            ? sign("warn", "\u203c", percent)
            : sign("bad", "\u00d7", percent),
      );
      const where = el("td");
      where.append(el("span", way.path, "path"));
      row.append(el("td", way.source), el("td", way.destination), el("td", way.method), where);
      row.append(el("td", way.count, "number"));
      for (const time of [way.best_ms, way.worst_ms, way.last_ms]) row.append(el("td", sayMillis(time), "number"));
      row.append(success);
      return row;
    }),
  );
}

// The stream.

let stream = null;
let told = 0;

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function sayCount(pods, missing) {
  const parts = [`${pods} ${pods === 1 ? "proxy is" : "proxies are"} tapped`, `${seen} requests`];
  if (lost > 0) parts.push(`${lost} lost`);
  if (missing.length > 0) parts.push(`not tapped: ${missing.join("; ")}`);
  return parts.join(" \u00b7 ");
}

function start(url) {
  let pods = 0;
  const missing = [];
  stream = new EventSource(url);
  stop.hidden = false;
  stream.addEventListener("start", (event) => {
    const begun = JSON.parse(event.data);
    pods = begun.pods.length;
    for (const one of begun.missing) missing.push(visible(`${one.pod}: ${one.reason}`));
    say(sayCount(pods, missing));
  });
  stream.addEventListener("rows", (event) => takeRows(JSON.parse(event.data)));
  stream.addEventListener("message", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("missing", (event) => {
    const one = JSON.parse(event.data);
    missing.push(visible(`${one.pod}: ${one.reason}`));
  });
  stream.addEventListener("lost", (event) => {
    const { events } = JSON.parse(event.data);
    lost += Number(events ?? 1);
  });
  stream.addEventListener("end", () => end("Nobody is left to tap."));
  stream.addEventListener("error", () => {
    if (stream?.readyState !== EventSource.CLOSED) return;
    end("The tap ended.");
    why(url);
  });
  told = setInterval(() => {
    if (isTop) drawTop();
    else flush();
    // Once in a while is enough for those who hear it.
    if (seen > 0 || missing.length > 0) say(sayCount(pods, missing));
  }, isTop ? 1000 : 250);
}

/** A stream does not say why it cannot be had; asked again, the answer does. */
async function why(url) {
  const giveUp = new AbortController();
  try {
    const answer = await fetch(url, { signal: giveUp.signal });
    if (answer.ok) return giveUp.abort();
    const { error } = await answer.json();
    say(visible(`${error.message}; ${error.remedy}`));
  } catch {
    say("The controller does not answer.");
  }
}

function end(text) {
  stream?.close();
  stream = null;
  clearInterval(told);
  stop.hidden = true;
  if (isTop) drawTop();
  else flush();
  say(text);
}

stop.addEventListener("click", () => end(`Stopped after ${seen} requests.`));
addEventListener("pagehide", () => stream?.close());
if (card.dataset.stream) start(card.dataset.stream);
