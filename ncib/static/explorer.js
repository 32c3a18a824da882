// Draws explorers. All data is in the page: stepping needs no kernel.
import { Checkpoints } from "./checkpoints.js";
import { Page } from "./data.js";
import { h } from "./elements.js";
import { Sweep } from "./sweep.js";

const KINDS = { checkpoints: Checkpoints, sweep: Sweep };

/** An explorer of the model's kind in an element, or a sentence that says why there is none. */
function mount(model, el) {
  try {
    return new KINDS[model.get("kind")](model, el);
  } catch (e) {
    const words = `The explorer could not be drawn: ${e.message}`;
    el.replaceChildren(h("p", { class: "ncib ncib-error", role: "alert" }, words));
    console.error(e);
    return { dispose() {} };
  }
}

/** Bytes from base64 of gzip. */
async function decompressed(text) {
  const packed = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** An explorer on a page without a kernel. It and the page's own switch of layers, if there is one, move together. */
export async function mountPage(el, state, data) {
  for (const [key, text] of Object.entries(data)) state[key] = await decompressed(text);
  const page = new Page(state), app = mount(page, el);
  for (const radio of document.querySelectorAll("input[type=radio][name=layer]")) {
    radio.addEventListener("change", () => page.set("layer", radio.value));
    page.on("change:layer", () => radio.checked = radio.value === page.get("layer"));
    if (radio.checked) page.set("layer", radio.value);
  }
  return app;
}

/** What anywidget calls in a notebook. */
function render({ model, el }) {
  const app = mount(model, el);
  return () => app.dispose();
}

export default { render };
