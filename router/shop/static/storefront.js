// The storefront: choose, put into the basket, order. One basket has one order id, so a double click is one order.
import { ask, find, h, keyed, money, offer, plural, set } from "./elements.js";

const basket = new Map(); // product → quantity
const orders = []; // the newest first: { shop, id, state, lines }
let shop = new URLSearchParams(location.search).get("shop") ?? "";
let products = [], clockOff = 0, orderId = null, sending = false, looks = 0;

const nameOf = (text) => text.replaceAll("-", " ").replace(/^./, (letter) => letter.toUpperCase());
const left = (product) => {
  if (product.stock <= 0) return ["out", "Sold out: we order it for you"];
  return product.stock <= 5 ? ["low", `Only ${product.stock} left`] : ["enough", "In stock"];
};

const newId = () => {
  const chance = crypto.getRandomValues(new Uint32Array(1))[0].toString(16).padStart(8, "0");
  return `CUSTOMER-ORDER-${String(Date.now() + clockOff).padStart(13, "0")}-${chance}`;
};

const put = (product, quantity) => {
  if (quantity > 0) basket.set(product, Math.min(999, quantity));
  else basket.delete(product);
  orderId = null; // another basket is another order
  showBasket();
};

const tile = (product) => {
  const price = h("strong"), state = h("span", { class: "left" });
  const add = h("button", { class: "add", type: "button", text: "Add to basket", onclick: () => {
    put(product.product, (basket.get(product.product) ?? 0) + 1);
    set(find("said"), { text: `${product.title} is in your basket`, "data-level": null });
  } });
  const title = h("h2", { text: product.title });
  add.setAttribute("aria-label", `Add ${product.title} to the basket`);
  const picture = h("div", { class: "picture", "aria-hidden": "true" }, h("span", { text: [...product.title][0] ?? "" }));
  const whole = h("li", { class: "good" }, picture, h("div", { class: "about" }, title, h("p", { class: "facts" }, price, state)), add);
  whole.parts = { price, state };
  return whole;
};

const showProducts = () => {
  set(find("title"), { text: shop ? nameOf(shop) : "Choose a shop" });
  set(find("kicker"), { text: products.length ? plural(products.length, "good thing") : "Goods of the house" });
  document.title = shop ? nameOf(shop) : "The shop";
  keyed(find("products"), products, (each) => each.product, tile, (child, each) => {
    const [level, text] = left(each);
    set(child.parts.price, { text: money(each.price_cents) });
    set(child.parts.state, { text, "data-level": level });
  });
};

const line = ([product]) => {
  const title = h("span", { class: "what" }), sum = h("span", { class: "sum" });
  const amount = h("input", { type: "number", min: 0, max: 999, inputmode: "numeric", "aria-label": `How many of ${product}` });
  amount.addEventListener("change", () => put(product, Number.parseInt(amount.value, 10) || 0));
  const away = h("button", { type: "button", class: "away", text: "×", "aria-label": `Take ${product} out`, onclick: () => put(product, 0) });
  const whole = h("li", {}, title, amount, sum, away);
  whole.parts = { title, amount, sum };
  return whole;
};

const showBasket = () => {
  const known = new Map(products.map((each) => [each.product, each]));
  keyed(find("lines"), [...basket], ([product]) => product, line, (child, [product, quantity]) => {
    const each = known.get(product);
    set(child.parts.title, { text: each?.title ?? product });
    if (document.activeElement !== child.parts.amount) child.parts.amount.value = quantity;
    set(child.parts.sum, { text: money((each?.price_cents ?? 0) * quantity) });
  });
  const total = [...basket].reduce((sum, [product, quantity]) => sum + (known.get(product)?.price_cents ?? 0) * quantity, 0);
  find("empty").hidden = basket.size > 0;
  find("total-line").hidden = basket.size === 0;
  set(find("total"), { text: money(total) });
  const pieces = [...basket.values()].reduce((sum, quantity) => sum + quantity, 0);
  set(find("jump"), { text: `Basket: ${plural(pieces, "piece")}, ${money(total)}`, hidden: pieces === 0 });
  find("place").disabled = basket.size === 0 || sending;
};

