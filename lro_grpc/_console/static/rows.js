// The table of operations: rows that change in place, new ones that wait, and those that are selected.
//
// Nothing moves under the pointer. While the reader points at the table, has the focus in it, has selected
// rows or has scrolled, new rows wait behind a button, and rows that are gone stay, marked.

import { morph } from "./morph.js";

const MARKS = ["changed", "fresh", "gone"]; // this script's own classes of a row
const AT_THE_TOP = 40; // pixels

const table = document.querySelector("table[data-kind=rows]");
const newer = document.querySelector("[data-newer]");
let waiting = null; // the rows that the server has last sent, if they are other ones than those shown
let lastBox = null;

const rowsOf = (body) => [...body.rows].filter((row) => "name" in row.dataset);
export const rows = () => (table ? rowsOf(table.tBodies[0]) : []);
export const boxes = () => [...(table?.tBodies[0].querySelectorAll("input[type=checkbox]") ?? [])];
export const selected = () => boxes().filter((box) => box.checked);
export const currentRow = () => table && document.activeElement?.closest("tbody tr[data-name]");

table?.addEventListener("animationend", ({ target }) => target.classList.remove("changed", "fresh"));

// Takes the rows of an answer; false if it has none.
export function mergeRows(page) {
  const fresh = page.querySelector("table")?.tBodies[0];
  if (!fresh) return false;
  const shown = byKey(table.tBodies[0]);
  let added = 0;
  for (const [key, row] of byKey(fresh)) {
    const old = shown.get(key);
    shown.delete(key);
    if (old) change(old, row);
    else added += 1;
  }
  for (const row of shown.values()) row.classList.add("gone");
  waiting = added || shown.size ? fresh : null;
  newer.textContent = added ? `Show ${added} newer` : "Refresh the list";
  return true;
}

// Shows the rows that wait, unless that would move something that the reader is at.
export function settle() {
  const isCalm =
    scrollY < AT_THE_TOP && !table.matches(":hover") && !selected().length &&
    !table.contains(document.activeElement) && !document.querySelector("dialog[open]");
  if (isCalm || !rows().length) showNewer();
  newer.hidden = !waiting;
}

export function showNewer() {
  if (!waiting) return;
  const shown = byKey(table.tBodies[0]);
  const coming = [...byKey(waiting)].map(([key, row]) => {
    const old = shown.get(key);
    if (old) return change(old, row);
    const made = document.importNode(row, true);
    made.classList.add("fresh");
    return made;
  });
  const focused = document.activeElement;
  table.tBodies[0].replaceChildren(...coming);
  if (focused.isConnected) focused.focus();
  waiting = null;
  newer.hidden = true;
  countSelected();
}

function change(old, row) {
  const marks = MARKS.filter((mark) => mark !== "gone" && old.classList.contains(mark));
  if (old.dataset.state !== row.dataset.state) marks.push("changed");
  morph(old, row);
  old.classList.add(...marks);
  return old;
}

// Rows by id; a server may send an operation twice, or several without a name.
function byKey(body) {
  const found = new Map();
  for (const row of body.rows) {
    let key = row.id;
    while (found.has(key)) key += "+";
    found.set(key, row);
  }
  return found;
}

export function select(box, isRange) {
  const all = boxes();
  const [from, to] = [all.indexOf(lastBox), all.indexOf(box)];
  if (isRange && from >= 0) {
    for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) one.checked = box.checked;
  }
  lastBox = box;
  countSelected();
}

export function selectAll(isChecked) {
  for (const box of boxes()) box.checked = isChecked;
  countSelected();
}

export function countSelected() {
  const bar = document.querySelector("[data-bulkbar]");
  if (!bar) return;
  const count = selected().length;
  bar.toggleAttribute("data-some", count > 0);
  bar.querySelector("[data-picked]").textContent = `${count} selected`;
  const all = document.querySelector("[data-all]");
  all.checked = count > 0 && count === boxes().length;
  all.indeterminate = count > 0 && !all.checked;
}

// Moves the focus to the next row, or the one before.
export function step(by) {
  const all = rows();
  const at = all.indexOf(currentRow());
  const row = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))];
  (row?.querySelector("a") ?? row?.querySelector("input"))?.focus();
  row?.scrollIntoView({ block: "nearest" });
}
