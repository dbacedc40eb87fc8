// Asks the console for a page or a part of one.

const LONGEST_MS = 40_000; // five times as long as an answer is held

// Gives the status (0 if nothing came), the document and the headers. XMLHttpRequest parses HTML by
// itself, so that no text is ever made into markup here, which the page's policy forbids.
export function ask(url, { etag = "", wait = 0, signal, form } = {}) {
  return new Promise((answer) => {
    const request = new XMLHttpRequest();
    const end = () =>
      answer({
        status: request.status,
        page: request.status ? request.response : null,
        header: (name) => (request.status ? request.getResponseHeader(name) : null),
      });
    request.open(form ? "POST" : "GET", url);
    request.responseType = "document";
    request.overrideMimeType("text/html"); // an empty 304 would be read as broken XML
    request.timeout = LONGEST_MS;
    request.setRequestHeader("X-Part", "1");
    if (etag) request.setRequestHeader("If-None-Match", etag);
    if (wait) request.setRequestHeader("Prefer", `wait=${wait}`);
    request.onloadend = end;
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
