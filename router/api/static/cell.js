// One cell: how it is and why, its last hour, the evidence beside its peers, and what was done to it.
import { Hour } from "./charts.js";
import { cellDeeds } from "./deeds.js";
import { Slots } from "./dialog.js";
import { get, h, keyed, table, update } from "./dom.js";
import { clock, kindOf, millis, rate, span, symbolOf } from "./words.js";

const AGAIN_MS = 2000;
const MOST_PEERS = 8;

const rowsInto = (list, rows) =>
  keyed(list, rows, ([name], place) => `${name}/${place}`, ([name]) => h("div", {}, h("dt", { text: name }), h("dd")), (row, [, text]) => update(row.lastChild, { text }));

export class CellView {
  constructor(root, cellId) {
    this.id = cellId;
    this.sign = h("span", { class: "status", "aria-hidden": "true" });
    this.health = h("p", { class: "since" });
    this.hero = h("section", { class: "hero small", "aria-label": "This cell" }, h("div", { class: "verdict" }, this.sign, h("div", {}, h("h1", { text: cellId }), this.health)));
    this.doubts = h("ul", { class: "matters" });
    this.latency = new Hour("Latency, and health", "latency");
    this.rate = new Hour("Throughput, and health", "rate");
    this.summary = h("dl", { class: "facts" });
    this.evidence = h("dl", { class: "facts" });
    this.components = h("dl", { class: "facts" });
    this.parts = h("section", { class: "card", hidden: true }, h("h2", { text: "Components" }), this.components);
    this.peers = table("This cell beside its peers", ["Cell", ["S: deviation of its tenants", "number"], ["Canary", "number"], "Verdict"]);
    this.audit = table("What was done to this cell lately", ["When", "Who", "What", "Why"]);
    this.fewer = h("p", { class: "note" });
    this.trouble = h("p", { class: "trouble", role: "status" });
    this.slots = new Slots(["freeze", "eject", "replace", "evict", "drain"], () => {});
    root.append(
      h("p", {}, h("a", { class: "more", href: "#/", text: "← the fleet" })), this.hero, this.slots.element, this.trouble, this.doubts,
      h("div", { class: "columns even" },
        h("section", { class: "card" }, h("h2", { text: "The last hour" }), this.latency.element, this.rate.element),
        h("div", { class: "stack" }, h("section", { class: "card" }, h("h2", { text: "How it is" }), this.summary), this.parts)),
      h("section", { class: "card" }, h("h2", { text: "Beside its peers" }), this.peers.whole, this.fewer),
      h("section", { class: "card" }, h("h2", { text: "What was done lately" }), this.audit.whole),
      h("section", { class: "card" }, h("h2", { text: "Evidence" }), h("p", { class: "note", text: "What the rules of the detector use: the same rows as cellrouter explain." }), this.evidence),
    );
    this.refresh();
  }

  show({ overview, now }) {
    const cell = overview?.cells.find((each) => each.view.cell_id === this.id);
    if (!cell) return;
    update(this.hero, { "data-health": kindOf(cell.health) });
    update(this.sign, { text: symbolOf(cell.health) });
    const since = cell.since_ms ? ` Since ${clock(cell.since_ms, now)} (${span(now - cell.since_ms)}).` : "";
    update(this.health, { text: `${cell.health}${cell.says ? `: ${cell.says}` : ""}.${since}` });
    this.slots.show(cellDeeds(cell));
    this.now = now;
  }

  async refresh() {
    try {
      const found = await get(`fleet/cell?cell=${encodeURIComponent(this.id)}`);
      if (this.closed) return;
      update(this.trouble, { text: "" });
      this.fill(found);
    } catch (error) {
      update(this.trouble, { text: `Not up to date: ${error.message}` });
    }
    if (!this.closed) this.timer = setTimeout(() => this.refresh(), AGAIN_MS);
  }

  fill(found) {
    const now = this.now ?? Date.now();
    keyed(this.doubts, found.doubts, (doubt) => doubt, (doubt) => h("li", { class: "matter" }, h("span", { class: "sign", "aria-hidden": "true" }), h("span", { text: doubt })));
    if (found.past) {
      this.latency.show(found.past.latency_ms, found.past.health, millis, found.audit, now);
      this.rate.show(found.past.rate, found.past.health, (value) => `${rate(value)}/s`);
    }
    rowsInto(this.summary, found.summary);
    rowsInto(this.components, found.components);
    update(this.parts, { hidden: !found.components.length });
    rowsInto(this.evidence, found.evidence);
    const farthest = [...found.peers].sort((a, b) => this.place(b) - this.place(a));
    const others = found.peers.length - MOST_PEERS;
    update(this.fewer, { hidden: others <= 0, text: `${others} other cells deviate less; the first page has them all.` });
    keyed(this.peers.body, farthest.slice(0, MOST_PEERS), (peer) => peer.cell_id, () => h("tr", {}, h("th", { scope: "row" }), h("td", { class: "number" }), h("td", { class: "number" }), h("td")), (row, peer) => this.peer(row, peer));
    const newest = [...found.audit].reverse();
    keyed(this.audit.body, newest, (entry) => `${entry.at_ms}${entry.action}${entry.why}`, (entry) =>
      h("tr", {}, ...[clock(entry.at_ms, now), entry.who, entry.action, entry.why].map((text) => h("td", { text }))));
  }

  // The cell itself, then those that are farthest from what is usual for their tenants.
  place(peer) {
    return peer.cell_id === this.id ? Infinity : Math.abs(peer.deviation ?? -1);
  }

  peer(row, peer) {
    const [name, deviation, canary, verdict] = row.children;
    const self = peer.cell_id === this.id;
    update(row, { class: self ? "self" : null });
    update(name, { text: self ? `→ ${peer.cell_id}` : peer.cell_id });
    update(deviation, { text: peer.deviation === null ? "–" : `${Math.exp(peer.deviation).toFixed(2)} times` });
    update(canary, { text: millis(peer.canary_s === null ? null : peer.canary_s * 1000) });
    update(verdict, { text: peer.verdict });
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }
}
