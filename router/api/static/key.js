// Where one key's events go: the same rows as `cellrouter where`.
import { get, h, update } from "./dom.js";

export class KeyView {
  constructor(root, key) {
    this.key = key;
    this.rows = h("dl", { class: "facts" });
    this.said = h("p", { class: "note", role: "status" });
    root.append(h("h1", { text: "Where a key's events go" }), h("section", { class: "card" }, this.said, this.rows));
    this.load();
  }

  async load() {
    try {
      const rows = await get(`fleet/key?key=${encodeURIComponent(this.key)}`);
      const cell = Object.fromEntries(rows).cell.split(",")[0];
      this.rows.replaceChildren(...rows.map(([name, text]) => h("div", {}, h("dt", { text: name }), h("dd", { text }))));
      this.said.replaceChildren(h("a", { class: "more", href: `#/cells/${encodeURIComponent(cell)}`, text: `see ${cell}` }));
    } catch (error) {
      update(this.said, { text: `Can't be looked up now: ${error.message}` });
    }
  }

  show() {}

  close() {}
}
