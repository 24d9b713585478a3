/** Elements of the page: how they are made, found and replaced. */

/** Make an element with properties and children; a string child is text. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Replace a list's children, and restore the focus. */
export function refill(list, items) {
  const key = list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const same = items.length === list.children.length && items.every((item, at) => item === list.children[at]);
  if (!same) reconcile(list, items);
  if (key) list.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** Make `items` the children of a list, and change only what differs. */
function reconcile(list, items) {
  const wanted = new Set(items);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  items.forEach((item, at) => {
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
}
