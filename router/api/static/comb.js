// The cells as a honeycomb: coloured and marked by health, filled by throughput. One stop of the tab key, then arrows.
import { h, keyed, s, update } from "./dom.js";
import { HEALTH, kindOf, millis, plural, rate, symbolOf } from "./words.js";

const SIZES = [[6, 84], [24, 56], [60, 36], [160, 25], [400, 17], [Infinity, 11]]; // up to so many cells: the radius

const hexagon = (r) => {
  const points = [...Array(6).keys()].map((i) => {
    const angle = (Math.PI / 180) * (60 * i - 90);
    return `${(r * Math.cos(angle)).toFixed(2)} ${(r * Math.sin(angle)).toFixed(2)}`;
  });
  return `M${points.join("L")}Z`;
};

export const latencyOf = (cell) => (cell.load.latency_s === null ? null : cell.load.latency_s * 1000);

const spoken = (cell) => {
  const seen = `${rate(cell.load.rate)} events a second, ${millis(latencyOf(cell))}`;
  return `${cell.view.cell_id}: ${cell.health}. ${cell.says ?? HEALTH.well[1]}. ${seen}`;
};

export class Comb {
  constructor() {
    this.svg = s("svg", { class: "comb", role: "group", "aria-label": "Cells" });
    this.legend = h("ul", { class: "legend" });
    this.element = h("div", {}, this.svg, this.legend);
    this.at = 0; // whose turn it is when the tab key comes here
    this.svg.addEventListener("keydown", (event) => this.moved(event));
    this.svg.addEventListener("focusin", (event) => this.arrived(event.target.closest("a")));
    new ResizeObserver(() => this.cells && this.show(this.cells)).observe(this.element);
  }

  show(cells) {
    this.cells = cells;
    const width = this.element.clientWidth || 360;
    const wide = Math.min(width, 1100);
    const r = Math.min(SIZES.find(([most]) => cells.length <= most)[1], wide / 5.4);
    const across = Math.sqrt(3) * r;
    this.columns = Math.max(1, Math.min(cells.length, Math.floor((wide - across / 2) / across)));
    const rows = Math.ceil(cells.length / this.columns);
    const w = (this.columns + (rows > 1 ? 0.5 : 0)) * across, tall = (rows - 1) * 1.5 * r + 2 * r;
    update(this.svg, { viewBox: `-2 -2 ${(w + 4).toFixed(1)} ${(tall + 4).toFixed(1)}`, width: Math.ceil(w + 4), height: Math.ceil(tall + 4) });
    const most = Math.max(1, ...cells.map((cell) => cell.load.rate));
    const items = cells.map((cell, place) => ({ cell, place }));
    keyed(this.svg, items, ({ cell }) => cell.view.cell_id, () => this.made(), (link, { cell, place }) => {
      const row = Math.floor(place / this.columns);
      const x = across * ((place % this.columns) + 0.5 + (row % 2 ? 0.5 : 0)), y = r + row * 1.5 * r;
      this.refresh(link, cell, r, x, y, cell.load.rate / most);
      update(link, { tabindex: place === this.at ? 0 : -1 });
    });
    this.explain(cells);
  }

  made() {
    const parts = ["back", "fill", "edge"].map((kind) => s("path", { class: kind }));
    const texts = ["mark", "name", "figure"].map((kind) => s("text", { class: kind, "text-anchor": "middle" }));
    const title = s("title");
    const link = s("a", { class: "hex" }, title, ...parts, ...texts);
    link.parts = [title, ...parts, ...texts];
    return link;
  }

  refresh(link, cell, r, x, y, share) {
    const [title, back, fill, edge, mark, name, figure] = link.parts;
    const id = cell.view.cell_id, path = hexagon(r - (r > 20 ? 2.5 : 1.2));
    update(link, {
      href: `#/cells/${encodeURIComponent(id)}`, "data-health": kindOf(cell.health), "aria-label": spoken(cell),
      transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-draining": cell.draining,
    });
    update(title, { text: spoken(cell) });
    for (const part of [back, fill, edge]) update(part, { d: path });
    fill.style.clipPath = `inset(${(100 - 100 * share).toFixed(0)}% 0 0 0)`;
    const written = r >= 24, well = cell.health === "well";
    update(mark, { text: well ? "" : symbolOf(cell.health), y: written ? -r * 0.3 : r * 0.3, "font-size": written ? r * 0.42 : r * 0.9 });
    update(name, { text: written ? id.replace(/^cell-/, "") : "", y: well ? r * 0.05 : r * 0.16, "font-size": Math.max(10, r * 0.33) });
    update(figure, { text: r >= 34 ? millis(latencyOf(cell)) : "", y: r * 0.5, "font-size": Math.max(10, r * 0.25) });
  }

  explain(cells) {
    const found = Object.keys(HEALTH).map((health) => [health, cells.filter((cell) => cell.health === health).length]);
    keyed(this.legend, found.filter(([, n]) => n), ([health]) => health, ([health]) => h(
      "li", { title: HEALTH[health][1] },
      h("span", { class: "badge", "data-health": kindOf(health) }, h("span", { "aria-hidden": "true", text: symbolOf(health) })),
      h("span"),
    ), (item, [health, n]) => update(item.lastChild, { text: `${n} ${health}` }));
    update(this.svg, { "aria-label": `${plural(cells.length, "cell")}; the arrow keys go from one to the next` });
  }

  arrived(link) {
    if (!link) return;
    this.at = [...this.svg.children].indexOf(link);
    for (const [place, other] of [...this.svg.children].entries()) update(other, { tabindex: place === this.at ? 0 : -1 });
  }

  moved(event) {
    const last = this.svg.children.length - 1;
    const to = {
      ArrowRight: this.at + 1, ArrowLeft: this.at - 1, ArrowDown: this.at + this.columns, ArrowUp: this.at - this.columns,
      Home: 0, End: last,
    }[event.key];
    if (to === undefined || to < 0 || to > last) return;
    event.preventDefault();
    this.svg.children[to].focus();
  }
}
