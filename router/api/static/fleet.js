// The first page: is all well, since when, what is being done, what needs a person; then the cells, and what led to now.
import { Hour, Spark } from "./charts.js";
import { Comb, latencyOf } from "./comb.js";
import { redriveDeed } from "./deeds.js";
import { Slots } from "./dialog.js";
import { h, keyed, table, update } from "./dom.js";
import { ORDER, ago, clock, count, kindOf, millis, plural, rate, span, symbolOf } from "./words.js";

const STATUS = { well: "✓", acting: "↻", "needs you": "!", unknown: "?" };
const MOST_ROWS = 25;
const RUNBOOKS = "docs/how-to/runbooks/";

// A line of something that there is: what, what to do about it, since when, and who wanted it.
const matterLine = () => {
  const parts = ["what", "todo", "note"].map((kind) => h(kind === "todo" ? "code" : "span", { class: kind }));
  const link = h("a", { class: "more", text: "see the cell" });
  const item = h("li", { class: "matter" }, h("span", { class: "sign", "aria-hidden": "true" }), h("div", {}, ...parts, link));
  item.parts = [...parts, link];
  return item;
};

const showMatter = (item, matter, now) => {
  const [what, todo, note, link] = item.parts;
  const notes = [
    matter.who && `by ${matter.who}`, matter.since_ms && `since ${clock(matter.since_ms, now)} (${span(now - matter.since_ms)})`,
    matter.runbook && `${RUNBOOKS}${matter.runbook}.md`,
  ];
  update(what, { text: matter.what });
  update(todo, { text: matter.todo, class: matter.todo.startsWith("cellrouter ") ? "todo command" : "todo", hidden: !matter.todo });
  update(note, { text: notes.filter(Boolean).join(" · ") });
  update(link, { hidden: !matter.cell_id, href: `#/cells/${encodeURIComponent(matter.cell_id)}`, text: matter.cell_id });
};

class Matters {
  constructor(title, kind) {
    this.list = h("ul", { class: "matters" });
    this.title = h("h2", { text: title });
    this.element = h("section", { class: `card ${kind}`, hidden: true }, this.title, this.list);
  }

  show(matters, now) {
    update(this.element, { hidden: !matters.length });
    keyed(this.list, matters, (matter, place) => `${matter.cell_id}/${place}`, matterLine, (item, matter) => showMatter(item, matter, now));
  }
}

const tile = (title, spark) => {
  const value = h("dd", { class: "value" }), note = h("dd", { class: "note" });
  const element = h("div", { class: "tile" }, h("dt", { text: title }), value, note, ...(spark ? [h("dd", { class: "trend" }, spark.element)] : []));
  return { element, show: (text, more = "", level = "") => { update(value, { text }); update(note, { text: more }); update(element, { "data-level": level }); } };
};

const limited = (limit) => {
  const said = [limit.rate_per_s && `${limit.rate_per_s}/s`, limit.concurrency && `${limit.concurrency} at once`].filter(Boolean);
  return said.length ? `others: ${said.join(", ")}` : "others: no limit";
};

