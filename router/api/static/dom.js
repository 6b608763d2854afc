// The few helpers that this page is made with. Texts only ever become text nodes: nothing here makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

const set = (element, name, value) => {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
};

// Sets attributes and texts, and touches nothing that is so already: what a person has selected stays selected.
export const update = (element, props) => {
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") {
      if (element.textContent !== String(value ?? "")) element.textContent = value ?? "";
    } else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else set(element, name, value);
  }
  return element;
};

const made = (element, props, children) => {
  update(element, props);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

export const h = (tag, props = {}, ...children) => made(document.createElement(tag), props, children);
export const s = (tag, props = {}, ...children) => made(document.createElementNS(SVG, tag), props, children);

// Keeps a child of `parent` for each item, in their order: makes new ones, updates the others where they are.
export const keyed = (parent, items, keyOf, make, refresh) => {
  const known = parent.kept ?? new Map();
  const now = new Map();
  items.forEach((item, place) => {
    const key = keyOf(item, place);
    const child = known.get(key) ?? make(item);
    refresh?.(child, item);
    now.set(key, child);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  for (const [key, child] of known) if (!now.has(key)) child.remove();
  parent.kept = now;
};

export const get = async (path) => {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  throw new Error(typeof said.detail === "string" ? said.detail : `${path} answers ${answer.status}`);
};

// A table with a caption for those who can't see what it is about. `heads` are texts, or pairs of a text and a class.
export const table = (caption, heads) => {
  const cells = heads.map((head) => (Array.isArray(head) ? head : [head, ""]));
  const body = h("tbody");
  const whole = h(
    "table", {},
    h("caption", { class: "unseen", text: caption }),
    h("thead", {}, h("tr", {}, ...cells.map(([text, kind]) => h("th", { text, class: kind || null, scope: "col" })))),
    body,
  );
  return { whole: h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, whole), body };
};
