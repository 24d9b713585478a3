/** The field in which messages are written, and own messages are edited. */

import { byId } from "./element.js";

export class Composer {
  #actions;
  #editing = "";
  #draft = "";
  #field = byId("text");

  /** @param actions send(text) and amend(uuid, text), which return whether they succeeded; lastOwnMessage(); typed() */
  constructor(actions) {
    this.#actions = actions;
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("input", () => !this.#editing && this.#field.value.trim() && this.#actions.typed());
    byId("cancel-edit").addEventListener("click", () => this.cancel());
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Put a message into the field. The present draft is restored afterwards. */
  edit(message) {
    if (!this.#editing) this.#draft = this.#field.value;
    this.#editing = message.uuid;
    this.#field.value = message.text;
    byId("editing").hidden = false;
    byId("send").textContent = "Save";
    this.#field.focus();
  }

  cancel() {
    if (!this.#editing) return;
    this.#editing = "";
    this.#field.value = this.#draft;
    this.#draft = "";
    byId("editing").hidden = true;
    byId("send").textContent = "Send";
    this.#field.focus();
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      byId("composer").requestSubmit();
    } else if (event.key === "Escape") {
      this.cancel();
    } else if (event.key === "ArrowUp" && !this.#field.value) {
      const message = this.#actions.lastOwnMessage();
      if (!message) return;
      event.preventDefault();
      this.edit(message);
    }
  }

  async #submit() {
    const text = this.#field.value.trim();
    if (!text) return;
    const editing = this.#editing;
    if (!editing) this.#field.value = "";
    const done = editing ? await this.#actions.amend(editing, text) : await this.#actions.send(text);
    if (done && editing === this.#editing) this.cancel();
    if (!done && !editing) this.#field.value ||= text;
  }
}
