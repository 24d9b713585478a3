/** Elements of the page: how they are made, found and replaced. */

/** Make an element with properties and children; a string child is text. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Replace a list's children. The focus stays at its button, or goes to one of the same kind nearby if that is gone. */
export function refill(list, items) {
  const held = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const nearest = held && nearestKeys(list, held);
  const same = items.length === list.children.length && items.every((item, at) => item === list.children[at]);
  if (!same) reconcile(list, items);
  if (!held) return;
  const found = nearest.map((key) => list.querySelector(`[data-key="${CSS.escape(key)}"]`)).find(Boolean);
  (found ?? byId("scroll")).focus();
}

/** The keys of the same kind, which is what precedes the colon: first this one, then those after it, then those before. */
function nearestKeys(list, key) {
  const kind = key.slice(0, key.indexOf(":") + 1);
  const keys = [...list.querySelectorAll(`[data-key^="${CSS.escape(kind)}"]`)].map(({ dataset }) => dataset.key);
  const at = keys.indexOf(key);
  return [...keys.slice(at), ...keys.slice(0, at).reverse()];
}

/** Make `items` the children of a list, and change only what differs. */
function reconcile(list, items) {
  const wanted = new Set(items);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  items.forEach((item, at) => {
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
}
