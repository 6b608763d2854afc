// The one dialog in which everything is done: who you are, what exactly, the plan and your reason, what became of it.
import { NoAnswer, caller } from "./caller.js";
import { h, update } from "./dom.js";

const MAX_WHY = 1000;

class Dialog {
  constructor() {
    this.title = h("h2", { id: "deed-title", tabindex: -1 });
    this.body = h("div", { class: "step" });
    this.said = h("p", { class: "note", role: "status" });
    this.element = h("dialog", { class: "deed", "aria-labelledby": "deed-title", onclose: () => this.closed(), oncancel: (event) => this.leaving(event) }, this.title, this.body, this.said);
    document.body.append(this.element);
  }

  // Opens on a deed; `after` is called when something may have changed.
  open(deed, after = () => {}) {
    Object.assign(this, { deed, after, values: {}, why: "", busy: false, stays: false, turn: null });
    for (const { name, value } of deed.fields) this.values[name] = value ?? "";
    this.body.replaceChildren();
    update(this.title, { text: deed.title });
    this.element.showModal();
    this.begin();
  }

  begin() {
    if (caller.isNeeded) return this.signIn();
    if (this.deed.fields.length) return this.what();
    return this.plan();
  }

  // A deed under way has begun whether the dialog is there or not: so it stays until there is an answer.
  leaving(event) {
    if (this.stays) event.preventDefault();
  }

  close() {
    if (this.element.open) this.element.close();
  }

  closed() {
    if (this.element.open) return; // it is told late, and the next deed has begun
    this.body.replaceChildren();
    update(this.said, { text: "" });
    this.turn = null; // what comes back from now on is for nobody
    if (this.stays) this.after();
  }

  // Shows a step; says it where it is heard, and leads the keyboard to what comes next.
  step(parts, focus, said = "") {
    this.body.replaceChildren(...parts);
    update(this.said, { text: said, class: "unseen" });
    (focus ?? this.title).focus();
  }

  buttons(...made) {
    const close = h("button", { type: "button", class: "plain", text: made.length ? "Cancel" : "Close", onclick: () => this.close() });
    return h("p", { class: "deeds" }, ...made, close);
  }

  // A form has no action: what it would send goes through `fetch`, and the page's policy forbids the rest.
  form(submit, ...parts) {
    return h("form", { onsubmit: (event) => { event.preventDefault(); if (!this.busy) submit(); } }, ...parts);
  }

  // Does one thing at a time, and gives what it throws to be told.
  async during(says, work, failed, stays = false) {
    const turn = (this.turn = {});
    Object.assign(this, { busy: true, stays });
    this.title.focus();
    for (const part of this.body.querySelectorAll(stays ? "button, input, select, textarea" : "button.act, input, select, textarea")) update(part, { disabled: true });
    update(this.said, { text: says, class: "note" });
    let then;
    try {
      const found = await work();
      then = () => found;
    } catch (error) {
      then = () => failed(error);
    }
    if (this.turn !== turn) return undefined;
    Object.assign(this, { busy: false, stays: false });
    return then();
  }

  signIn(trouble = "") {
    const input = h("input", { type: "password", id: "deed-token", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "deed-about" });
    const go = async () => {
      if (await this.during("Asking who this is …", async () => { await caller.signIn(input.value); return true; }, (error) => this.signIn(told(error)))) this.known();
    };
    const warning = caller.isExposed ? h("p", { class: "trouble", text: "This page came over http: the token goes over the network in the clear. Put TLS before it." }) : null;
    const about = "Paste your token: cellrouter token NAME --role operate makes one. This tab keeps it until you close it or sign out.";
    this.step([
      h("p", { id: "deed-about", text: about }), warning, trouble ? h("p", { class: "trouble", text: trouble }) : null,
      this.form(go, h("label", { for: "deed-token", text: "Token" }), input, this.buttons(h("button", { class: "act", text: "Sign in" }))),
    ].filter(Boolean), input, trouble);
  }

  known() {
    const why = caller.whyNot;
    if (why) this.step([h("p", { class: "trouble", text: why }), this.buttons(this.out())], null, why);
    else this.begin();
  }

  out() {
    return h("button", { type: "button", class: "plain", text: "Use another token", onclick: () => { caller.signOut(); this.begin(); } });
  }

  what(trouble = "") {
    const rows = this.deed.fields.map((field) => this.field(field));
    const seen = () => rows.forEach(({ row, input, field }) => {
      const needed = !field.when || field.when(this.values);
      update(row, { hidden: !needed });
      update(input, { disabled: !needed });
    });
    const form = this.form(() => this.plan(), ...rows.map(({ row }) => row), this.buttons(h("button", { class: "act", text: "See the plan" })));
    form.addEventListener("input", () => { for (const { field, input } of rows) this.values[field.name] = input.value; seen(); });
    seen();
    this.step([h("p", { text: this.deed.about }), trouble ? h("p", { class: "trouble", text: trouble }) : null, form].filter(Boolean), rows[0].input, trouble);
  }

  field(field) {
    const id = `deed-${field.name}`, note = field.note ? h("small", { id: `${id}-note`, text: field.note }) : null;
    const given = { id, "aria-describedby": note && note.id };
    const input = field.kind === "select"
      ? h("select", given, ...field.options.map(([value, text]) => h("option", { value, text })))
      : h("input", { ...given, type: field.kind, autocomplete: "off", spellcheck: "false", maxlength: field.kind === "text" ? 1000 : null, min: field.min, step: field.kind === "number" ? "any" : null, required: field.kind === "number" });
    input.value = this.values[field.name];
    return { field, input, row: h("div", { class: "field" }, h("label", { for: id, text: field.label }), input, note) };
  }

