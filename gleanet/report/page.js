// What the page can do beyond being read: tables that sort and filter, marks that say what they are, code to copy.
// Without it everything is there, in the order of the file.
"use strict";

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---- sorting ----

function keyOf(row, column) {
  const cell = row.cells[column];
  const key = cell.dataset.key;
  return key === undefined ? cell.textContent.trim() : Number(key);
}

// Numbers before words, dashes last, whichever way it is sorted.
function compare(one, other, column, down) {
  const a = keyOf(one, column), b = keyOf(other, column);
  const rank = key => typeof key === "number" ? 0 : key === "–" ? 2 : 1;
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return down ? -order : order;
}

function sortBy(table, column, down) {
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((one, other) => compare(one, other, column, down)));
  [...table.tHead.rows[0].cells].forEach((cell, place) => {
    if (place === column) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = element("button", { type: "button", className: "sort" });
    button.append(...cell.childNodes);
    button.addEventListener("click", () => sortBy(table, column, cell.getAttribute("aria-sort") === "ascending"));
    cell.append(button);
  });
}

// ---- filtering ----

let tools = 0;

function labelled(text, control) {
  control.id = `tool${++tools}`;
  return element("span", { className: "tool" }, element("label", { htmlFor: control.id, textContent: text }), control);
}

function options(pairs) {
  return pairs.map(([value, text]) => element("option", { value, textContent: text }));
}

function makeFilterable(table) {
  const rows = [...table.tBodies[0].rows], rest = rows.filter(row => "rest" in row.dataset);
  if (rows.length < 9) return;
  const tags = new Map();
  for (const row of rows) if (row.dataset.tag) tags.set(row.dataset.tag, (tags.get(row.dataset.tag) || 0) + 1);
  const words = element("input", { type: "search", autocomplete: "off", spellcheck: false });
  const tag = element("select", {}, ...options([["", "all"], ...[...tags].map(([name, count]) => [name, `${name} (${count})`])]));
  const names = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
  const order = element("select", {}, ...options([["", "as it is"], ...names.flatMap((name, i) => [[`${i} up`, `${name} ↑`], [`${i} down`, `${name} ↓`]])]));
  const all = element("button", { type: "button", className: "all" });
  const count = element("p", { className: "count" });
  count.setAttribute("role", "status");
  let whole = rest.length === 0;

  function show() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean), searching = wanted.length > 0 || tag.value !== "";
    let shown = 0;
    for (const row of rows) {
      const text = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase(); // its name and its verdict: reasons name others
      const fits = wanted.every(word => text.includes(word)) && (!tag.value || row.dataset.tag === tag.value);
      row.hidden = !(fits && (searching || whole || !("rest" in row.dataset)));
      shown += !row.hidden;
    }
    all.textContent = whole ? "Show fewer" : `Show all ${rows.length}`;
    all.hidden = rest.length === 0 || searching;
    const why = !searching && !whole ? ", those that matter most" : "";
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows${why}`;
  }

  words.addEventListener("input", show);
  tag.addEventListener("change", show);
  all.addEventListener("click", () => { whole = !whole; show(); });
  order.addEventListener("change", () => {
    const [column, way] = order.value.split(" ");
    if (order.value) sortBy(table, Number(column), way === "down");
  });
  const bar = element("div", { className: "tools" }, labelled("Filter", words));
  if (tags.size > 1) bar.append(labelled("Verdict", tag));
  const narrow = labelled("Sort by", order);
  narrow.classList.add("narrow-only");
  bar.append(narrow, all, count);
  (table.closest(".scroll") || table).before(bar);
  show();
}

// ---- marks that say what they are ----

const tip = element("div", { className: "tip-box", hidden: true });
tip.setAttribute("role", "status");
let said = null;

function say(mark) {
  if (said) said.classList.remove("said");
  said = mark;
  tip.hidden = !mark;
  if (!mark) return;
  mark.classList.add("said");
  const [name, ...lines] = mark.tip.split("\n");
  tip.replaceChildren(element("b", { textContent: name }), ...lines.map(line => element("span", { textContent: line })));
  const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect(), width = document.documentElement.clientWidth;
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), width - own.width - 8);
  const above = box.top - own.height - 10;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 4 ? above : box.bottom + 10) + scrollY}px`;
}

function makeSpeak(chart) {
  const marks = [...chart.querySelectorAll(".tip")];
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.tip = title.textContent;
    title.remove(); // the browser would show it as well
    mark.addEventListener("pointerenter", () => say(mark));
    mark.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") say(null); });
  }
  if (!marks.length) return;
  chart.tabIndex = 0;
  chart.setAttribute("aria-label", `${chart.getAttribute("aria-label")} The arrow keys step through the marks.`);
  chart.addEventListener("blur", () => say(null));
  chart.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") say(null);
    if (!step) return;
    event.preventDefault();
    const seen = marks.filter(mark => mark.getClientRects().length).sort((one, other) =>
      one.getBoundingClientRect().left - other.getBoundingClientRect().left || one.getBoundingClientRect().top - other.getBoundingClientRect().top);
    const place = seen.indexOf(said);
    say(seen[place < 0 ? (step > 0 ? 0 : seen.length - 1) : (place + step + seen.length) % seen.length]);
  });
}

// ---- code to copy ----

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch { // not allowed here: leave it selected
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function makeCopyable(block) {
  const button = element("button", { type: "button", className: "copy", textContent: "Copy" });
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", () => copy(block.querySelector("code"), button));
  const frame = element("div", { className: "frame" });
  block.replaceWith(frame);
  frame.append(block, button);
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("table.filterable").forEach(makeFilterable);
document.querySelectorAll(".chart").forEach(makeSpeak);
document.querySelectorAll("pre.code").forEach(makeCopyable);
document.body.append(tip);
document.addEventListener("keydown", event => { if (event.key === "Escape") say(null); });
document.addEventListener("pointerdown", event => { if (!event.target.closest(".tip")) say(null); });
