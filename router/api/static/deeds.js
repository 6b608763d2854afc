// What can be done from this page. A deed is its label and title, the fields that say what exactly, its plan, and the doing of it.
//   named(values)     what the button says that does it, as "Evict cell-0002"
//   plan(values)      { says, lines, moved, refused, goes, agreed }: in the API's own words
//   act(values, why, agreed)   lines that say what was done
import { caller } from "./caller.js";
import { plural } from "./words.js";

const MOST_MOVED = 5;

const shown = (plan, more = {}) => {
  const by = ({ slots_now, slots_then }) => Math.abs(slots_then - slots_now);
  const moved = plan.cells.filter(by).sort((a, b) => by(b) - by(a)); // those that a plan is about come first
  return {
    says: plan.text,
    lines: plan.keys.map(({ key, before, after }) => `${key}: ${before} → ${after}`),
    moved: moved.slice(0, MOST_MOVED).map(({ cell, slots_now, slots_then }) => [cell, slots_now, slots_then]),
    others: moved.length - MOST_MOVED,
    refused: plan.refused,
    goes: plan.changes && !plan.refused.length,
    agreed: plan.text,
    ...more,
  };
};

const edited = (label, subject, named, change, fields = [], more = {}) => ({
  label, title: `${label} ${subject}`, named, fields, ...more,
  plan: async (values) => shown(await caller.post("plans", { change: change(values) })),
  act: async (values, why, agreed) => {
    const done = await caller.post("changes", { change: change(values), why, agreed });
    return [done.changed ? `In force within a second, as version ${done.version} of the policy: ${done.text}` : `It was in force already: ${done.text}`];
  },
});

const ofCell = (word, kind, cell, more) => edited(word, cell, () => `${word} ${cell}`, () => ({ edit: kind, cell }), [], more);

// One deed a slot, whatever the cell's state: what a button does may change while it keeps its place and the focus.
export const cellDeeds = ({ view, draining }) => {
  const cell = view.cell_id;
  return {
    freeze: view.frozen
      ? ofCell("Unfreeze", "unfreeze", cell, { about: "Automation looks after it again." })
      : ofCell("Freeze", "freeze", cell, { about: "Its instance stays as it is: not recovered, replaced, nor launched again when it dies." }),
    eject: view.ejected
      ? ofCell("Readmit", "readmit", cell, { about: "It gets its events again, slowly at first." })
      : ofCell("Eject", "eject", cell, { about: "Routers send it nothing until it is readmitted: its events wait.", grave: true }),
    replace: ofCell("Replace", "replace", cell, { about: "Another instance is launched and verified beside it, then takes over." }),
    evict: ofCell("Evict", "evict", cell, { about: "Its instance ends now, and another is launched; its events wait meanwhile.", grave: true }),
    drain: draining
      ? ofCell("Uncordon", "uncordon", cell, { about: "It has its share of the slots again." })
      : ofCell("Drain", "drain", cell, { about: "All its slots move to the other cells, bit by bit; it goes on running with nothing." }),
  };
};

const number = (name, label, value, min, note, when) => ({ name, label, kind: "number", value, min, note, when });
const choice = (name, label, options, value = options[0]?.[0]) => ({ name, label, kind: "select", options, value });

const pinned = (key, page, cells) => {
  const others = cells.map((cell) => [cell, cell]);
  const options = page.pinned ? [["", "where its slot is, without a pin"], ...others] : others;
  const first = page.pinned ? "" : (cells.find((cell) => cell !== page.cell) ?? cells[0]);
  const named = ({ cell }) => (cell ? `Pin ${key} to ${cell}` : `Unpin ${key}`);
  return edited("Pin", key, named, ({ cell }) => (cell ? { edit: "pin", key, cell } : { edit: "unpin", key }), [choice("cell", "To which cell", options, first)], { about: "The key's events go to a cell of your choice, in their order." });
};

