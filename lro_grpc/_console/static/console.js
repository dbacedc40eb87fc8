// Makes the pages live and quick; without it they work as they come from the server.

import { ask } from "./ask.js";
import { live, pause } from "./live.js";
import { morphChildren } from "./morph.js";
import { countSelected, currentRow, select, selectAll, selected, showNewer, step } from "./rows.js";
import { keepTimes, nextZone } from "./times.js";

const $ = (what, within = document) => within.querySelector(what);
const kept = { // what this browser remembers, if it may
  get(key) { try { return localStorage.getItem(`lro-${key}`) ?? ""; } catch { return ""; } },
  set(key, value) { try { localStorage.setItem(`lro-${key}`, value); } catch { /* it may not */ } },
};

// Switches.

const THEMES = { "": "dark", dark: "light", light: "" };

function changeZone() {
  kept.set("zone", nextZone());
}

function changeTheme() {
  const root = document.documentElement;
  const theme = THEMES[root.dataset.theme ?? ""] ?? "";
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  kept.set("theme", theme);
}

const showKeys = () => $("[data-keys]").showModal();

// Questions: the confirmation is a page of its own; here it opens above this one.

async function confirm(url, form) {
  const dialog = $("[data-dialog]");
  const { page } = await ask(url, { form });
  const question = page?.getElementById("confirm");
  if (!question) {
    if (form) send(url, form);
    else location.assign(url); // the page says why
  } else if (!dialog.open) {
    dialog.replaceChildren(document.importNode(question, true));
    dialog.showModal();
    $("[data-close]", dialog)?.focus();
  }
}

// Goes to a page by a form, as a browser without a script does.
function send(url, fields) {
  const form = Object.assign(document.createElement("form"), { method: "post", action: url });
  for (const [name, value] of fields) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  document.body.append(form);
  form.submit();
}

// Asks about what is selected, or else about the row that has the focus.
function confirmSelected(verb) {
  const form = $("#bulk");
  const names = selected().map((box) => box.value);
  const row = currentRow();
  if (!names.length && row) names.push(row.dataset.name);
  if (!form || !names.length) return;
  const url = new URL(form.getAttribute("action"), location.href);
  confirm(url.href, new URLSearchParams([["verb", verb], ...names.map((name) => ["name", name])]));
}

// Copying.

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // there is no clipboard on plain HTTP, but for this machine's own pages
    const field = Object.assign(document.createElement("textarea"), { value: text, readOnly: true });
    const before = document.activeElement;
    (button?.closest("dialog") ?? document.body).append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    before?.focus();
  }
  const said = $("[data-said]");
  if (said) said.textContent = "Copied";
  button?.classList.add("done");
  setTimeout(() => {
    button?.classList.remove("done");
    if (said) said.textContent = "";
  }, 1200);
}

// Copies a name that one may paste into a shell: a line break in it would be the end of a command.
function copyName() {
  const name = currentRow()?.dataset.name ?? $("#body")?.dataset.name;
  if (name && !/\p{C}|\p{Zl}|\p{Zp}/u.test(name)) copy(name, $("[data-copy]", currentRow() ?? $("#body")));
}

// An operation in another dialect: asked for when it is opened, and when it has changed, once a second.

const FORM_MS = 1000;
let formTimer = 0;

async function showForm(details) {
  const { page } = await ask(details.dataset.form);
  const form = page?.getElementById("form");
  if (form) morphChildren($("[data-own]", details), form);
}

function showForms() {
  formTimer = 0;
  for (const details of document.querySelectorAll("details[data-form][open]")) showForm(details);
}

document.addEventListener("toggle", ({ target }) => {
  if (target.open && target.dataset.form) showForm(target);
}, true);
document.addEventListener("changed", () => { formTimer ||= setTimeout(showForms, FORM_MS); });

// The pointer.

document.addEventListener("click", (event) => {
  const on = (what) => event.target.closest(what);
  const isPlain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  let it;
  if ((it = on("[data-copy]"))) copy(it.dataset.copy, it);
  else if ((it = on("a[data-confirm]"))) {
    if (!isPlain) return;
    event.preventDefault();
    confirm(it.href);
  } else if ((it = on("dialog [data-close]"))) {
    event.preventDefault();
    it.closest("dialog").close();
  } else if (event.target.matches("dialog")) event.target.close(); // beside what it holds
  else if (on("[data-newer]")) showNewer();
  else if (on("[data-live]")) pause();
  else if (on("[data-zone]")) changeZone();
  else if (on("[data-theme-switch]")) changeTheme();
  else if (on("[data-help]")) showKeys();
  else if (on("[data-unpick]")) selectAll(false);
  else if ((it = on("[data-all]"))) selectAll(it.checked);
  else if ((it = on("tbody input[type=checkbox]"))) select(it, event.shiftKey);
});

document.addEventListener("submit", (event) => {
  const by = event.submitter;
  if (by?.matches("[data-confirm]")) {
    event.preventDefault();
    confirmSelected(by.value);
  } else if (event.target.getAttribute("method") === "post") {
    // Pressed twice, sent once; a disabled button's value would not be sent.
    setTimeout(() => { if (by) by.disabled = true; });
    addEventListener("pageshow", () => { if (by) by.disabled = false; }, { once: true });
  }
});

// The keyboard.

const KEYS = {
  "/": () => $("[data-filter]")?.select(),
  "?": showKeys,
  j: () => step(1),
  k: () => step(-1),
  x: (event) => {
    const box = currentRow()?.querySelector("input[type=checkbox]");
    if (!box) return;
    box.checked = !box.checked;
    select(box, event.shiftKey);
  },
  c: () => {
    const link = $("a[data-verb=cancel]");
    if (link) link.click();
    else if ($("#bulk [value=cancel]")) confirmSelected("cancel");
  },
  n: showNewer,
  y: copyName,
  u: () => $("[data-up]")?.click(),
  p: pause,
  z: changeZone,
  t: changeTheme,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  if ($("dialog[open]")) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const isRow = event.key === "j" || event.key === "k";
  const act = KEYS[event.key === "X" ? "x" : event.key];
  if (!act || (event.repeat && !isRow)) return;
  event.preventDefault();
  act(event);
});

// The parents that this browser has been at.

function rememberParent() {
  const field = $("input[name=parent]"), options = $("#parents");
  if (!field || !options || !$("[data-part]")) return;
  let parents = [];
  try { parents = JSON.parse(kept.get("parents") || "[]"); } catch { /* another version's */ }
  parents = [field.value, ...parents.filter((one) => typeof one === "string" && one !== field.value)].slice(0, 8);
  kept.set("parents", JSON.stringify(parents));
  const known = new Set([...options.options].map((one) => one.value));
  for (const value of parents) {
    if (value && !known.has(value)) options.append(Object.assign(document.createElement("option"), { value }));
  }
}

keepTimes(kept.get("zone"));
countSelected();
rememberParent();
live();
