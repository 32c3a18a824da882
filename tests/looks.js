// What the tests in a browser ask a page; `looks(name)` of test_browser.py gives one of these functions.

const seen = (e) => e.getClientRects().length > 0;
const all = (css, root = document) => [...root.querySelectorAll(css)];
const style = (e) => getComputedStyle(e);
const shared = (low, high, from, to) => Math.min(high, to) - Math.max(low, from);

/** Texts of one panel that lie on each other by more than 3 pixels, and texts that leave their panel. */
function overlaps(explorer) {
  return all(".ncib-panel", explorer).flatMap((panel) => {
    const own = panel.getBoundingClientRect(), box = panel.querySelector(".ncib-box").getBoundingClientRect();
    const texts = all(".ncib-axes text", panel).filter((t) => t.textContent)
      .map((t) => [t.textContent, t.getBoundingClientRect()]);
    const beside = (r) => r.left < own.left - 2 || r.right > own.right + 2;
    const beyond = (r) => r.top < box.top - 2 || r.bottom > box.bottom + 2;
    const out = texts.filter(([, r]) => beside(r) || beyond(r)).map(([t]) => `outside: ${t}`);
    const meet = (a, b) => shared(a.left, a.right, b.left, b.right) > 3 && shared(a.top, a.bottom, b.top, b.bottom) > 3;
    texts.forEach(([t, a], i) => {
      for (const [u, b] of texts.slice(0, i)) if (meet(a, b)) out.push(`${t} on ${u}`);
    });
    return out;
  });
}

/** Of every panel of an explorer that is made narrower: the scales of its SVG, how much of its box the canvas covers. */
function scales() {
  document.querySelector(".ncib").style.width = "620px";
  return all(".ncib-panel").map((panel) => {
    const svg = panel.querySelector("svg"), canvas = panel.querySelector("canvas"), drawn = svg.viewBox.baseVal;
    const box = panel.querySelector(".ncib-box").getBoundingClientRect(), { a, d } = svg.getScreenCTM();
    const own = canvas ? canvas.getBoundingClientRect() : box;
    return [a * drawn.width / box.width, d * drawn.height / box.height, own.width / box.width, own.height / box.height];
  });
}

/** Controls that are too low for a finger: tag, text, pixels. */
function tooSmall() {
  const controls =
    "button, select, summary, input:not([type=radio]), .ncib-choice label, .switch label, .open, .terms a";
  return all(controls).filter(seen)
    .map((e) => [e.tagName, e.textContent.slice(0, 20), e.getBoundingClientRect().height])
    .filter(([, , height]) => height < 43.5);
}

/** Stroke, fill and opacity of every line and mark of an explorer. */
function lines() {
  const kinds = ["line", "cursor", "chance", "when", "edge", "corner-line", "mark", "mode", "ideal"];
  return all(`.ncib svg :is(${kinds.map((kind) => `.ncib-${kind}`).join(", ")})`).map((e) => {
    const { stroke, fill, opacity, strokeOpacity } = style(e);
    return [stroke, fill, opacity * strokeOpacity];
  });
}

/** The name that a screen reader says. */
function nameOf(e) {
  const labels = e.labels && [...e.labels].map((l) => l.textContent).join(" ").trim();
  return e.getAttribute("aria-label") || labels || e.getAttribute("alt") || e.textContent.trim() || e.title;
}

/** What stands in the way of a keyboard or a screen reader, in words. */
function barriers() {
  const out = [], controls = "a[href]:not([aria-hidden]), button, select, input, summary, img";
  const roles = ["slider", "img", "region", "group", "radiogroup"].map((role) => `[role=${role}]`).join(", ");
  for (const e of all(`${controls}, ${roles}`)) {
    if (seen(e) && !nameOf(e)) out.push("no name: " + e.outerHTML.slice(0, 90));
  }
  for (const e of all("[aria-hidden=true]")) {
    const reached = e.matches("a, button, input, select") && e.tabIndex >= 0;
    if (seen(e) && reached) out.push("hidden but reached: " + e.outerHTML.slice(0, 90));
  }
  let level = 0;
  for (const e of all("h1, h2, h3, h4")) {
    const now = +e.tagName[1];
    if (now > level + 1) out.push("skips a level: " + e.textContent);
    level = now;
  }
  const one = all("h1").length === 1 && all("main").length === 1 && document.documentElement.lang;
  if (!one) out.push("no single h1, main or language");
  const ids = all("[id]").map((e) => e.id);
  if (new Set(ids).size !== ids.length) out.push("an id twice");
  for (const e of all("*")) {
    const scrolls = e.scrollWidth > e.clientWidth + 2 && ["auto", "scroll"].includes(style(e).overflowX);
    const reached = e.tabIndex >= 0 || e.querySelector("a, button, select, input");
    if (seen(e) && scrolls && !reached) out.push("scrolls, but not by keyboard: " + e.className);
  }
  return out;
}

/** Colour, ground and beginning of every text of the page that is seen. */
function written() {
  const silent = "svg, :disabled, .unseen, .ncib-choice input:disabled + span";
  const speaks = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  return all("main *").filter((e) => seen(e) && !e.closest(silent) && speaks(e)).map((e) => {
    let on = e, ground = "rgba(0, 0, 0, 0)";
    while (on && (ground = style(on).backgroundColor).endsWith(", 0)")) on = on.parentElement;
    return [style(e).color, ground, e.textContent.trim().slice(0, 40)];
  });
}

// ---- JupyterLab

const notebook = () => window.jupyterapp.shell.currentWidget.content;

/** Scrolls the cell of the first explorer into view: JupyterLab takes cells that are out of sight off the page. */
async function showExplorer() {
  const i = notebook().widgets.findIndex((c) => c.model.sharedModel.source.startsWith("explorer ="));
  notebook().activeCellIndex = i;
  await notebook().scrollToItem(i, "start");
}

/** Scrolls an explorer's pictures up: where its head is then, and how high; where it is itself; the head's ground. */
function headInSight() {
  const root = all(".ncib").find(seen), outer = root.closest(".jp-WindowedPanel-outer");
  const top = (e) => e.getBoundingClientRect().top;
  outer.scrollTop += top(root.querySelector(".ncib-grid-of-panels")) - top(outer) + 250;
  const head = root.querySelector(".ncib-head"), { height } = head.getBoundingClientRect();
  return [top(head) - top(outer), height, top(root) - top(outer), style(head).backgroundColor];
}

/** Runs source in a new last cell. */
async function runCell(source) {
  const book = notebook(), { commands } = window.jupyterapp;
  book.activeCellIndex = book.widgets.length - 1;
  await commands.execute("notebook:insert-cell-below");
  book.activeCell.model.sharedModel.setSource(source);
  commands.execute("notebook:run-cell");
}
