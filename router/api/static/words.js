// How healths, times and figures are written.

// By health: its symbol, since colour alone must not tell, and what it means.
export const HEALTH = {
  "given up": ["✕", "a person has to look"],
  untreated: ["!", "sick or down, and nothing is done about it"],
  treated: ["↻", "sick or down, and something is done about it"],
  "by hand": ["‖", "a person keeps it as it is"],
  changing: ["→", "an order or a release is carried out"],
  watched: ["~", "slower or busier than usual; nothing is held against it"],
  unknown: ["?", "nothing fresh is known of it"],
  well: ["✓", "serves as it should"],
};
export const ORDER = Object.keys(HEALTH);
export const kindOf = (health) => health.replaceAll(" ", "-");
export const symbolOf = (health) => HEALTH[health]?.[0] ?? "?";

const two = (number) => String(number).padStart(2, "0");

export const clock = (ms, now = Date.now()) => {
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return new Date(now).toDateString() === at.toDateString() ? time : `${day(ms)} ${time}`;
};

export const day = (ms) => {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
};

export const span = (ms) => {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
};

// A short time may be a part of a second.
export const ago = (ms) => (ms < 1000 ? millis(ms) : span(ms));

export const count = (number) => (number === null || number === undefined ? "–" : number.toLocaleString("en"));

export const rate = (number) => (number >= 100 ? count(Math.round(number)) : String(Math.round(number * 10) / 10));

export const millis = (ms) => {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 10000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
};

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