export class FleetView {
  constructor(root) {
    this.sign = h("span", { class: "status", "aria-hidden": "true" });
    this.headline = h("h1");
    this.since = h("p", { class: "since" });
    this.sparks = { rate: new Spark("rate"), latency: new Spark("latency") };
    this.tiles = {
      rate: tile("Throughput", this.sparks.rate), latency: tile("Latency", this.sparks.latency), backlog: tile("Backlog"),
      dead: tile("Dead letters"), quarantine: tile("Quarantine"), limits: tile("Limits"),
    };
    this.slots = new Slots(["redrive"], () => {});
    this.tiles.dead.element.append(h("dd", {}, this.slots.element));
    this.hero = h(
      "section", { class: "hero", "aria-label": "Overall" },
      h("div", { class: "verdict" }, this.sign, h("div", {}, this.headline, this.since)),
      h("dl", { class: "tiles" }, ...Object.values(this.tiles).map((each) => each.element)),
    );
    this.needs = new Matters("Needs you", "urgent");
    this.doing = new Matters("Being done", "doing");
    this.byHand = new Matters("Kept by hand", "hand");
    this.progress = h("progress", { "aria-label": "Slots that are where they belong", hidden: true });
    this.doing.element.append(this.progress);
    this.comb = new Comb();
    this.count = h("span", { class: "note" });
    const heads = ["Cell", "Health", ["Throughput", "number wide"], ["Latency", "number"], ["Last 10 min", "wide"], ["Oldest in flight", "number wide"],
      ["Generation", "number wide"], ["Slots", "number wide"]];
    this.rows = table("Cells, those that are not well first", heads);
    this.all = h("button", { type: "button", class: "plain", hidden: true, onclick: () => { this.whole = true; this.show(this.state); } });
    this.hour = new Hour("The last hour: latency, and the worst health of any cell", "latency");
    this.lately = h("ul", { class: "lately" });
    this.facts = h("dl", { class: "facts" });
    this.keys = table("Keys in quarantine", ["Key", ["Since", "wide"], "Until", "Why"]);
    this.kept = h("section", { class: "card", hidden: true }, h("h2", { text: "Keys in quarantine" }), this.keys.whole);
    root.append(
      this.hero, this.needs.element, h("div", { class: "pair" }, this.doing.element, this.byHand.element),
      h("div", { class: "columns" },
        h("section", { class: "card cells" }, h("h2", {}, "Cells ", this.count), this.comb.element),
        h("div", { class: "stack" },
          h("section", { class: "card" }, h("h2", { text: "What led to now" }), this.hour.element),
          h("section", { class: "card" }, h("h2", { text: "What happened lately" }), this.lately, h("a", { class: "more", href: "#/audit", text: "the whole audit" })))),
      this.kept,
      h("section", { class: "card" }, h("h2", { text: "Each cell" }), this.rows.whole, this.all),
      h("section", { class: "card" }, h("h2", { text: "Who is here" }), this.facts),
    );
  }

  show(state) {
    this.state = state;
    const { overview, history, audit, now } = state;
    if (!overview) return;
    this.banner(overview, now);
    this.figures(overview, history);
    for (const [list, matters] of [[this.needs, overview.needs], [this.doing, overview.doing], [this.byHand, overview.by_hand]]) list.show(matters, now);
    const { left = 0, most = 0 } = overview.moving ?? {};
    update(this.progress, { hidden: !most, max: most || 1, value: most - left });
    this.comb.show(overview.cells);
    update(this.count, { text: [overview.cells.length, overview.scaling?.why].filter(Boolean).join("; ") });
    this.table(overview, history, now);
    this.past(history, audit, now);
    this.who(overview);
    update(this.kept, { hidden: !overview.quarantined.length });
    keyed(this.keys.body, overview.quarantined, (entry) => entry.key, () => h("tr", {}, h("td"), h("td", { class: "wide" }), h("td"), h("td")), (row, entry) => {
      const link = row.children[0].firstChild ?? row.children[0].appendChild(h("a"));
      update(link, { text: entry.key, href: `#/key/${encodeURIComponent(entry.key)}` });
      update(row.children[1], { text: clock(entry.since_ms, now) });
      update(row.children[2], { text: entry.until_ms ? clock(entry.until_ms, now) : "a person releases it" });
      update(row.children[3], { text: entry.why });
    });
  }

  banner(overview, now) {
    update(this.hero, { "data-status": kindOf(overview.status) });
    update(this.sign, { text: STATUS[overview.status] });
    update(this.headline, { text: overview.headline });
    const watched = overview.since_ms <= overview.watched_ms ? ", as long as this process has watched" : "";
    update(this.since, { text: `since ${clock(overview.since_ms, now)} (${span(now - overview.since_ms)}${watched})` });
  }

  figures(overview, history) {
    const { load, queues } = overview, { tiles } = this;
    const backlog = queues.source, dead = queues["dead letters"], age = overview.ages.source || 0;
    tiles.rate.show(`${rate(load.rate)}/s`, load.failing ? `${(load.failing * 100).toFixed(1)} % not well` : "events answered", load.failing > 0.02 ? "bad" : "");
    tiles.latency.show(millis(load.latency_s === null ? null : load.latency_s * 1000), `slowest ${millis(load.slowest_s * 1000)}`);
    const lasts = backlog && load.rate > 0.5 ? `${span((backlog / load.rate) * 1000)} at this rate` : "messages in the source";
    const waited = age ? `; received after ${span(age * 1000)}` : "";
    const flight = load.oldest_s >= 1 ? `; oldest in flight ${ago(load.oldest_s * 1000)}` : "";
    tiles.backlog.show(count(backlog), `${lasts}${waited}${flight}`, overview.needs.some((matter) => matter.runbook === "backlog-old") ? "bad" : "");
    tiles.dead.show(count(dead), dead ? "need a person" : "events given up", dead ? "bad" : "");
    if (dead) this.slots.show({ redrive: redriveDeed() }, overview.about.role === "router" ? null : "Ask a router: a controller has no rights to them.");
    else this.slots.hide();
    tiles.quarantine.show(count(overview.in_quarantine), `keys; ${count(queues.quarantine)} messages`, overview.in_quarantine ? "fair" : "");
    tiles.limits.show(count(overview.limits), `keys; ${limited(overview.default_limit)}`);
    if (history) { this.sparks.rate.show(history.fleet.rate); this.sparks.latency.show(history.fleet.latency_ms); }
  }

