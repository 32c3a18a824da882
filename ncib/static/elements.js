// HTML and SVG elements.

const CONTROLS = ["input", "select", "button", "summary"];

/** An HTML element. Attributes that begin with "on" are listeners; undefined and false ones are left out. */
export function h(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) e.setAttribute(name, value === true ? "" : value);
  }
  if (CONTROLS.includes(tag)) e.setAttribute("data-lm-suppress-shortcuts", "true"); // else JupyterLab takes the keys
  e.append(...children.filter((c) => c !== null));
  return e;
}

/** Gives the reader a file. */
export function download(name, blob) {
  const a = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(a);
  a.click();
  a.remove();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

/** Sets attributes of a selection of D3; null takes one away. */
export function set(selection, attributes) {
  for (const [name, value] of Object.entries(attributes)) selection.attr(name, value);
  return selection;
}

/** Shows or hides a selection of D3. */
export const show = (selection, there) => selection.attr("visibility", there ? null : "hidden");

/** A new SVG element in `parent`, a selection. */
export const draw = (parent, tag, attributes = {}) => set(parent.append(tag), attributes);

/** A new piece of text in an SVG. */
export const write = (parent, text, attributes = {}) => draw(parent, "text", attributes).text(text);

/** A new line in an SVG, of a class of the style sheet. */
export const stroke = (parent, kind, ends = {}) => draw(parent, "line", { class: kind, ...ends });
