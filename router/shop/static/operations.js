// The operations dashboard: how one shop stands, or all of them, asked for every two seconds.
import { ask, count, find, h, keyed, offer, plural, set } from "./elements.js";

const STATES = { out: "✕ sold out", low: "! low", enough: "✓ enough" };
let shop = new URLSearchParams(location.search).get("shop") ?? "";
let heard = 0;

const NEEDS = { out: "out", low: "low" }; // the figures that are no good news

const cells = (...kinds) => () => h("tr", {}, ...kinds.map((kind) => h("td", { class: kind || null })));
const fill = (row, ...texts) => texts.forEach((text, place) => set(row.children[place], { text }));

const showChart = (values) => {
  const highest = Math.max(1, ...values) * 1.1, step = 600 / Math.max(1, values.length - 1);
  const points = values.map((value, place) => `${(place * step).toFixed(1)} ${(120 - (value / highest) * 120).toFixed(1)}`);
  set(find("line"), { d: points.length > 1 ? `M${points.join("L")}` : "M0 120" });
  set(find("area"), { d: points.length > 1 ? `M0 120L${points.join("L")}L600 120Z` : "M0 120" });
  set(find("rate-said"), { text: values.length ? `at most ${count(Math.max(...values))} lately` : "after a few seconds" });
};

const showStock = (rows, found) => {
  keyed(find("stock"), rows, (row) => `${row.shop}#${row.product}`, cells("", "", "state", "figure", "figure spare"), (child, row) => {
    fill(child, row.title, row.shop, STATES[row.state], count(row.stock), count(row.reorder_level));
    set(child.children[2], { "data-level": row.state });
  });
  set(find("stock-said"), { text: rows.length >= 200 ? "the 200 that need it most" : plural(rows.length, "product") });
};

const showVendors = (rows) => {
  find("no-vendors").hidden = rows.length > 0;
  keyed(find("vendors"), rows, (row) => `${row.shop}#${row.number}`, cells("", "", "figure", "state"), (child, row) => {
    fill(child, row.product, row.shop, count(row.quantity), row.arrived ? "✓ arrived" : "→ on its way");
    set(child.children[3], { "data-level": row.arrived ? "enough" : "low" });
  });
};

const showBest = (rows) => {
  find("no-best").hidden = rows.length > 0;
  const most = Math.max(1, ...rows.map((row) => row.sold));
  keyed(find("best"), rows, (row) => `${row.shop}#${row.product}`, () => {
    const what = h("span", { class: "what" }, h("span"), h("small"));
    return h("li", {}, what, h("meter", { min: 0, "aria-hidden": "true" }), h("span", { class: "figure" }));
  }, (child, row) => {
    set(child.children[0].children[0], { text: row.title });
    set(child.children[0].children[1], { text: shop ? "" : ` ${row.shop}` });
    set(child.children[1], { max: most, value: row.sold });
    set(child.children[2], { text: `${count(row.sold)} sold` });
  });
};

const show = (found) => {
  offer(find("shop"), found.shops, "All shops");
  find("shop").value = shop;
  set(find("orders"), { text: count(found.orders) });
  set(find("rate"), { text: found.orders_a_minute === null ? "–" : count(found.orders_a_minute) });
  for (const name of ["pieces", "out", "low"]) {
    set(find(name), { text: count(found[name]), "data-level": found[name] > 0 ? NEEDS[name] : null });
  }
  set(find("open"), { text: count(found.open_vendor_orders) });
  showChart(found.minutes);
  showStock(found.stock);
  showVendors(found.vendor_orders);
  showBest(found.best);
  const trouble = find("trouble");
  trouble.hidden = found.missing.length === 0 && found.unread === 0;
  const unread = found.unread ? `${plural(found.unread, "item")} can't be read.` : "";
  set(trouble, { text: [found.missing.length ? `Not shown: ${found.missing.join("; ")}.` : "", unread].join(" ").trim() });
  set(find("cells"), { text: `Read from the tables of ${found.cells.join(", ") || "no cell"}.` });
};

const age = () => {
  const stale = Date.now() - heard > 8000, fresh = find("fresh");
  if (heard) set(fresh, { "data-level": stale ? "stale" : "live" });
  if (heard) set(find("fresh-text"), { text: stale ? `${Math.round((Date.now() - heard) / 1000)} s old` : "live" });
};

const look = async () => {
  try {
    const asked = shop, found = await ask(`/operations/now?shop=${encodeURIComponent(asked)}`);
    if (asked === shop) show(found); // not when another one was chosen meanwhile
    heard = Date.now();
  } catch (error) {
    set(find("trouble"), { text: `Nothing new: ${error.message}. The page goes on trying.` });
    find("trouble").hidden = false;
  }
  age();
  setTimeout(look, 2000);
};

find("shop").addEventListener("change", (event) => {
  shop = event.target.value;
  history.replaceState(null, "", shop ? `?shop=${encodeURIComponent(shop)}` : location.pathname);
});
setInterval(age, 1000);
look();
