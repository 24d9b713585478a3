/** A line chart of figures over time as inline SVG, with its figures in words for screen readers. */

import { duration, element, shape } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;
/** Shortest time that the width shows, in seconds: the line of a server that has just started also fills the width. */
const SHORTEST_S = 60;
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });

export class Chart {
  #title;
  #words;
  #floor;
  #unit;
  #points = [];
  #oldest;
  #newest;
  #gap = Infinity;
  #line = shape("path", { class: "line", "vector-effect": "non-scaling-stroke" });
  #area = shape("path", { class: "area" });
  #mark = shape("line", { class: "mark", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke", visibility: "hidden" });
  #svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #events = shape("g", {});
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
    this.#svg.append(this.#area, this.#events, this.#line, this.#mark);
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

  /**
   * Draw points, oldest first. A point is a time in seconds, a value, and a text if the words of the value are not enough; a value of
   * null is unknown. The width is the time of all points, so charts of the same times can be compared.
   * @param marks are moments to mark, each with `at_s` and `text`.
   * @param gap is the longest time between two points that a line connects, in seconds.
   */
  show(points, { marks = [], gap = Infinity } = {}) {
    this.#points = points.filter(([, value]) => value !== null);
    [this.#oldest, this.#newest] = [points.at(0), points.at(-1)];
    this.#gap = gap;
    const values = this.#points.map(([, value]) => value);
    const top = this.#unit * niceTop(Math.max(this.#floor, ...values.map((value) => value / this.#unit)));
    const lines = this.#segments().map((points) => points.map(([at, value]) => `${this.#x(at).toFixed(1)} ${(HEIGHT - (value / top) * HEIGHT).toFixed(1)}`));
    // The line of a single point has no length: its round ends make a dot of it, which the horizontal step of 0 lets them draw.
    this.#line.setAttribute("d", lines.map((line) => `M${line.join("L")}h0`).join(""));
    this.#area.setAttribute("d", lines.map((line) => `M${line.join("L")}L${line.at(-1).split(" ")[0]} ${HEIGHT}L${line[0].split(" ")[0]} ${HEIGHT}Z`).join(""));
    this.#events.replaceChildren(...this.#drawn(marks));
    this.#top.textContent = this.#words(top);
    this.#begin.textContent = `${duration(Math.round(this.#span()))} ago`;
    this.#svg.setAttribute("aria-label", this.#summary(values));
    this.#rest();
  }

  /** The points that one line connects: the server was down in between, or a value is unknown. */
  #segments() {
    const segments = [];
    this.#points.forEach((point, index) => {
      const before = this.#points[index - 1];
      if (!before || point[0] - before[0] > this.#gap) segments.push([]);
      segments.at(-1).push(point);
    });
    return segments;
  }

  #drawn(marks) {
    if (!this.#newest) return [];
    const inside = marks.map(({ at_s: at, text }) => [this.#x(at), text]).filter(([x]) => x >= 0 && x <= WIDTH);
    return inside.map(([x, text]) => {
      const line = shape("line", { class: "event", x1: x, x2: x, y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" });
      const title = shape("title", {});
      title.textContent = text;
      line.append(title);
      return line;
    });
  }

  #span() {
    return Math.max(SHORTEST_S, this.#newest ? this.#newest[0] - this.#oldest[0] : 0);
  }

  #x(at) {
    return WIDTH * (1 - (this.#newest[0] - at) / this.#span());
  }

  #summary(values) {
    if (!values.length) return `${this.#title}: no figures yet`;
    const [low, high] = [Math.min(...values), Math.max(...values)].map(this.#words);
    const now = this.#newest[1] === null ? "unknown" : this.#words(this.#newest[1]);
    return `${this.#title}, the last ${duration(Math.round(this.#span()))}: now ${now}, lowest ${low}, highest ${high}`;
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
    this.#now.textContent = this.#said(nearest);
    this.#end.textContent = clock.format(nearest[0] * 1000);
  }

  #said([, value, text]) {
    return value === null ? "–" : (text ?? this.#words(value));
  }

  #rest() {
    this.#mark.setAttribute("visibility", "hidden");
    this.#now.textContent = this.#newest ? this.#said(this.#newest) : "…";
    this.#end.textContent = "now";
  }
}

/** The next of 1, 2, 5, 10, 20, 50 … that is not below the value. */
function niceTop(value) {
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * step).find((top) => top >= value) ?? value;
}
