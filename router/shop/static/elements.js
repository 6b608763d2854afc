// The few helpers that both pages are made with. Texts only ever become text nodes: nothing makes markup of a string.

export const find = (id) => document.getElementById(id);

export const set = (element, props) => {
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") {
      if (element.textContent !== String(value ?? "")) element.textContent = value ?? "";
    } else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
  }
  return element;
};

export const h = (tag, props = {}, ...children) => {
  const element = set(document.createElement(tag), props);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

// Keeps a child of `parent` for each item: makes new ones, and changes the others where they are.
export const keyed = (parent, items, keyOf, make, refresh) => {
  const known = parent.kept ?? new Map(), now = new Map();
  items.forEach((item, place) => {
    const key = keyOf(item), child = known.get(key) ?? make(item);
    refresh(child, item);
    now.set(key, child);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  for (const [key, child] of known) if (!now.has(key)) child.remove();
  parent.kept = now;
};

export const ask = async (path, options = {}) => {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000), ...options });
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  throw new Error(typeof said.detail === "string" ? said.detail : `${path} answers ${answer.status}`);
};

export const money = (cents) => (cents / 100).toLocaleString("en", { style: "currency", currency: "EUR" });
export const count = (number) => (number ?? 0).toLocaleString("en");
export const plural = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;

// Fills the choice of shops, and keeps what is chosen.
export const offer = (select, shops, all) => {
  const chosen = select.value, wanted = [...(all ? [["", all]] : []), ...shops.map((shop) => [shop, shop])];
  if (wanted.map(([value]) => value).join() === [...select.options].map((option) => option.value).join()) return;
  select.replaceChildren(...wanted.map(([value, text]) => h("option", { value, text })));
  if (wanted.some(([value]) => value === chosen)) select.value = chosen;
};
