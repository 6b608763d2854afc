// Small pictures of what has been: lines with gaps, and a band of healths. A text beside each says the same.
import { h, s, update } from "./dom.js";
import { kindOf, symbolOf } from "./words.js";

const WIDTH = 300;

// Draws the values from left to right; where one is missing the line has a gap.
export const lineOf = (values, height, top) => {
  const highest = top || Math.max(1e-9, ...values.filter((value) => value !== null)) * 1.08;
  const step = WIDTH / Math.max(1, values.length - 1);
  let path = "", area = "", begun = null, last = 0;
  const close = () => { if (begun !== null) area += `L${last} ${height}L${begun} ${height}Z`; begun = null; };
  values.forEach((value, place) => {
    if (value === null) return close();
    const x = +(place * step).toFixed(1), y = +(height - (value / highest) * height).toFixed(1);
    path += begun === null ? `M${x} ${y}h.1` : `L${x} ${y}`;
    area += begun === null ? `M${x} ${y}` : `L${x} ${y}`;
    if (begun === null) begun = x;
    last = x;
  });
  close();
  return { path, area };
};

export class Spark {
  constructor(kind, height = 36) {
    this.height = height;
    this.area = s("path", { class: "area" });
    this.line = s("path", { class: "line", "vector-effect": "non-scaling-stroke" });
    this.element = s(
      "svg",
      { class: `spark ${kind}`, viewBox: `0 -2 ${WIDTH} ${height + 4}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.area, this.line,
    );
  }

  show(values) {
    const { path, area } = lineOf(values ?? [], this.height);
    update(this.line, { d: path });
    update(this.area, { d: area });
  }
}

// One stretch for each run of the same health; its symbol is in it where there is room.
export class Band {
  constructor() {
    this.element = h("div", { class: "band", "aria-hidden": "true" });
    this.shown = "";
  }

  show(healths) {
    const told = (healths ?? []).join();
    if (told === this.shown) return;
    this.shown = told;
    const runs = [];
    for (const health of healths) {
      if (runs.at(-1)?.health === health) runs.at(-1).steps += 1;
      else runs.push({ health, steps: 1 });
    }
    this.element.replaceChildren(...runs.map(({ health, steps }) => {
      const part = h("span", { "data-health": health ? kindOf(health) : "nothing", title: health ?? "not watched" });
      part.style.flexGrow = steps;
      if (health && health !== "well" && steps * 40 > healths.length) part.textContent = symbolOf(health);
      return part;
    }));
  }
}

// An hour of something: its line, the healths under it, and what happened as marks that can be read.
export class Hour {
  constructor(title, kind) {
    this.spark = new Spark(kind, 90);
    this.band = new Band();
    this.marks = h("div", { class: "marks", "aria-hidden": "true" });
    this.top = h("span", { class: "top" });
    this.said = h("p", { class: "unseen" });
    this.element = h(
      "figure", { class: "hour" },
      h("figcaption", {}, h("span", { text: title }), this.top),
      h("div", { class: "plot" }, this.spark.element, this.marks), this.band.element,
      h("div", { class: "axis", "aria-hidden": "true" },
        ...["60 min ago", "45", "30", "15", "now"].map((text) => h("span", { text }))),
      this.said,
    );
  }

  show(values, healths, say, entries = [], now = 0) {
    const known = values.filter((value) => value !== null);
    this.spark.show(values);
    this.band.show(healths);
    update(this.top, { text: known.length ? `at most ${say(Math.max(...known))}` : "nothing yet" });
    const bad = healths.filter((health) => health && !["well", "watched"].includes(health)).length;
    update(this.said, { text: `In the last hour something was not well for ${Math.round(bad / 6)} minutes.` });
    const recent = entries.filter((entry) => now - entry.at_ms < 3600e3 && entry.at_ms <= now + 5000);
    this.marks.replaceChildren(...recent.map((entry) => {
      const mark = h("span", { title: `${entry.action} ${entry.cell_id}: ${entry.why}` });
      mark.style.left = `${Math.min(100, 100 - ((now - entry.at_ms) / 3600e3) * 100)}%`;
      return mark;
    }));
  }
}
