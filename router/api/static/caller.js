// Who acts: the token of this tab, what it may do, and calls of the Admin API with it.

const KEPT = "cellrouter-token"; // in the tab's own storage: it ends with the tab, and no other tab has it
const WITHIN_MS = 30000; // the leader rules within five seconds; a walk through the dead letters takes 20 s at most
const TOKEN = /^[!-~]{1,8192}$/;

// Why something was not done, in the API's own words. `kind` is the last word of the problem's type.
export class Refusal extends Error {
  constructor(kind, title, detail, reasons = [], status = 400) {
    super(detail);
    Object.assign(this, { kind, title, reasons, status });
  }

  // Whether it may be done all the same: the process, or what is behind it, failed on the way.
  get isDoubtful() {
    return this.status >= 500 && this.kind !== "busy";
  }
}

// Nothing came back: what was asked may be done or not.
export class NoAnswer extends Error {
  get isDoubtful() {
    return true;
  }
}

class Caller {
  constructor() {
    this.changed = () => {}; // is called when somebody else acts from now on
    this.about = null;
    this.me = null; // who has the token, and their role
    this.token = sessionStorage.getItem(KEPT);
  }

  // Learns of the process, and once whose the token is that this tab still holds.
  heard(about) {
    const first = this.about === null;
    this.about = about;
    if (first && about.sign_in && this.token) this.signIn(this.token).catch(() => {});
  }

  get isNeeded() {
    return Boolean(this.about?.sign_in) && !this.token;
  }

  get isHere() {
    return location.hostname === "localhost" || location.hostname === "[::1]" || location.hostname.startsWith("127.");
  }

  // Whether the token would go over the network in the clear.
  get isExposed() {
    return location.protocol === "http:" && !this.isHere;
  }

  // Why this person can do nothing here; null when they can, or when that is not known before they have signed in.
  get whyNot() {
    if (this.me?.role === "view") return `${this.me.who} may only look: sign out, and in with a token of the role operate.`;
    if (this.about && !this.about.sign_in && !this.isHere) return "Actions need tokens away from the process' own machine: cellrouter token NAME makes one for api.tokens.";
    return null;
  }

  get says() {
    if (this.me) return `Signed in as ${this.me.who}, who may ${this.me.role === "view" ? "only look" : "act"}.`;
    if (!this.about || this.about.sign_in) return "";
    return "Actions need no sign-in here: no tokens are set, so whoever is on this machine may act.";
  }

  async signIn(text) {
    const token = text.trim();
    if (!TOKEN.test(token)) throw new Refusal("no-token", "This is no token", "It is one word of ASCII: cellrouter token NAME makes one.");
    const me = await this.ask("GET", "me", undefined, token);
    Object.assign(this, { token, me });
    sessionStorage.setItem(KEPT, token);
    this.changed();
  }

  signOut() {
    this.token = this.me = null;
    sessionStorage.removeItem(KEPT);
    this.changed();
  }

  get(path) {
    return this.ask("GET", path);
  }

  post(path, body) {
    return this.ask("POST", path, JSON.stringify(body));
  }

  async ask(method, path, body, token = this.token) {
    const headers = body === undefined ? {} : { "content-type": "application/json" };
    if (this.about?.sign_in && token) headers.authorization = `Bearer ${token}`;
    let answer, said;
    try {
      answer = await fetch(`v1/${path}`, { method, headers, body, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(WITHIN_MS) });
      said = await answer.json();
    } catch (error) {
      throw new NoAnswer(error.message);
    }
    if (answer.ok) return said;
    if (answer.status === 401) this.signOut();
    throw new Refusal(String(said.type ?? "").split(":").at(-1), said.title ?? `HTTP ${answer.status}`, said.detail ?? "The process' log may have more.", said.reasons, answer.status);
  }
}

export const caller = new Caller();
