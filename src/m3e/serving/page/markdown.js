// Model cards: the part of Markdown that they use, made into elements. HTML in a card stays text, images are not loaded.

const FENCE = /^\s*(```+|~~~+)\s*(\S*)/;
const ITEM = /^(\s*)(?:[-*+]|(\d+)[.)])\s+(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const BLOCK = /^\s*(<!--|```|~~~|#{1,6}\s|>|\||[-*+]\s|\d+[.)]\s)/;

function markdown(text) {
  const source = text.split(/\r?\n/);
  const box = document.createDocumentFragment();
  while (source.length) {
    const block = readBlock(source);
    if (block) box.append(block);
  }
  return box;
}

function readBlock(source) {
  const line = source[0];
  if (!line.trim()) return void source.shift();
  if (FENCE.test(line)) return readFence(source);
  if (/^\s*<!--/.test(line)) return void skipComment(source);
  const heading = /^\s*(#{1,6})\s+(.*?)\s*#*$/.exec(line);
  if (heading) {
    source.shift();
    return make(`h${Math.min(6, heading[1].length + 2)}`, {}, ...inline(heading[2]));
  }
  if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
    source.shift();
    return make("hr");
  }
  if (/^\s*>/.test(line)) {
    const quoted = takeWhile(source, (next) => /^\s*>/.test(next)).map((next) => next.replace(/^\s*> ?/, ""));
    return make("blockquote", {}, markdown(quoted.join("\n")));
  }
  if (line.includes("|") && TABLE_RULE.test(source[1] ?? "")) return readTable(source);
  if (ITEM.test(line)) return readList(source);
  const first = source.shift();
  const rest = takeWhile(source, (next) => next.trim() && !BLOCK.test(next));
  return make("p", {}, ...inline([first, ...rest].map((part) => part.trim()).join("\n")));
}

function takeWhile(source, wanted) {
  const end = source.findIndex((line) => !wanted(line));
  return source.splice(0, end < 0 ? source.length : end);
}

function skipComment(source) {
  takeWhile(source, (line) => !line.includes("-->"));
  source.shift();
}

function readFence(source) {
  const [, mark] = FENCE.exec(source.shift());
  const code = takeWhile(source, (line) => !line.trim().startsWith(mark));
  source.shift();
  return make("pre", { tabIndex: 0 }, make("code", {}, code.join("\n")));
}

function readList(source) {
  const [, indent, number] = ITEM.exec(source[0]);
  const list = make(number ? "ol" : "ul");
  if (number) list.start = Number(number);
  const deeper = (line) => !line.trim() || line.search(/\S/) > indent.length;
  while (source.length) {
    const item = ITEM.exec(source[0]);
    if (!item || item[1].length !== indent.length || Boolean(item[2]) !== Boolean(number)) break;
    source.shift();
    const wrapped = takeWhile(source, (line) => line.trim() && !BLOCK.test(line)).map((line) => line.trim());
    const nested = takeWhile(source, deeper);
    list.append(make("li", {}, ...inline([item[3], ...wrapped].join("\n")), markdown(dedent(nested).join("\n"))));
  }
  return list;
}

function dedent(block) {
  const depths = block.filter((line) => line.trim()).map((line) => line.search(/\S/));
  const least = depths.length ? Math.min(...depths) : 0;
  return block.map((line) => line.slice(least));
}

function readTable(source) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, "|"));
  const row = (tag) => (line) => make("tr", {}, ...cells(line).map((cell) => make(tag, {}, ...inline(cell))));
  const head = row("th")(source.shift());
  source.shift();
  const body = takeWhile(source, (line) => line.includes("|")).map(row("td"));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { className: "scroll", tabIndex: 0 }, table);
}

const INLINE =
  /(?<ticks>`+)(?<code>.+?)\k<ticks>|!\[(?<alt>[^\]]*)\]\((?:[^()]|\([^()]*\))*\)|\[(?<label>[^\]]+)\]\((?<target>(?:[^()\s]|\([^()\s]*\))+)[^)]*\)|<(?<bare>https?:\/\/[^\s>]+)>|\*\*(?<bold>.+?)\*\*|(?<![\w*])[*_](?<italic>[^\s*_](?:[^*_]*[^\s*_])?)[*_](?![\w*])/gs;

function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(end, match.index), inlineNode(match.groups));
    end = match.index + match[0].length;
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}

function inlineNode({ code, alt, label, target, bare, bold, italic }) {
  if (code !== undefined) return make("code", {}, code);
  if (alt !== undefined) return alt;
  if (bare !== undefined) return link(bare, [bare]);
  if (label !== undefined) return link(target, inline(label));
  return bold !== undefined ? make("strong", {}, ...inline(bold)) : make("em", {}, ...inline(italic));
}

function link(target, content) {
  if (!/^(https?:|mailto:)/i.test(target)) return make("span", {}, ...content);
  return make("a", { href: target, target: "_blank", rel: "noopener noreferrer nofollow" }, ...content);
}