const limited = (key, page) => {
  const sets = ({ how }) => how !== "unlimit";
  const fields = [
    number("rate", "Events a second, per router", "100", 0, "In the long run; 0: any number.", sets),
    number("burst", "Events at once after a pause", "200", 1, "", sets),
    number("concurrency", "Events in flight, per router", "0", 0, "0: any number.", sets),
  ];
  if (page.limited) fields.unshift(choice("how", "What", [["limit", "set another limit"], ["unlimit", "take its own limit away"]]));
  const change = (values) => (sets(values) ? { edit: "limit", key, rate: Number(values.rate), burst: Math.round(Number(values.burst)), concurrency: Math.round(Number(values.concurrency)) } : { edit: "unlimit", key });
  return edited("Limit", key, (values) => (sets(values) ? `Limit ${key}` : `Unlimit ${key}`), change, fields, { about: "What is over the limit waits in the hold queue; nothing is lost." });
};

const turning = (key, page) => {
  const fields = [
    number("weight", "Events in one turn", String(page.weight), 1, "Other keys have 1."),
    choice("priority", "Priority", [["high", "high"], ["normal", "normal"], ["low", "low"]], page.priority),
  ];
  const change = ({ weight, priority }) => ({ edit: "fairness", key, weight: Math.round(Number(weight)), priority });
  return edited("Turns", key, () => `Set the turns of ${key}`, change, fields, { about: "How its events take turns with other keys' in their cell's lane. No priority starves the others." });
};

export const keyDeeds = (key, page, cells) => ({
  pin: pinned(key, page, cells),
  limit: limited(key, page),
  turns: turning(key, page),
  quarantine: page.quarantined
    ? edited("Release", key, () => `Release ${key}`, () => ({ edit: "release", key }), [], { about: "Its events go to its cell again, those that waited too." })
    : edited("Quarantine", key, () => `Quarantine ${key}`, ({ minutes }) => ({ edit: "quarantine", key, seconds: 60 * Number(minutes) }), [number("minutes", "For how many minutes", "60", 0, "0: until you release it.")], { about: "Its events wait in the quarantine queue, and reach no cell.", grave: true }),
});

// Without a change of a person there is nothing to take back: the API says so.
export const undoDeed = () => ({
  label: "Undo the last change", title: "Undo the last change", named: (_, plan) => `Undo version ${plan.agreed}`, fields: [],
  about: "Takes back what a person changed last. What routers and the leader have decided since stays.",
  plan: async () => {
    const found = await caller.get("undo");
    const lines = [...found.kept.map((reason) => `Stays: ${reason}`), ...found.done];
    return shown(found.plan, { lines: [...lines, ...shown(found.plan).lines], goes: !found.plan.refused.length, agreed: found.version });
  },
  act: async (_, why, agreed) => {
    const done = await caller.post("undo", { why, agreed });
    return [
      ...done.taken_back.map((text) => `Taken back: ${text}`), ...done.kept.map((reason) => `Stays: ${reason}`), ...done.done,
      done.further ? `The next undo takes back: ${done.further}` : "No change of a person is left to take back.",
    ];
  },
});

const MOST_LETTERS = 1000;

const letters = async (values, why, dryRun) => {
  const where = Object.fromEntries(["reason", "key", "cell"].map((name) => [name, values[name].trim()]).filter(([, text]) => text));
  return caller.post("dead-letters/redrives", { where, why, all: !Object.keys(where).length, limit: MOST_LETTERS, dry_run: dryRun });
};

const more = (done) => (done.complete && done.done + done.failed < MOST_LETTERS ? [] : ["There may be more than could be looked at: redrive again afterwards."]);

export const redriveDeed = () => ({
  label: "Redrive", title: "Redrive dead letters", named: () => "Redrive these dead letters",
  about: "Sends dead letters back to where they came from, under the same ids. What follows narrows it down; empty: any.",
  fields: [
    choice("reason", "Reason", [["", "any"], ...["malformed", "rejected", "max_attempts", "killed_cell", "foreign", "incomplete"].map((each) => [each, each])]),
    { name: "key", label: "Partition key", kind: "text", value: "" },
    { name: "cell", label: "Cell that it died in", kind: "text", value: "" },
  ],
  plan: async (values) => {
    const found = await letters(values, "a plan, for the dashboard", true);
    const says = found.done ? `${plural(found.done, "dead letter")} would be sent back` : "No dead letter would be sent back.";
    return { says, lines: [...found.told, ...more(found)], moved: [], others: 0, refused: [], goes: found.done > 0, agreed: null };
  },
  act: async (values, why) => {
    const done = await letters(values, why, false);
    return [`${plural(done.done, "dead letter")} sent back, ${done.failed} failed, ${done.left} that were met are still there.`, ...done.told, ...more(done)];
  },
});
