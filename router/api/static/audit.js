// What was done, by whom, when and why: searched and paged by the process, newest first.
import { undoDeed } from "./deeds.js";
import { Slots } from "./dialog.js";
import { get, h, table, update } from "./dom.js";
import { clock, day } from "./words.js";

const PAGE = 50;

export class AuditView {
  constructor(root, find = "", skip = 0) {
    this.find = find;
    this.skip = skip;
    this.input = h("input", { type: "search", id: "audit-find", autocomplete: "off", value: find, placeholder: "a cell, a person, an action, words of the reason" });
    const form = h("form", { class: "search", role: "search", onsubmit: (event) => { event.preventDefault(); this.go(0); } },
      h("label", { for: "audit-find", text: "Search" }), this.input, h("button", { type: "submit", text: "Search" }));
    this.rows = table("Audit, newest first", ["When", "Who", "What", "Cell", "Why"]);
    this.said = h("p", { class: "note", role: "status" });
    this.newer = h("button", { type: "button", class: "plain", text: "← newer", onclick: () => this.go(Math.max(0, this.skip - PAGE)) });
    this.older = h("button", { type: "button", class: "plain", text: "older →", onclick: () => this.go(this.skip + PAGE) });
    this.slots = new Slots(["undo"], () => this.load());
    root.append(h("h1", { text: "Audit" }), this.slots.element, h("section", { class: "card" }, form, this.said, this.rows.whole, h("p", { class: "pages" }, this.newer, this.older)));
    this.load();
  }

  go(skip) {
    location.hash = `#/audit?find=${encodeURIComponent(this.input.value.trim())}&skip=${skip}`;
  }

  async load() {
    try {
      const found = await get(`audit?limit=${PAGE + 1}&skip=${this.skip}&find=${encodeURIComponent(this.find)}`);
      const more = found.length > PAGE;
      const shown = found.reverse().slice(0, PAGE);
      this.rows.body.replaceChildren(...shown.map((entry) => this.row(entry)));
      const about = this.find ? ` that say “${this.find}”` : "";
      update(this.said, { text: shown.length ? `Entries ${this.skip + 1} to ${this.skip + shown.length}${about}` : `There are no entries${about}.` });
      update(this.older, { disabled: !more });
    } catch (error) {
      update(this.said, { text: `Can't be read now: ${error.message}` });
    }
    update(this.newer, { disabled: this.skip === 0 });
  }

  row(entry) {
    const at = h("time", { datetime: new Date(entry.at_ms).toISOString(), title: `${day(entry.at_ms)} ${clock(entry.at_ms)}`, text: clock(entry.at_ms) });
    const cell = entry.cell_id ? h("a", { href: `#/cells/${encodeURIComponent(entry.cell_id)}`, text: entry.cell_id }) : "–";
    return h("tr", {}, h("td", { class: "name" }, at), h("td", { text: entry.who }), h("td", { text: entry.action }), h("td", { class: "name" }, cell), h("td", { text: entry.why }));
  }

  show({ overview }) {
    if (overview) this.slots.show({ undo: undoDeed() });
  }

  close() {}
}
