/**
 * Changes what a page shows into what it should show. What is the same stays the same node, so focus, selection and
 * scroll position survive. Elements with a `key` are found by it, all others by their place.
 */

/** Make the children of an element these. A fresh child is used as it is, or changes the one that it stands for. */
export function update(target, fresh) {
  const before = [...target.childNodes];
  const byKey = new Map(before.filter(({ key }) => key !== undefined).map((node) => [node.key, node]));
  const unkeyed = before.filter(({ key }) => key === undefined);
  const after = fresh.map((node) => kept(node, node.key === undefined ? unkeyed.shift() : take(byKey, node.key)));
  const staying = new Set(after);
  for (const node of before) if (!staying.has(node)) node.remove();
  arrange(target, after);
}

function take(nodes, key) {
  const found = nodes.get(key);
  nodes.delete(key);
  return found;
}

/** Return the old node with the content of the fresh one, or the fresh one if they are of different kinds. */
function kept(fresh, old) {
  if (old?.nodeName !== fresh.nodeName) return fresh;
  if (old.isEqualNode(fresh)) return old;
  if (old.nodeType === Node.TEXT_NODE) old.data = fresh.data;
  else {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    update(old, [...fresh.childNodes]);
  }
  return old;
}

/** Put the nodes into this order. A node that moves loses focus and selection, so the others move around one that has them. */
function arrange(target, nodes) {
  const selection = getSelection();
  const isHeld = (node) => node.contains(document.activeElement) || (!selection.isCollapsed && selection.containsNode(node, true));
  const held = nodes.findIndex((node) => node.parentNode === target && isHeld(node));
  let next = null;
  for (let index = nodes.length - 1; index >= 0; index -= 1) {
    const node = nodes[index];
    const isThere = node.parentNode === target && node.nextSibling === next;
    if (!isThere && index !== held) target.insertBefore(node, next);
    next = node;
  }
}
