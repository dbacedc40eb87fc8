// Times as the reader wants them: how long ago, local, or UTC; by the server's clock.

const ZONES = { ago: "local", local: "UTC", UTC: "ago" };
const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60]];

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const short = { month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const formats = {
  local: new Intl.DateTimeFormat(undefined, short),
  UTC: new Intl.DateTimeFormat(undefined, { ...short, timeZone: "UTC" }),
};
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

// How far the reader's clock is ahead of the server's: both as of when the page came.
const [navigation] = performance.getEntriesByType("navigation");
const came = Date.now() - performance.now() + (navigation?.responseStart ?? 0);
const ahead = came - Date.parse(document.documentElement.dataset.now) || 0;

let zone = "ago";

// Begins to write the times, each second while somebody may look.
export function keepTimes(chosen) {
  if (chosen in ZONES) zone = chosen;
  writeTimes();
  setInterval(() => document.hidden || writeTimes(), 1000);
  document.addEventListener("visibilitychange", () => writeTimes());
  document.addEventListener("pointerover", (event) => explain(event.target.closest("time")));
}

export function nextZone() {
  zone = ZONES[zone];
  writeTimes();
  return zone;
}

export function writeTimes() {
  const word = document.querySelector("[data-zone-word]");
  if (word && word.textContent !== zone) word.textContent = zone;
  const now = Date.now() - ahead;
  for (const one of document.querySelectorAll("time")) {
    const at = Date.parse(one.dateTime);
    if (Number.isNaN(at)) continue;
    const text = "since" in one.dataset ? spent(now - at) : zone === "ago" ? ago(now - at) : formats[zone].format(at);
    if (one.textContent !== text) one.textContent = text;
  }
}

// Only what is pointed at: a table has hundreds of them.
function explain(one) {
  if (!one || one.title) return;
  const at = Date.parse(one.dateTime);
  if (!Number.isNaN(at)) one.title = `${full.format(at)}\n${one.dateTime.replace("T", " ").replace("Z", " UTC")}`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString();

function ago(ms) {
  const seconds = Math.round(ms / 1000);
  if (Math.abs(seconds) < 5) return "now";
  const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["second", 1];
  return relative.format(-Math.trunc(seconds / length), unit);
}

// As the server writes durations: the two largest units, and no zeros.
function spent(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const minutes = Math.floor(s / 60), hours = Math.floor(s / 3_600);
  const units = [[Math.floor(hours / 24), "d"], [hours % 24, "h"], [minutes % 60, "m"], [s % 60, "s"]];
  const first = units.findIndex(([count]) => count);
  const shown = units.slice(first, first + 2).filter(([count]) => count);
  return shown.map((one) => one.join(" ")).join(" ") || "0 s";
}
