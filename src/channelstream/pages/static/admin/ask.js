/** Asks before something is done that cannot be taken back. */

import { byId, element } from "./dom.js";

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
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
