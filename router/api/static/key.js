// Where one key's events go: the same rows as `cellrouter where`, and what can be done about the key.
import { keyDeeds } from "./deeds.js";
import { Slots } from "./dialog.js";
import { get, h, update } from "./dom.js";

export class KeyView {
  constructor(root, key) {
    this.key = key;
    this.rows = h("dl", { class: "facts" });
    this.said = h("p", { class: "note", role: "status" });
    this.slots = new Slots(["pin", "limit", "turns", "quarantine"], () => this.load());
    root.append(h("h1", { text: "Where a key's events go" }), this.slots.element, h("section", { class: "card" }, this.said, this.rows));
    this.load();
  }

  async load() {
    try {
      const page = await get(`fleet/key?key=${encodeURIComponent(this.key)}`);
      this.rows.replaceChildren(...page.rows.map(([name, text]) => h("div", {}, h("dt", { text: name }), h("dd", { text }))));
      this.said.replaceChildren(h("a", { class: "more", href: `#/cells/${encodeURIComponent(page.cell)}`, text: `see ${page.cell}` }));
      this.page = page;
      this.offer();
    } catch (error) {
      update(this.said, { text: `Can't be looked up now: ${error.message}` });
    }
  }

  show({ overview }) {
    if (!overview) return;
    this.cells = overview.cells.map((cell) => cell.view.cell_id);
    this.offer();
  }

  offer() {
    if (this.page && this.cells) this.slots.show(keyDeeds(this.key, this.page, this.cells));
  }

  close() {}
}
