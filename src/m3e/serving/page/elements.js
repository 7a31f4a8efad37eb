// Making elements. Texts only ever become text nodes: nothing that a person or a model wrote is read as HTML.

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function lines(text) {
  return text
    .split(/[\r\n\u2028\u2029]+/)
    .map((line) => line.trim())
    .filter(Boolean);
}

function shorten(text, length) {
  const letters = Array.from(text.slice(0, 2 * length + 2));
  return letters.length > length ? `${letters.slice(0, length).join("")}…` : text;
}

// A long text folds to its beginning, and opens in place.
function passage(text) {
  if (text.length <= 280) return make("p", { className: "passage" }, text);
  const more = make("small", {});
  const head = make("summary", {}, shorten(text, 120), " ", say(more, "show.all"));
  return make("details", { className: "passage" }, head, make("p", {}, text));
}

function legend(words, scale) {
  return make("p", { className: "legend hint" }, say(make("span"), words, legendValues(scale)));
}
