/** The admin panel: fetches the numbers again and again while somebody is looking. */

import { Table, element } from "./table.js";

const { root } = document.documentElement.dataset;
const EVERY_MS = 2000;
/** A large server answers slowly: asking takes at most a tenth of the time. */
const REST_FACTOR = 9;
const NUMBERS = [
  "total_connections",
  "unique_user_count",
  "remembered_user_count",
  "total_channels",
  "total_unique_messages",
  "total_messages",
];
const whole = new Intl.NumberFormat();
const when = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
const byId = (id) => document.getElementById(id);
const cell = (className, ...children) => element("td", { className }, ...children);
const chips = (className, texts) =>
  element("div", { className: "chips" }, ...texts.map((text) => element("span", { className: `chip ${className}` }, text)));

const channels = new Table("channels", {
  key: ({ name }) => name,
  words: ({ name, long_name: longName }) => `${name} ${longName ?? ""}`,
  cells: (channel) => [
    cell("", element("button", { onclick: () => open(channel.name) }, channel.name)),
    cell("", chips("", settings(channel.settings))),
    cell("number", whole.format(channel.total_users)),
    cell("number", whole.format(channel.total_connections)),
    cell("number", whole.format(channel.history.length)),
    cell("nowrap", channel.last_active ? when.format(asDate(channel.last_active)) : ""),
  ],
});

const users = new Table("users", {
  key: ({ user }) => user,
  words: (row) => [row.user, ...connectionIds(row)].join(" "),
  cells: (row) => [
    cell("", row.user),
    cell("", chips("", Object.entries(row.state).map(([key, value]) => `${key}: ${value}`))),
    cell("", connectionCell(connectionIds(row))),
  ],
});

let latest = null;
let timer = 0;
let before = null;

async function refresh() {
  clearTimeout(timer);
  const begun = performance.now();
  try {
    const response = await fetch(`${root}/admin/admin.json`, { redirect: "manual", cache: "no-store" });
    if (response.type === "opaqueredirect") return location.assign(`${root}/admin/sign_in`);
    if (!response.ok) throw new Error(`The server answered ${response.status}`);
    show(await response.json());
    fresh("Live", true);
  } catch (error) {
    fresh(`No answer since ${new Date().toLocaleTimeString()}: ${error.message}`, false);
  }
  timer = setTimeout(refresh, Math.max(EVERY_MS, (performance.now() - begun) * REST_FACTOR));
}

function show(overview) {
  latest = overview;
  for (const name of NUMBERS) byId(name).textContent = whole.format(overview[name]);
  byId("uptime").textContent = overview.uptime;
  byId("version").textContent = overview.version;
  byId("rate").textContent = rate(overview.total_messages);
  channels.show(Object.values(overview.channels));
  users.show(overview.users);
}

/** Frames a second since the last look. */
function rate(total) {
  const now = { total, at: performance.now() };
  const since = before;
  before = now;
  if (!since) return "";
  return `${whole.format(Math.round(((total - since.total) * 1000) / (now.at - since.at)))} a second`;
}

function fresh(text, live) {
  byId("freshness").textContent = text;
  byId("freshness").toggleAttribute("data-live", live);
}

/** Settings that are on, in words; numbers with their name. */
function settings(all) {
  const set = Object.entries(all).filter(([, value]) => value !== false && value !== null);
  return set.map(([name, value]) => (value === true ? name : `${name} ${value}`));
}

function connectionIds({ connections }) {
  return connections.map((connection) => String(connection.conn_id ?? connection));
}

function connectionCell(ids) {
  const shown = ids.slice(0, 5);
  return chips("id", ids.length > shown.length ? [...shown, `and ${ids.length - shown.length} more`] : shown);
}

/** Show who is in a channel and what it keeps. */
function open(name) {
  const channel = latest.channels[name];
  if (!channel) return;
  byId("channel-title").textContent = name;
  byId("channel-users").textContent = channel.users.slice(0, 200).join(", ") || "Nobody.";
  byId("channel-history").replaceChildren(...channel.history.slice(-50).map(historyItem));
  byId("channel").showModal();
}

function historyItem({ timestamp, user, message }) {
  const head = element("span", { className: "muted" }, `${when.format(asDate(timestamp))} ${user ?? ""} `);
  return element("li", {}, head, element("code", {}, JSON.stringify(message)));
}

/** The server's times are UTC and say no zone. */
function asDate(timestamp) {
  return new Date(/Z|[+-]\d\d:\d\d$/.test(timestamp) ? timestamp : `${timestamp}Z`);
}

byId("channel-close").addEventListener("click", () => byId("channel").close());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else refresh();
});
refresh();
