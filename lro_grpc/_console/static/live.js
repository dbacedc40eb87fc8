// Keeps the part of the page that changes as the server has it, by asking for it again and again.
//
// Each request carries the ETag of what is shown, so that nothing new is an empty 304. A list is asked for
// as often as the server says (X-Next-Ms); an operation is held there until it changes (Prefer: wait).
// A hidden tab asks nothing, for it would hold one of the six connections that a browser has to a server.
// A refusal ends the asking; anything else is tried again, later and later.

import { ask } from "./ask.js";
import { morph } from "./morph.js";
import { mergeRows, settle } from "./rows.js";
import { clock, writeTimes } from "./times.js";

const HOLD_SECONDS = 8;
const LEAST_MS = 250;
const LONGEST_BACKOFF_MS = 30_000;
const REFUSALS = new Set([400, 403, 404]);

const part = document.querySelector("[data-part]");
const button = document.querySelector("[data-live]");
const banner = document.querySelector("[data-banner]");
const isList = part?.dataset.kind === "rows";
const server = document.title.slice(document.getElementById("body")?.dataset.title?.length); // its name

let etag = part?.dataset.etag ?? "";
let seen = Date.now(); // when what is shown was true
let isPaused = false;
let isLeft = false; // the page is being left: what is cut off by that is no failure
let inHand = new AbortController();
let wake = () => {};

const isAsleep = () => isPaused || isLeft || document.hidden;

export async function live() {
  if (button) button.hidden = !part;
  if (!part) return;
  if (part.dataset.done === "true") return show("Done", "still", true);
  show("Live", "on");
  addEventListener("pagehide", () => { isLeft = true; sleepOrWake(); });
  addEventListener("pageshow", () => { isLeft = false; sleepOrWake(); });
  addEventListener("online", () => wake());
  document.addEventListener("visibilitychange", sleepOrWake);
  for (let failures = 0, isOver = false; !isOver; ) {
    while (isAsleep()) await rest();
    inHand = new AbortController();
    const { signal } = inHand;
    const answer = await ask(part.dataset.part, { etag, wait: isList ? 0 : HOLD_SECONDS, signal });
    if (signal.aborted) continue;
    const isGood = answer.status === 304 || (answer.status === 200 && merge(answer));
    if (isGood) {
      failures = 0;
      isOver = finish(answer);
      if (!isOver) await rest(Number(answer.header("X-Next-Ms")) || (isList ? 2000 : LEAST_MS));
    } else if (answer.status === 401) {
      isOver = true;
      show("Signed out", "off", true);
      say("You are signed out. ", "Sign in");
    } else if (REFUSALS.has(answer.status)) {
      isOver = true;
      show("Stopped", "off", true);
      const isGone = answer.status === 404 && "name" in (document.getElementById("body")?.dataset ?? {});
      say(isGone ? "This operation is gone: it was deleted, or has expired." : said(answer));
    } else {
      show("Retrying", "off");
      say(`${said(answer)} What you see is from ${clock(seen)}; it is tried again.`);
      await rest(Math.min(LONGEST_BACKOFF_MS, 1000 * 2 ** failures++) * (0.75 + Math.random() / 2));
    }
  }
}

// Pauses, or goes on.
export function pause() {
  if (!part || button.disabled) return;
  isPaused = !isPaused;
  button.setAttribute("aria-pressed", String(!isPaused));
  if (isPaused) show("Paused", "off");
  else show("Live", "on");
  sleepOrWake();
}

function sleepOrWake() {
  if (isAsleep()) inHand.abort();
  else wake();
}

// Waits until something wakes it, or for a time.
function rest(ms) {
  return new Promise((go) => {
    const timer = ms === undefined ? undefined : setTimeout(go, ms);
    wake = () => { clearTimeout(timer); go(); };
  });
}

function merge({ page, header }) {
  const body = page?.getElementById("body");
  if (isList ? !page || !mergeRows(page) : !body) return false;
  for (const fresh of page.querySelectorAll("[data-also][id]")) {
    const old = document.getElementById(fresh.id);
    if (old) morph(old, fresh);
  }
  if (body) {
    morph(document.getElementById("body"), body);
    announce();
  }
  etag = header("ETag") ?? "";
  writeTimes();
  return true;
}

// Says that all is well; true if the operation has ended.
function finish({ header }) {
  seen = Date.now();
  say("");
  if (isList) settle();
  const isDone = header("X-Done") === "true";
  show(isDone ? "Done" : "Live", isDone ? "still" : "on", isDone);
  return isDone;
}

// What an operation is tells its tab, and what has been opened of it.
function announce() {
  const { title, icon } = document.getElementById("body").dataset;
  const favicon = document.getElementById("favicon");
  if (title && document.title !== title + server) document.title = title + server;
  if (icon && favicon.getAttribute("href") !== icon) favicon.setAttribute("href", icon);
  part.dispatchEvent(new Event("changed", { bubbles: true }));
}

function said({ status, page }) {
  const text = page?.querySelector("[data-trouble]")?.textContent.trim();
  if (text) return /[.!?]$/.test(text) ? text : `${text}.`;
  return status ? `The console answers with the status ${status}.` : "The console does not answer.";
}

function say(text, link) {
  if (banner.dataset.says === text) return; // it is read aloud only once
  banner.dataset.says = text;
  banner.textContent = text;
  banner.hidden = !text;
  if (link) banner.append(Object.assign(document.createElement("a"), { textContent: link, href: location.href }));
}

function show(word, how, isOver = false) {
  button.querySelector("[data-live-word]").textContent = word;
  button.dataset.how = how;
  button.disabled = isOver;
}
