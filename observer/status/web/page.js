"use strict";
// Polls /status and draws the page anew. Rates are differences between two answers. Text only ever enters through
// textContent, so nothing a broker says can become markup.

const POLL_MS = 1000;
const PATIENCE_MS = 4000;
const NONE = "–";
const RATE_S = 0.8; // a shorter difference would only show noise
let before = null;
let rates = {};
let answeredAt = Date.now();

const number = (value, digits = 0) =>
  value == null ? NONE : value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function seconds(value) {
  if (value == null) return NONE;
  if (value < 100) return `${value.toFixed(1)} s`;
  return value < 6000 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(1)} h`;
}

function size(value) {
  if (value == null) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${value.toFixed(unit ? 1 : 0)} ${units[unit]}`;
}

const share = (value) => (value == null ? NONE : `${(value * 100).toFixed(1)} %`);

function measure(status) {
  if (before && status.uptime_s < before.uptime_s) before = null; // another service answers now
  if (!before) {
    [before, rates] = [status, {}];
  } else if (status.uptime_s - before.uptime_s >= RATE_S) {
    const took = status.uptime_s - before.uptime_s;
    for (const name in status.tracks) rates[name] = (status.tracks[name].received - before.tracks[name].received) / took;
    before = status;
  }
}

const perSecond = (value) => number(value, value > 0 && value < 10 ? 1 : 0);

function sentence(status) {
  const said = status.summary;
  const ticks = rates.scalp;
  if (said.level === "ok" && ticks != null) return said.sentence.replace(/^Recording: /, `Recording: ${number(ticks)} ticks/s, `);
  return said.sentence;
}

// columns: [title, is a number, cell of a row]
function table(title, columns, rows, level = () => "") {
  const section = document.createElement("section");
  section.appendChild(document.createElement("h2")).textContent = title;
  const wide = section.appendChild(document.createElement("div"));
  wide.className = "wide";
  const grid = wide.appendChild(document.createElement("table"));
  const head = grid.createTHead().insertRow();
  for (const [name, numeric] of columns) {
    const cell = head.appendChild(document.createElement("th"));
    cell.textContent = name;
    if (numeric) cell.className = "n";
  }
  const body = grid.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    line.dataset.level = level(row);
    for (const [, numeric, pick] of columns) {
      const cell = line.insertCell();
      cell.textContent = pick(row);
      if (numeric) cell.className = "n";
    }
  }
  return section;
}

const entries = (object) => Object.entries(object).map(([name, entry]) => ({ name, ...entry }));

function tracks(status) {
  return table("Tracks", [
    ["track", false, (t) => t.name],
    ["a second", true, (t) => perSecond(rates[t.name])],
    ["received", true, (t) => number(t.received)],
    ["on disk", true, (t) => number(t.committed)],
    ["in flight", true, (t) => number(t.in_flight)],
    ["rejected", true, (t) => number(t.rejected)],
    ["shed", true, (t) => number(t.shed)],
    ["abandoned", true, (t) => number(t.abandoned)],
    ["lag", true, (t) => seconds(t.lag_s)],
    ["last record", true, (t) => seconds(t.last_record_s)],
  ], entries(status.tracks));
}

function files(status) {
  return table("Files being written", [
    ["track", false, (t) => t.name],
    ["file", false, (t) => t.file ?? NONE],
    ["lines", true, (t) => number(t.lines)],
    ["size", true, (t) => size(t.bytes)],
  ], entries(status.tracks));
}

function roles(status) {
  const levels = Object.fromEntries(status.checks.map((check) => [check.name, check.status]));
  return table("Roles", [
    ["role", false, (r) => r.name],
    ["state", false, (r) => r.state],
    ["pid", true, (r) => r.pid ?? NONE],
    ["beat", true, (r) => seconds(r.heartbeat_age)],
    ["up", true, (r) => seconds(r.up_s)],
    ["restarts", true, (r) => number(r.restarts)],
    ["cpu", true, (r) => share(r.cpu)],
    ["memory", true, (r) => size(r.rss)],
  ], entries(status.roles), (r) => levels[`role:${r.name}`] ?? "");
}

