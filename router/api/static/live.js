// Hears from the process: by a stream of server-sent events, or by asking every two seconds where there is none.
import { get } from "./dom.js";

const SILENT_MS = 6000; // the stream says something once a second; then it is asked for instead
const ASK_MS = 2000;
const STREAM_AGAIN_MS = 30000;

export class Live {
  constructor(heard) {
    this.heard = heard;
    this.at = null; // when something was last heard, by performance.now()
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.start()));
    this.start();
  }

  get silentMs() {
    return this.at === null ? null : performance.now() - this.at;
  }

  start() {
    this.stop();
    this.source = new EventSource("fleet/live");
    this.source.onmessage = (message) => this.take(JSON.parse(message.data));
    this.source.onerror = () => { if (this.source?.readyState === EventSource.CLOSED) this.ask(); };
    this.watch();
  }

  stop() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.watching);
    clearTimeout(this.asking);
    clearTimeout(this.again);
  }

  take(overview) {
    this.at = performance.now();
    if (this.source) this.watch();
    this.heard(overview);
  }

  watch() {
    clearTimeout(this.watching);
    this.watching = setTimeout(() => this.ask(), SILENT_MS);
  }

  // Asks until a stream can be had again.
  ask() {
    this.stop();
    const once = async () => {
      try {
        this.take(await get("fleet"));
      } catch {
        // the page says itself how long nothing was heard
      }
      if (this.source === null) this.asking = setTimeout(once, ASK_MS);
    };
    once();
    this.again = setTimeout(() => this.start(), STREAM_AGAIN_MS);
  }
}