  async plan(trouble = "") {
    if (!this.body.firstChild) this.step([h("p", { text: this.deed.about }), this.buttons()]);
    const again = (error) => {
      if (caller.isNeeded) return this.signIn(told(error));
      if (this.deed.fields.length) return this.what(told(error));
      return this.over([told(error)], () => this.plan());
    };
    const plan = await this.during("Asking for the plan …", () => this.deed.plan(this.values), again);
    if (plan) this.confirm(plan, trouble);
  }

  confirm(plan, trouble) {
    const lines = [...plan.lines.map((text) => h("li", { text })), ...plan.refused.map((reason) => h("li", { class: "trouble", text: `The leader would refuse it: ${reason}` }))];
    const parts = [
      trouble ? h("p", { class: "trouble", text: trouble }) : null,
      this.deed.fields.length ? null : h("p", { text: this.deed.about }),
      h("div", { class: "plan", id: "deed-plan" }, h("p", { class: "says", text: plan.says }), lines.length ? h("ul", {}, ...lines) : null, plan.moved.length ? moved(plan) : null),
    ];
    const back = this.deed.fields.length ? h("button", { type: "button", class: "plain", text: "Back", onclick: () => this.what() }) : null;
    if (!plan.goes) return this.step([...parts, this.buttons(...[back].filter(Boolean))].filter(Boolean), null, plan.says);
    const why = h("textarea", { id: "deed-why", rows: 2, maxlength: MAX_WHY, required: true, "aria-describedby": "deed-plan" });
    why.value = this.why;
    why.addEventListener("input", () => { this.why = why.value; why.setCustomValidity(""); });
    const name = this.deed.named(this.values, plan);
    const go = () => {
      why.setCustomValidity(why.value.trim() ? "" : "Say why: the audit keeps it.");
      if (why.reportValidity()) this.act(plan, name);
    };
    const deed = h("button", { class: this.deed.grave ? "act grave" : "act", text: name });
    this.step([
      ...parts, this.form(go, h("label", { for: "deed-why", text: "Why, for the audit" }), why, this.buttons(deed, ...[back].filter(Boolean))),
      h("p", { class: "note", text: caller.says }),
    ].filter(Boolean), why, trouble);
  }

  async act(plan, name) {
    const failed = (error) => {
      this.after();
      if (error.isDoubtful) return this.over([told(error), "It may be in force, or not. Look at the audit before you do it again."], null, true);
      if (caller.isNeeded) return this.signIn(told(error));
      if (error.kind === "plan-changed") return this.plan(told(error));
      return this.over([told(error), ...(error.reasons?.length > 1 ? error.reasons : [])], () => this.plan());
    };
    const done = await this.during(`${name} …`, () => this.deed.act(this.values, this.why.trim(), plan.agreed), failed, true);
    if (!done) return;
    this.after();
    this.step([h("ul", { class: "done" }, ...done.map((text) => h("li", { text }))), this.buttons()], this.title, done.join(" "));
    this.body.querySelector("button").focus();
  }

  // What became of it when it was not done.
  over(lines, again, audit = false) {
    const retry = again ? [h("button", { type: "button", class: "act", text: "Look again", onclick: again })] : [];
    const link = audit ? [h("a", { href: "#/audit", text: "Look at the audit", onclick: () => this.close() })] : [];
    this.step([...lines.map((text) => h("p", { class: "trouble", text })), this.buttons(...link, ...retry)], null, lines.join(" "));
    this.body.querySelector("button, a").focus();
  }
}

const told = (error) => (error.title && error.title !== error.message ? `${error.title}: ${error.message}` : error instanceof NoAnswer ? `No answer: ${error.message}` : error.message);

const moved = (plan) => h(
  "table", {}, h("caption", { class: "unseen", text: "Slots that move" }),
  h("thead", {}, h("tr", {}, ...["Cell", "Slots now", "Slots then"].map((text, place) => h("th", { scope: "col", class: place ? "number" : null, text })))),
  h("tbody", {}, ...plan.moved.map(([cell, now, then]) => h("tr", {}, h("th", { scope: "row", text: cell }), h("td", { class: "number", text: String(now) }), h("td", { class: "number", text: String(then) }))),
    ...(plan.others > 0 ? [h("tr", {}, h("td", { colspan: 3, text: `and ${plan.others} more cells` }))] : [])),
);

export const dialog = new Dialog();

// Buttons of slots that keep their places, so that the focus comes back to where it was; each opens its slot's deed.
export class Slots {
  constructor(names, after) {
    this.deeds = {};
    this.said = h("p", { class: "note", id: "slots-said" });
    this.buttons = new Map(names.map((name) => [name, h("button", { type: "button", class: "plain", onclick: () => dialog.open(this.deeds[name], after) })]));
    this.element = h("div", { class: "slots", role: "group", "aria-label": "Actions", hidden: true }, h("div", { class: "deeds" }, ...this.buttons.values()), this.said);
  }

  show(deeds, why = null) {
    this.deeds = deeds;
    const not = caller.whyNot ?? why;
    for (const [name, button] of this.buttons) update(button, { text: `${deeds[name].label} …`, disabled: Boolean(not), "aria-describedby": not ? "slots-said" : null });
    update(this.said, { text: not ?? "", hidden: !not });
    update(this.element, { hidden: false });
  }

  hide() {
    update(this.element, { hidden: true });
  }
}