function broker(status) {
  const b = status.broker, market = status.market, rest = b.rest;
  const several = Object.keys(b.sessions).length > 1;
  const session = (s) => {
    const next = s.next_attempt_s ? `, next attempt in ${seconds(s.next_attempt_s)}` : "";
    const own = several ? `, ${number(s.confirmed)} of ${number(s.desired)} confirmed` : "";
    return (s.state ? `${s.state} for ${seconds(s.state_s)}` : NONE) + own + next + (s.detail ? `: ${s.detail}` : "");
  };
  const rows = [
    ...Object.entries(b.sessions).map(([name, s]) => [several ? `session of ${name}` : "session", session(s)]),
    ["subscriptions", `${number(b.confirmed)} of ${number(b.desired)} confirmed`],
    ...Object.entries(b.refused).map(([key, message]) => [`refused ${key}`, message, "warning"]),
    ["last frame", seconds(b.last_frame_s)],
    ["reconnects", number(b.reconnects)],
    ["polls (REST)", rest ? `${rest.state}, ${number(rest.calls)} calls` : NONE],
    ["market", market ? `${market.open ? "open" : "closed"} (${market.phase})` : NONE],
  ];
  const u = status.universe;
  if (u) {
    const said = `${number(u.symbols)} symbols${u.date ? `, by the master files of ${u.date}` : ""}`;
    rows.push(["polled", u.refused ? `${said}: ${u.refused}` : said, u.refused ? "warning" : ""]);
  }
  const g = status.gaps;
  if (g) {
    const said = `${number(g.open)} open, ${number(g.filled)} filled, ${number(g.unfillable)} cannot be filled`;
    rows.push(["gaps in ticks", said, g.open || g.unfillable ? "warning" : ""]);
  }
  const l = status.load;
  const thinned = l.level ? `level ${l.level} (${l.reasons.join(", ")}): polls are thinned out` : "level 0: no poll is left out";
  rows.push(["load", thinned, l.level ? "warning" : ""]);
  return table("Broker", [["what", false, (r) => r[0]], ["how", false, (r) => r[1]]], rows, (r) => r[2] ?? "");
}

function archive(status) {
  const a = status.archive, f = status.fallback;
  const level = (status.checks.find((check) => check.name === "archive") ?? {}).status ?? "";
  const rows = [["state", a.state ?? NONE, level], ["not durable yet", size(a.unacknowledged)]];
  if (f) {
    const waits = f.bytes ? `${size(f.bytes)} wait to be moved back` : "holds nothing";
    rows.push(["fallback", `${f.path}: ${waits}${f.volatile ? ", vanishes with the power" : ""}`, f.bytes ? "warning" : ""]);
  }
  return table("Archive", [["what", false, (r) => r[0]], ["how", false, (r) => r[1]]], rows, (r) => r[2] ?? "");
}

function disks(status) {
  const levels = Object.fromEntries(status.checks.map((check) => [check.name, check.status]));
  return table("Disk", [
    ["mount", false, (d) => d.mount],
    ["holds", false, (d) => d.holds.join(", ")],
    ["used", true, (d) => share(d.used)],
    ["free", true, (d) => size(d.free)],
    ["inodes free", true, (d) => number(d.inodes_free)],
    ["fills", false, (d) => d.fills || NONE],
  ], status.disks, (d) => levels[`disk:${d.mount}`] ?? "");
}

function checks(status) {
  return table("Checks", [
    ["status", false, (c) => c.status],
    ["check", false, (c) => c.name],
    ["since (KST)", false, (c) => c.since.slice(5, 19).replace("T", " ")],
    ["why", false, (c) => (c.hint ? `${c.reason}. To do: ${c.hint}` : c.reason)],
  ], status.checks, (c) => c.status);
}

function faults(status) {
  if (!status.faults.length) return null;
  return table("Faults", [
    ["severity", false, (f) => f.severity],
    ["role", false, (f) => f.role],
    ["what", false, (f) => f.what],
    ["what to do", false, (f) => f.hint ?? ""],
  ], status.faults, (f) => f.severity);
}

function headline(level, text, hint, time) {
  const header = document.getElementById("headline");
  header.dataset.level = level;
  for (const [id, value] of [["sentence", text], ["hint", hint], ["time", time]]) {
    const place = document.getElementById(id);
    if (place.textContent !== value) place.textContent = value;
  }
  document.title = `Observer: ${level}`;
}

function draw(status) {
  measure(status);
  document.body.classList.remove("stale");
  headline(status.summary.level, sentence(status), status.summary.hint, `As of ${status.time.slice(0, 19).replace("T", " ")} KST`);
  const drawn = [faults(status), tracks(status), files(status), roles(status), broker(status), archive(status), disks(status), checks(status)];
  const place = document.getElementById("tables");
  const chosen = document.getSelection();
  if (chosen && !chosen.isCollapsed && place.contains(chosen.anchorNode)) return; // somebody is copying text
  const scrolled = [...place.querySelectorAll("section")].map((old) => [old.querySelector("h2").textContent, old.querySelector(".wide").scrollLeft]);
  place.replaceChildren(...drawn.filter(Boolean));
  for (const fresh of place.querySelectorAll("section")) {
    const known = scrolled.find(([title]) => title === fresh.querySelector("h2").textContent);
    if (known) fresh.querySelector(".wide").scrollLeft = known[1];
  }
}

async function poll() {
  try {
    const answer = await fetch("/status", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    draw(await answer.json());
    answeredAt = Date.now();
  } catch (error) {
    const silent = seconds((Date.now() - answeredAt) / 1000);
    document.body.classList.add("stale");
    headline("critical", `The service does not answer (${silent}).`,
      "What stands below is old. On the host: systemctl status observer, then journalctl -u observer -e.", `${error.name}: ${error.message}`);
    before = null;
  }
  setTimeout(poll, POLL_MS);
}

poll();