const WORDS = {
  unknown: ["…", "On its way to us"],
  accepted: ["…", "Taken in; we look what we have"],
  ready: ["✓", "All of it is yours"],
  "back-ordered": ["!", "Some of it has to be ordered"],
};

const showOrders = () => {
  find("orders-part").hidden = orders.length === 0;
  keyed(find("orders"), orders, (each) => each.id, () => {
    const whole = h("li", {}, h("p", { class: "state" }), h("p", { class: "soft" }), h("ul", { class: "told" }));
    return whole;
  }, (child, each) => {
    const [symbol, words] = WORDS[each.state] ?? WORDS.unknown;
    set(child.children[0], { text: `${symbol} ${words}`, "data-state": each.state });
    set(child.children[1], { text: `${nameOf(each.shop)}, ${each.id.split("-ORDER-")[1]}` });
    const told = each.lines.map((one) => one.back_ordered
      ? `${one.title}: ${one.taken} now, ${one.back_ordered} later` : `${one.title}: ${one.quantity}`);
    keyed(child.children[2], told, (text) => text, (text) => h("li", { text }), () => {});
  });
};

const place = async (event) => {
  event.preventDefault();
  if (sending) return;
  const customer = find("customer").value.trim(), said = find("said");
  if (!customer) {
    set(said, { text: "Tell us your name first.", "data-level": "bad" });
    find("customer").focus();
    return;
  }
  orderId ??= newId(); // kept until it is taken: who tries again sends the same order
  const sent = { shop, id: orderId, state: "unknown", lines: [] }; // whatever is chosen while it is on its way
  sending = true;
  showBasket();
  set(said, { text: "Sending your order …", "data-level": null });
  const lines = [...basket].map(([product, quantity]) => ({ product, quantity }));
  try {
    await ask(`/shops/${sent.shop}/orders`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ order_id: sent.id, customer, lines }),
    });
    orders.unshift(sent);
    orders.splice(20);
    if (orderId === sent.id) basket.clear();
    if (orderId === sent.id) orderId = null;
    set(said, { text: "Thank you. Your order is on its way to us.", "data-level": "good" });
  } catch (error) {
    set(said, { text: `Not sent: ${error.message}. You can send it again; it stays one order.`, "data-level": "bad" });
  }
  sending = false;
  showBasket();
  showOrders();
};

const follow = async () => {
  for (const order of orders.filter((each) => !["ready", "back-ordered"].includes(each.state))) {
    Object.assign(order, await ask(`/shops/${order.shop}/orders/${order.id}`));
  }
  showOrders();
};

const look = async () => {
  const trouble = find("trouble");
  try {
    if (looks % 15 === 0) {
      const { shops } = await ask("/shops");
      offer(find("shop"), shops);
      if (!shop && shops.length) shop = shops[0];
      looks = shops.length ? 1 : 0;
    } else looks += 1;
    if (shop) {
      find("shop").value = shop;
      const asked = shop, found = await ask(`/shops/${encodeURIComponent(asked)}/products`);
      if (asked === shop) products = found.products; // not when another one was chosen meanwhile
      clockOff = found.now_ms - Date.now();
    }
    await follow();
    trouble.hidden = true;
  } catch (error) {
    set(trouble, { text: `We can't reach the shop just now: ${error.message}. The page goes on trying.` });
    trouble.hidden = false;
  }
  showProducts();
  showBasket();
  setTimeout(look, 2000);
};

find("shop").addEventListener("change", (event) => {
  shop = event.target.value;
  basket.clear();
  orderId = null;
  products = [];
  history.replaceState(null, "", `?shop=${encodeURIComponent(shop)}`);
  showProducts();
  showBasket();
});
find("order").addEventListener("submit", place);
look();
