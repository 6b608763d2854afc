// Keeps the page: which view is open, what was heard last, and how fresh that is.
import { AuditView } from "./audit.js";
import { caller } from "./caller.js";
import { CellView } from "./cell.js";
import { dialog } from "./dialog.js";
import { get, update } from "./dom.js";
import { FleetView } from "./fleet.js";
import { KeyView } from "./key.js";
import { Live } from "./live.js";
import { clock, span } from "./words.js";

const STALE_MS = 7000; // it is 1 s as a rule, and up to 5 s when nobody has watched
const byId = (id) => document.getElementById(id);
const state = { overview: null, history: null, audit: [], now: Date.now() };
let view = null;

// The registry's time now: that of the last reading, and what has passed since.
const ageMs = () => (state.overview ? state.overview.age_s * 1000 + (live.silentMs ?? 0) : null);
const nowMs = () => (state.overview ? state.overview.now_ms + ageMs() : Date.now());

const VIEWS = [
  [/^#\/cells\/(.+)$/, "fleet", (root, id) => new CellView(root, decodeURIComponent(id)), (id) => decodeURIComponent(id)],
  [/^#\/audit(?:\?(.*))?$/, "audit", (root, query) => {
    const asked = new URLSearchParams(query ?? "");
    return new AuditView(root, asked.get("find") ?? "", Number(asked.get("skip")) || 0);
  }, () => "audit"],
  [/^#\/key\/(.+)$/, "key", (root, key) => new KeyView(root, decodeURIComponent(key)), (key) => decodeURIComponent(key)],
  [/^(#\/)?$/, "fleet", (root) => new FleetView(root), () => "fleet"],
];

const open = (byPerson) => {
  for (const [pattern, page, make, name] of VIEWS) {
    const found = pattern.exec(location.hash);
    if (!found) continue;
    view?.close?.();
    dialog.close();
    byId("content").replaceChildren();
    view = make(byId("content"), found[1]);
    for (const link of document.querySelectorAll("nav a")) update(link, { "aria-current": link.dataset.page === page ? "page" : null });
    state.page = name(found[1]);
    if (byPerson) { byId("content").focus({ preventScroll: true }); scrollTo(0, 0); }
    show();
    return;
  }
};

const show = () => {
  state.now = nowMs();
  view?.show(state);
  update(byId("caller"), { text: caller.says });
  update(byId("sign-out"), { hidden: !(caller.about?.sign_in && caller.token) });
  const status = state.overview?.headline ?? "connecting";
  document.title = `${status} · ${state.page} · cellrouter`;
};

// Says how old what is shown is; greys it, and says so, when it is old.
const freshness = () => {
  const age = ageMs(), silent = live.silentMs;
  const lost = state.overview?.status === "unknown" && state.overview.cells.length > 0;
  const quiet = silent !== null && silent > STALE_MS;
  const level = age === null ? "waiting" : lost || age > STALE_MS ? "stale" : "live";
  update(byId("fresh"), { "data-level": level });
  update(byId("fresh-text"), { text: age === null ? "connecting" : `${level === "live" ? "live" : "stale"} · ${span(age)} ago` });
  update(document.body, { "data-stale": level === "stale" });
  const what = quiet ? "This process says nothing." : "Nothing new can be read.";
  const text = level === "stale" ? `${what} What is shown is of ${clock(state.overview.now_ms)}, ${span(age)} ago.` : "";
  update(byId("stale"), { hidden: level !== "stale" });
  update(byId("stale"), { text });
};

const heard = (overview) => {
  const before = state.overview;
  state.overview = overview;
  const { about } = overview;
  caller.heard(about);
  update(byId("environment"), { text: about.environment, hidden: false });
  update(byId("process"), { text: `${about.role} ${about.name} · cellrouter ${about.version} · leader ${overview.leader || "none"}` });
  if (before?.headline !== overview.headline) update(byId("spoken"), { text: overview.headline });
  show();
  freshness();
};

const remember = async () => {
  if (!document.hidden) try {
    const [history, audit] = await Promise.all([get("fleet/history"), get("audit?limit=100")]);
    state.history = history;
    if (audit.length) state.audit = audit; // without Redis there is none
    show();
  } catch {
    // the freshness of the page tells that nothing comes
  }
  setTimeout(remember, (state.overview?.cells.length ?? 0) > 200 ? 60000 : 5000);
};

byId("lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("lookup-key").value;
  if (key) location.hash = `#/key/${encodeURIComponent(key)}`;
});
byId("sign-out").addEventListener("click", () => caller.signOut());
caller.changed = () => show();
addEventListener("hashchange", () => open(true));
const live = new Live(heard);
open(false);
remember();
setInterval(freshness, 500);
