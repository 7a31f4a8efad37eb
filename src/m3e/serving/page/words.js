// The page's texts in two languages. A node remembers which text it shows, so that a change of language reaches it.

const WORDS = JSON.parse(document.getElementById("words").textContent);
const LANGUAGE_CHOICE = "m3e-language";
let language = "en";

function word(key, values = {}) {
  // A value may itself be a text of the page, as {words, values}: it changes with the language too.
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return value !== null && typeof value === "object" ? word(value.words, value.values) : String(value);
  });
}

function say(node, key, values = {}) {
  node.dataset.words = key;
  node.dataset.values = JSON.stringify(values);
  node.textContent = word(key, values);
  return node;
}

function firstLanguage() {
  let chosen = null;
  try {
    chosen = localStorage.getItem(LANGUAGE_CHOICE);
  } catch {
    // Storage may be forbidden; the browser's language decides then.
  }
  return chosen in WORDS ? chosen : navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

function rememberLanguage() {
  try {
    localStorage.setItem(LANGUAGE_CHOICE, language);
  } catch {
    // Not remembered, then.
  }
}

function useLanguage(name) {
  language = name;
  document.documentElement.lang = name === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-words]")) {
    node.textContent = word(node.dataset.words, JSON.parse(node.dataset.values ?? "{}"));
  }
  for (const node of document.querySelectorAll("[data-label-words]")) {
    node.setAttribute("aria-label", word(node.dataset.labelWords));
  }
  for (const field of document.querySelectorAll("[data-sample]")) {
    field.value = word(field.dataset.sample);
  }
  const other = document.getElementById("language");
  other.textContent = word("other");
  other.lang = name === "zh" ? "en" : "zh-CN";
}
