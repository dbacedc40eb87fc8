// Makes an element what another one is, in place: what has the focus keeps it, what is scrolled stays
// where it is, what the reader has opened stays open. Children are matched by their ids or those of their
// headings, else by their order. No text becomes markup here: the browser has parsed the other element.

const READERS = new Set(["open"]); // attributes that the reader changes, not the server

export function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(document.importNode(fresh, true));
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  } else if (old.nodeName !== "TIME" || old.dateTime !== fresh.dateTime) { // else its text is the page's
    attributes(old, fresh);
    if (!("own" in old.dataset)) morphChildren(old, fresh);
  }
}

function attributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!READERS.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (!READERS.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

export function morphChildren(old, fresh) {
  const coming = [...fresh.childNodes];
  const ids = new Set(coming.map(idOf).filter(Boolean));
  const known = new Map([...old.children].map((one) => [idOf(one), one]));
  let at = old.firstChild;
  for (const one of coming) {
    const id = idOf(one);
    const same = id && known.get(id);
    if (same) {
      known.delete(id);
      while (at !== same) { // the others give way: moved, `same` would lose the focus
        const next = at.nextSibling;
        if (ids.has(idOf(at))) same.after(at); else at.remove();
        at = next;
      }
    }
    if (same || (at && !id && !idOf(at) && at.nodeName === one.nodeName)) {
      const next = at.nextSibling;
      morph(at, one);
      at = next;
    } else {
      old.insertBefore(document.importNode(one, true), at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function idOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  return node.getAttribute("id") ?? node.getAttribute("aria-labelledby"); // a form's input may hide node.id
}
