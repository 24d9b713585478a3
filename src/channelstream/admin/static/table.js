/** A table whose rows stay on the server: the server searches, sorts and pages; this page shows one part. */

import { rowOf } from "./cells.js";
import { byId, fault, fillRows, number } from "./dom.js";
import { keepFresh, read } from "./server.js";

const TYPING_MS = 200;
const table = byId("rows");
const { kind, none } = table.dataset;
const headings = [...document.querySelectorAll("th[data-sort]")];
const asked = {
  search: "",
  sort: headings[0].dataset.sort,
  descending: "false",
  page: "0",
  ...Object.fromEntries(new URLSearchParams(location.search)),
};

async function refresh() {
  const wanted = JSON.stringify(asked);
  try {
    const answer = await read(`/data/${kind}?${new URLSearchParams(asked)}`);
    if (wanted === JSON.stringify(asked)) show(answer);
    fault((answer.missing ?? []).map(({ label, failure }) => `The connections of ${label} are missing. ${failure}`).join(" "));
  } catch (error) {
    fault(error.message);
    return false;
  }
}

function show(answer) {
  fillRows(table, answer.rows.map((row) => rowOf(table, row)));
  byId("count").textContent = number(answer.total);
  byId("found").textContent = answer.found < answer.total || asked.search ? `${number(answer.found)} found` : "";
  byId("rest").textContent = rest(answer);
  showPager(answer);
  for (const heading of headings) {
    const here = heading.dataset.sort === answer.sort;
    if (here) heading.ariaSort = answer.descending ? "descending" : "ascending";
    else heading.removeAttribute("aria-sort");
  }
}

/** What the table lacks. Of the rows of several nodes not all can be paged to. */
function rest({ found, total, reachable }) {
  if (!found) return total ? "Nothing found." : none;
  return found > reachable ? `These pages have the first ${number(reachable)}: a search or a filter finds the others.` : "";
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
  const { sort, cell } = heading.dataset;
  // Numbers and times are sorted from the greatest at first: the largest values are the interesting ones.
  const usual = ["count", "bytes", "time"].includes(cell);
  ask({ sort, descending: String(sort === asked.sort ? asked.descending !== "true" : usual) });
}

for (const choice of document.querySelectorAll("select[data-choice]")) {
  choice.value = asked[choice.name] ?? "";
  choice.addEventListener("change", () => ask({ [choice.name]: choice.value }));
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
