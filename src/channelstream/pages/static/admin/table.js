/** A searchable table that stays quick with thousands of rows: it draws the first ones and counts the others. */

const DRAWN = 200;
const whole = new Intl.NumberFormat();

/** Make an element with properties and children; a string child is text. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export class Table {
  #name;
  #cells;
  #words;
  #rows = [];
  #drawn = new Map();

  /**
   * @param name id of the table; `<name>-search` and `<name>-rest` belong to it.
   * @param key names a row. @param words what a search looks at. @param cells makes the row's cells.
   */
  constructor(name, { key, words, cells }) {
    this.#name = name;
    this.#cells = cells;
    this.#words = words;
    this.key = key;
    document.getElementById(`${name}-search`).addEventListener("input", () => this.#draw());
  }

  show(rows) {
    this.#rows = rows;
    this.#draw();
  }

  #draw() {
    const wanted = document.getElementById(`${this.#name}-search`).value.trim().toLowerCase();
    const found = wanted ? this.#rows.filter((row) => this.#words(row).toLowerCase().includes(wanted)) : this.#rows;
    const drawn = new Map();
    for (const row of found.slice(0, DRAWN)) drawn.set(this.key(row), this.#line(row));
    this.#drawn = drawn;
    this.#place([...drawn.values()].map(({ line }) => line));
    document.getElementById(`${this.#name}-rest`).textContent = rest(found.length, this.#rows.length);
  }

  /** A line is drawn anew only where its row has changed, so that a button in it keeps the focus. */
  #line(row) {
    const content = JSON.stringify(row);
    const known = this.#drawn.get(this.key(row));
    if (known?.content === content) return known;
    return { content, line: element("tr", {}, ...this.#cells(row)) };
  }

  #place(lines) {
    const body = document.querySelector(`#${CSS.escape(this.#name)} tbody`);
    const same = lines.length === body.children.length && lines.every((line, at) => line === body.children[at]);
    if (!same) body.replaceChildren(...lines);
  }
}

function rest(found, all) {
  if (all === 0) return "None yet.";
  if (found === 0) return "Nothing like that.";
  return found > DRAWN ? `${whole.format(found - DRAWN)} more. Search to narrow them down.` : "";
}
