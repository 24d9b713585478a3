/** A line chart of the last hour as inline SVG, with its figures in words for screen readers. */

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 120;
/** Shortest time that the width shows, in seconds: the line of a server that has just started also fills the width. */
const SHORTEST_S = 60;
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export class Chart {
  #title;
  #words;
  #floor;
  #unit;
  #points = [];
  #line = shape("path", { class: "line", "vector-effect": "non-scaling-stroke" });
  #area = shape("path", { class: "area" });
  #mark = shape("line", { class: "mark", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke", visibility: "hidden" });
  #svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #now = element("strong");
  #top = element("span");
  #begin = element("span");
  #end = element("span", {}, "now");

  /** @param title of the chart. @param words formats a value. @param floor least top of the scale, in `unit`s. */
  constructor(title, { words, floor = 5, unit = 1 }) {
    this.#title = title;
    this.#words = words;
    this.#floor = floor;
    this.#unit = unit;
    this.#svg.append(this.#area, this.#line, this.#mark);
    this.#svg.addEventListener("pointermove", (event) => this.#point(event));
    this.#svg.addEventListener("pointerleave", () => this.#rest());
    this.element = element(
      "figure",
      { className: "chart" },
      element("figcaption", {}, element("span", {}, title), this.#now),
      element("div", { className: "plot" }, this.#svg, element("div", { className: "scale", ariaHidden: "true" }, this.#top, element("span", {}, "0"))),
      element("div", { className: "axis", ariaHidden: "true" }, this.#begin, this.#end),
    );
  }

  /** Draw points, oldest first. A point is a time in seconds and a value. */
  show(points) {
    this.#points = points;
    const values = points.map(([, value]) => value);
    const top = this.#unit * niceTop(Math.max(this.#floor, ...values.map((value) => value / this.#unit)));
    const placed = points.map(([at, value]) => [this.#x(at), HEIGHT - (value / top) * HEIGHT]);
    const line = placed.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", line && `${line}L${WIDTH} ${HEIGHT}L${placed[0][0].toFixed(1)} ${HEIGHT}Z`);
    this.#top.textContent = this.#words(top);
    this.#begin.textContent = `${Math.round(this.#span() / 60)} min ago`;
    this.#svg.setAttribute("aria-label", this.#summary(values));
    this.#rest();
  }

  #span() {
    const [first, last] = [this.#points.at(0), this.#points.at(-1)];
    return Math.max(SHORTEST_S, first ? last[0] - first[0] : 0);
  }

  #x(at) {
    return WIDTH * (1 - (this.#points.at(-1)[0] - at) / this.#span());
  }

  #summary(values) {
    if (!values.length) return `${this.#title}: no figures yet`;
    const [now, low, high] = [values.at(-1), Math.min(...values), Math.max(...values)].map(this.#words);
    return `${this.#title}, the last ${Math.round(this.#span() / 60)} minutes: now ${now}, lowest ${low}, highest ${high}`;
  }

  /** Show the value under the pointer. */
  #point(event) {
    if (!this.#points.length) return;
    const box = this.#svg.getBoundingClientRect();
    const wanted = ((event.clientX - box.left) / box.width) * WIDTH;
    const distance = ([at]) => Math.abs(this.#x(at) - wanted);
    const nearest = this.#points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
    const x = this.#x(nearest[0]);
    this.#mark.setAttribute("x1", x);
    this.#mark.setAttribute("x2", x);
    this.#mark.setAttribute("visibility", "visible");
    this.#now.textContent = this.#words(nearest[1]);
    this.#end.textContent = clock.format(nearest[0] * 1000);
  }

  #rest() {
    const last = this.#points.at(-1);
    this.#mark.setAttribute("visibility", "hidden");
    this.#now.textContent = last ? this.#words(last[1]) : "…";
    this.#end.textContent = "now";
  }
}

/** The next of 1, 2, 5, 10, 20, 50 … that is not below the value. */
function niceTop(value) {
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * step).find((top) => top >= value) ?? value;
}
