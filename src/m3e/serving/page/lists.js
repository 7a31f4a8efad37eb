// Ranked lists: a number, a bar and a text each.

function rankedList(items, { place, digits }) {
  return make("ol", { className: "ranked" }, ...items.map((item) => rankedItem(item, place, digits)));
}

function rankedItem({ score, texts, notes = [] }, place, digits) {
  const bar = make("div", { className: "bar", "aria-hidden": "true" }, make("div"));
  bar.style.setProperty("--v", place(score).toFixed(4));
  const number = make("span", { className: "score" }, figure(score, digits));
  return make("li", {}, make("div", { className: "measure" }, number, bar), ...texts.map(passage), ...notes);
}

function drawRanking(box, passages, scores) {
  const order = passages.map((_, index) => index).sort((left, right) => scores[right] - scores[left] || left - right);
  const items = order.map((index) => ({ score: scores[index], texts: [passages[index]] }));
  const scale = scaleOf(scores);
  box.replaceChildren(legend("ranking.legend", scale), rankedList(items, { place: scale.place, digits: 4 }));
}

function drawHits(box, hits) {
  const best = hits.reduce((most, hit) => Math.max(most, hit.score), 0) || 1;
  const items = hits.map((hit) => ({ score: hit.score, texts: [hit.text], notes: [origin(hit)] }));
  box.replaceChildren(rankedList(items, { place: (score) => Math.max(0, score / best), digits: 4 }));
}

function origin({ id, metadata }) {
  const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const pairs = Object.entries(metadata ?? {}).map(([name, value]) => make("span", {}, `${name}: ${shown(value)}`));
  return make("p", { className: "notes hint" }, say(make("span"), "search.id", { id }), ...pairs);
}
