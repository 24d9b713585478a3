/** Asks for confirmation before an action that cannot be undone. */

import { byId, element } from "./dom.js";

/** Number of questions so far. */
let asked = 0;

/**
 * @param title the question, a text or its parts. @param lines the effects, likewise. @param yes the label of the button.
 * @returns whether the person confirmed; Escape and Cancel do not.
 */
export function ask(title, lines, yes) {
  const dialog = byId("ask");
  byId("ask-title").replaceChildren(...[title].flat());
  byId("ask-text").replaceChildren(...lines.map((line) => element("li", {}, ...[line].flat())));
  byId("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  const number = ++asked;
  return new Promise((resolve) => {
    function closed() {
      const isLatest = number === asked;
      // The close event is asynchronous: that of the previous question may arrive when this one is already open.
      if (isLatest && dialog.open) return;
      dialog.removeEventListener("close", closed);
      resolve(isLatest && dialog.returnValue === "yes");
    }
    dialog.addEventListener("close", closed);
  });
}