  table(overview, history, now) {
    const sorted = [...overview.cells].sort((a, b) => ORDER.indexOf(a.health) - ORDER.indexOf(b.health));
    const shown = this.whole ? sorted : sorted.slice(0, MOST_ROWS);
    update(this.all, { hidden: shown.length === sorted.length, text: `Show all ${sorted.length} cells` });
    keyed(this.rows.body, shown, (cell) => cell.view.cell_id, () => this.row(), (row, cell) => {
      const { view, load } = cell, [link, badge, word, says, perS, latency, oldest, generation, slots] = row.parts;
      update(link, { text: view.cell_id, href: `#/cells/${encodeURIComponent(view.cell_id)}` });
      update(badge, { text: symbolOf(cell.health) });
      update(badge.parentElement, { "data-health": kindOf(cell.health) });
      update(word, { text: cell.draining ? `${cell.health}, draining` : cell.health });
      const since = cell.health !== "well" && cell.since_ms ? ` (${span(now - cell.since_ms)})` : "";
      update(says, { text: cell.says ? `${cell.says}${since}` : "" });
      update(perS, { text: `${rate(load.rate)}/s` });
      update(latency, { text: millis(latencyOf(cell)) });
      update(oldest, { text: load.oldest_s ? ago(load.oldest_s * 1000) : "–" });
      update(generation, { text: view.launching ? `${view.generation} → ${view.launching}` : `${view.generation || "–"}` });
      update(slots, { text: count(view.slots) });
      row.spark.show(history?.cells[view.cell_id]?.latency_ms);
    });
  }

  row() {
    const link = h("a"), badge = h("span", { "aria-hidden": "true" }), word = h("span"), says = h("small");
    const figures = ["number wide", "number", "number wide", "number wide", "number wide"].map((kind) => h("td", { class: kind }));
    const spark = new Spark("latency", 20);
    const row = h(
      "tr", {}, h("th", { scope: "row", class: "name" }, link),
      h("td", {}, h("span", { class: "badge" }, badge, word), says),
      figures[0], figures[1], h("td", { class: "wide trend" }, spark.element), ...figures.slice(2),
    );
    return Object.assign(row, { parts: [link, badge, word, says, ...figures], spark });
  }

  past(history, audit, now) {
    if (history) this.hour.show(history.fleet.latency_ms, history.fleet.health, millis, audit, now);
    const newest = [...audit].reverse().slice(0, 8);
    keyed(this.lately, newest, (entry) => `${entry.at_ms}${entry.action}${entry.cell_id}${entry.why}`, (entry) => h(
      "li", {}, h("time", { text: clock(entry.at_ms, now) }), h("div", {}, h("b", { text: `${entry.action} ` }),
        entry.cell_id ? h("a", { href: `#/cells/${encodeURIComponent(entry.cell_id)}`, text: entry.cell_id }) : null, h("p", { text: entry.why })),
    ));
    if (!newest.length) update(this.lately, { text: "Nothing yet." });
    else if (this.lately.firstChild.nodeType === Node.TEXT_NODE) this.lately.firstChild.remove();
  }

  who(overview) {
    const live = overview.routers.filter((router) => router.live);
    const facts = [
      ["leader", overview.leader || "none: nothing is done about any cell"],
      ["routers", `${live.length} live${live.length ? `: ${live.map((router) => router.name + (router.zone && ` in ${router.zone}`)).join(", ")}` : ""}`],
      ["slot map", overview.epoch ? `epoch ${overview.epoch}` : "there is none yet"],
      ["policy", `version ${overview.policy_version}; ${plural(overview.pins, "pinned key")}, ${plural(overview.limits, "key")} with a limit`],
    ];
    keyed(this.facts, facts, ([name]) => name, ([name]) => h("div", {}, h("dt", { text: name }), h("dd")), (row, [, text]) => update(row.lastChild, { text }));
  }
}
