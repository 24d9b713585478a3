/** A table whose rows stay on the server: the server searches, sorts and pages; this page shows one part. */

import { byId, bytes, cell, chips, element, fault, link, number, time } from "./dom.js";
import { keepFresh, read } from "./server.js";

const TYPING_MS = 200;
const kind = byId("rows").dataset.kind;
const CELLS = {
  channels: (row) => [
    cell("", link("channel", row.name)),
    ...[row.users, row.connections, row.history, row.log].map((count) => cell("number", number(count))),
    cell("", chips(row.marks)),
    cell("nowrap", time(row.last_active)),
  ],
  users: (row) => [
    cell("", link("user", row.name)),
    cell("number", number(row.connections)),
    cell("number", number(row.channels)),
    cell("", chips(Object.entries(row.state).map(([key, value]) => `${key}: ${value}`))),
    cell("nowrap", time(row.last_active)),
  ],
  connections: (row) => [
    cell("id", link("connection", row.id)),
    cell("", link("user", row.user)),
    cell("nowrap", row.state),
    cell("nowrap", row.transport || "none yet"),
    cell("number", number(row.channels)),
    cell("number", bytes(row.waiting)),
  ],
  nodes: (row) => [
    cell("", row.label),
    cell("number", number(row.connections)),
    cell("nowrap", row.is_alive ? "runs" : "has ended"),
    cell("nowrap", time(row.last_beat)),
    cell("id", row.id),
  ],
};
const NONE = { nodes: "This server does not share its engine with other nodes." };
const headings = [...document.querySelectorAll("th[data-sort]")];
const asked = {
  search: "",
  sort: headings[0].dataset.sort,
  descending: "false",
  page: "0",
  ...Object.fromEntries(new URLSearchParams(location.search)),
};
let shown = "";

async function refresh() {
  const wanted = JSON.stringify(asked);
  try {
    const answer = await read(`/data/${kind}?${new URLSearchParams(asked)}`);
    if (wanted === JSON.stringify(asked)) show(answer);
    fault("");
  } catch (error) {
    fault(error.message);
  }
}

function show(answer) {
  const content = JSON.stringify(answer.rows);
  // Unchanged rows are not replaced, so the focus stays.
  if (content !== shown) byId("rows").tBodies[0].replaceChildren(...answer.rows.map((row) => element("tr", {}, ...CELLS[kind](row))));
  shown = content;
  byId("count").textContent = number(answer.total);
  byId("found").textContent = asked.search ? `${number(answer.found)} found` : "";
  byId("rest").textContent = answer.found ? "" : asked.search ? "Nothing found." : (NONE[kind] ?? "None yet.");
  showPager(answer);
  for (const heading of headings) {
    const here = heading.dataset.sort === answer.sort;
    if (here) heading.ariaSort = answer.descending ? "descending" : "ascending";
    else heading.removeAttribute("aria-sort");
  }
}

function showPager({ page, pages }) {
  document.querySelector(".pager").hidden = pages === 1;
  byId("page").textContent = `Page ${number(page + 1)} of ${number(pages)}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === pages - 1;
  asked.page = String(page);
}

/** Ask for another part, and keep the request in the page's address, so that it can be reloaded and shared. */
function ask(change) {
  Object.assign(asked, { page: "0" }, change);
  history.replaceState(null, "", `?${new URLSearchParams(asked)}`);
  now();
}

function sortBy(heading) {
  const { sort } = heading.dataset;
  // Numbers and times are sorted from the greatest at first: the largest values are the interesting ones.
  const usual = heading.classList.contains("number") || sort.startsWith("last_");
  ask({ sort, descending: String(sort === asked.sort ? asked.descending !== "true" : usual) });
}

let typing = 0;
const field = byId("search");
// What was typed before this script ran is kept.
field.value ||= asked.search;
field.addEventListener("input", ({ target }) => {
  clearTimeout(typing);
  typing = setTimeout(() => ask({ search: target.value.trim() }), TYPING_MS);
});
for (const heading of headings) heading.querySelector("button").addEventListener("click", () => sortBy(heading));
byId("previous").addEventListener("click", () => ask({ page: String(Number(asked.page) - 1) }));
byId("next").addEventListener("click", () => ask({ page: String(Number(asked.page) + 1) }));
const now = keepFresh(refresh);
if (field.value !== asked.search) ask({ search: field.value.trim() });
