// The heat map: a table of cosines that is read by eye, by keyboard and by screen reader.

const CLOSEST = 5;

function drawHeat(box, sentences, matrix) {
  const pairs = [];
  for (let row = 0; row < sentences.length; row++) {
    for (let column = row + 1; column < sentences.length; column++) {
      pairs.push({ row, column, score: matrix[row][column] });
    }
  }
  const scale = scaleOf(pairs.map((pair) => pair.score));
  const table = heatTable(sentences, matrix, scale.place);
  const chosen = make("div", { className: "pair", "aria-live": "polite" });
  table.addEventListener("focusin", ({ target }) => showPair(chosen, sentences, matrix, target));
  table.addEventListener("keydown", (event) => moveCell(event, table));
  const closest = pairs.sort((left, right) => right.score - left.score).slice(0, CLOSEST);
  const colours = legend("similarity.legend", scale);
  colours.prepend(make("span", { className: "ramp", "aria-hidden": "true" }));
  box.replaceChildren(
    colours,
    make("div", { className: "scroll" }, table),
    chosen,
    say(make("h3"), "similarity.closest"),
    rankedList(
      closest.map(({ row, column, score }) => ({ score, texts: [sentences[row], sentences[column]] })),
      { place: scale.place, digits: 4 },
    ),
  );
}

function heatTable(sentences, matrix, place) {
  const table = make("table", { className: "heat", role: "grid" });
  table.dataset.labelWords = "similarity.table";
  table.setAttribute("aria-label", word("similarity.table"));
  const columns = sentences.map(() => make("col"));
  const heads = sentences.map((text, index) => heatHead("col", text, index));
  const rows = matrix.map((values, row) =>
    make("tr", {}, heatHead("row", sentences[row], row), ...values.map((value, column) => heatCell(value, row === column, place))),
  );
  table.append(
    make("colgroup", {}, make("col", { className: "labels" }), ...columns),
    make("thead", {}, make("tr", {}, make("td"), ...heads)),
    make("tbody", {}, ...rows),
  );
  table.tBodies[0].rows[0].cells[1].tabIndex = 0;
  return table;
}

function heatHead(scope, text, index) {
  const short = shorten(text, 40);
  return make("th", { scope, title: short }, make("b", {}, String(index + 1)), make("span", {}, short));
}

function heatCell(value, itself, place) {
  const cell = make("td", { tabIndex: -1 }, figure(value, 2));
  if (itself) cell.className = "itself";
  else cell.style.setProperty("--v", place(value).toFixed(3));
  return cell;
}

function showPair(box, sentences, matrix, cell) {
  if (!cell.matches("tbody td")) return;
  const row = cell.parentNode.rowIndex - 1;
  const column = cell.cellIndex - 1;
  for (const stop of cell.closest("table").querySelectorAll("td[tabindex='0']")) stop.tabIndex = -1;
  cell.tabIndex = 0;
  const values = { row: row + 1, column: column + 1, score: figure(matrix[row][column], 4) };
  const texts = row === column ? [sentences[row]] : [sentences[row], sentences[column]];
  box.replaceChildren(say(make("strong"), "similarity.pair", values), ...texts.map((text) => make("p", {}, text)));
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function moveCell(event, table) {
  const cell = event.target.closest("tbody td");
  if (!cell || event.ctrlKey || event.altKey || event.metaKey) return;
  const rows = table.tBodies[0].rows;
  const [down, right] = MOVES[event.key] ?? [0, 0];
  let column = cell.cellIndex + right;
  if (event.key === "Home") column = 1;
  else if (event.key === "End") column = rows.length;
  else if (!(event.key in MOVES)) return;
  event.preventDefault();
  if (column > 0) rows[cell.parentNode.rowIndex - 1 + down]?.cells[column]?.focus();
}
