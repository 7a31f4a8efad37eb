// The page at work: each form asks the server and draws what comes back.

const MOST_SENTENCES = 200;
const MOST_PASSAGES = 1000;
const MOST_HITS = 100;
const find = (id) => document.getElementById(id);
let card = null;

const actions = {
  async similarity(box) {
    const sentences = lines(find("sentences").value);
    if (sentences.length < 2) throw new Refusal("similarity.few");
    limit(sentences, MOST_SENTENCES, "similarity.many");
    const { vectors, cut } = await embed((await theCard()).model, sentences);
    drawHeat(box, sentences, cosines(vectors, vectors));
    return { words: "similarity.done", values: { count: sentences.length }, cut };
  },

  async ranking(box) {
    const query = find("query").value.trim();
    const passages = lines(find("passages").value);
    if (!query) throw new Refusal("ranking.no.query");
    if (!passages.length) throw new Refusal("ranking.few");
    limit(passages, MOST_PASSAGES, "ranking.many");
    const served = await theCard();
    const [asked, held] = await Promise.all([embed(queryId(served), [query]), embed(served.model, passages)]);
    drawRanking(box, passages, cosines(asked.vectors, held.vectors)[0]);
    return { words: "ranking.done", values: { count: passages.length }, cut: asked.cut + held.cut };
  },

  async search(box) {
    const query = find("search-query").value.trim();
    const count = Number(find("top-k").value);
    if (!query) throw new Refusal("search.empty");
    if (!Number.isInteger(count) || count < 1 || count > MOST_HITS) throw new Refusal("search.top_k.wrong");
    const { data } = await ask("v1/search", { query, top_k: count, mode: find("mode").value });
    if (!Array.isArray(data.hits)) throw new Refusal("error.answer");
    drawHits(box, data.hits);
    return { words: data.hits.length ? "search.done" : "search.nothing", values: { count: data.hits.length } };
  },
};

function limit(texts, most, words) {
  if (texts.length > most) throw new Refusal(words, { count: texts.length, limit: most });
}

function startForm(name) {
  const panel = find(name);
  const [form, status, error, result] = ["form", ".status", ".error", ".result"].map((part) => panel.querySelector(part));
  const button = form.querySelector(".go");
  form.noValidate = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    error.hidden = true;
    status.replaceChildren(say(make("span"), "working"));
    try {
      const { words, values, cut } = await actions[name](result);
      status.replaceChildren(say(make("span"), words, values), ...(cut ? [" ", cutNote(cut)] : []));
    } catch (problem) {
      status.replaceChildren();
      result.replaceChildren();
      showProblem(error, problem);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) form.requestSubmit();
  });
}

function cutNote(count) {
  const limit = card?.max_length;
  return say(make("span"), limit ? "cut" : "cut.unknown", { count, limit });
}

function showProblem(box, problem) {
  const known = problem instanceof Refusal;
  say(box, known ? problem.words : "error.page", known ? problem.values : { message: problem.message });
  box.hidden = false;
  if (problem.words?.startsWith("error.key")) {
    find("key-form").hidden = false;
    keyField.focus();
  }
}

async function theCard() {
  return (card ??= (await ask("card")).data);
}

async function showCard() {
  const error = find("card-error");
  error.hidden = true;
  try {
    const { model, store } = await theCard();
    find("key-form").hidden = !card.key_required;
    say(document.querySelector("title"), "title", { model });
    find("model").textContent = model;
    find("facts").replaceChildren(...facts());
    drawCard();
    drawSnippets(find("snippets"), card);
    if (store) {
      say(find("store"), "search.store", { kind: store.url_kind, rows: store.rows });
      find("tab-search").hidden = false;
    }
    showTab();
  } catch (problem) {
    showProblem(error, problem);
  }
}

function facts() {
  const length = card.max_length;
  const parts = [
    say(make("li"), "fact.dimension", { value: card.dimension }),
    say(make("li"), length ? "fact.length" : "fact.length.none", { value: length }),
  ];
  const plain = [card.dtype, card.backend, card.licence].filter(Boolean);
  return [...parts, ...plain.map((text) => make("li", {}, text))];
}

function drawCard() {
  const prompts = Object.entries(card.prompts ?? {}).filter(([, prompt]) => prompt);
  const shown = { ...card, prompts: prompts.map(([name, prompt]) => `${name} “${prompt}”`) };
  const names = ["model", "ids", "dimension", "max_length", "dtype", "backend", "licence", "languages", "prompts"];
  const rows = names.flatMap((name) => {
    const value = [shown[name] ?? []].flat().join(", ");
    const description = value ? make("dd", {}, value) : say(make("dd"), "none");
    return [say(make("dt"), `card.${name}`), description];
  });
  find("card-facts").replaceChildren(...rows);
  const text = card.card?.trim();
  find("card-text").replaceChildren(text ? markdown(text) : say(make("p", { className: "hint" }), "card.no.text"));
}

useLanguage(firstLanguage());
for (const field of document.querySelectorAll("[data-sample]")) {
  field.addEventListener("input", () => delete field.dataset.sample, { once: true });
}
find("language").addEventListener("click", () => {
  useLanguage(language === "zh" ? "en" : "zh");
  rememberLanguage();
});
recallKey();
keyField.addEventListener("input", rememberKey);
find("key-form").addEventListener("submit", (event) => event.preventDefault());
Object.keys(actions).forEach(startForm);
keyField.addEventListener("change", () => card ?? showCard());
const showTab = startTabs();
showCard();
