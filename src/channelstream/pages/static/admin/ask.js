/** Asks before something is done that cannot be taken back. */

import { byId, element } from "./dom.js";

/** How many questions there were. */
let asked = 0;

/**
 * @param title the question. @param lines what will happen. @param yes the word on the button.
 * @returns whether the person said yes; Escape and Cancel say no.
 */
export function ask(title, lines, yes) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").replaceChildren(...lines.map((line) => element("li", {}, line)));
  byId("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  const number = ++asked;
  return new Promise((resolve) => {
    function closed() {
      const isLatest = number === asked;
      // The event follows the closing: that of the question before may come when this one is open already.
      if (isLatest && dialog.open) return;
      dialog.removeEventListener("close", closed);
      resolve(isLatest && dialog.returnValue === "yes");
    }
    dialog.addEventListener("close", closed);
  });
}
