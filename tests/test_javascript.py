"The modules of the script, each by itself, in headless Chromium (skipped where there is none)."
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ncib.explore import CheckpointExplorer
from ncib.pages import joined_modules, pack_arrays, static_json, static_text
from ncib.plots import place_labels
from test_browser import ARGUMENTS, CHROMIUM, sync_api

STATIC = Path(__file__).resolve().parents[1]/"ncib/static"
MODULES = sorted(f.name for f in STATIC.glob("*.js") if f.name != "d3.js")


# ---------------------------------------------------------------- without a browser

@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_one_concern(name):
    "A sentence at the top, at most 300 lines of at most 120 columns, and an import for every name from elsewhere."
    text = static_text(name)
    assert text.startswith("// ") and len(text.splitlines()) <= 300 and max(map(len, text.splitlines())) <= 120
    assert not re.search(r"https?://", text)
    assert ("d3." in text) == ('import "./d3.js"' in text)


def test_names_are_unique():
    "Modules are joined into one text: no name stands twice at its top."
    found = Counter(n for name in MODULES
                    for n in re.findall(r"^(?:export )?(?:async )?(?:const|let|function|class) (\w+)",
                                        static_text(name), re.M))
    assert max(found.values()) == 1


def test_every_module_is_used():
    text = joined_modules()
    assert not re.search(r"^import ", text, re.M) and len(re.findall(r"^export ", text, re.M)) == 2
    for name in MODULES: assert static_text(name).splitlines()[0] in text, name


@pytest.mark.parametrize("name", ["glossary.json", "schema.json"])
def test_data_is_data(name):
    "JSON is joined as a constant, and holds what ends no script."
    assert f"const {name[:-5]} = " in joined_modules() and "</" not in static_text(name) and static_json(name)


# ---------------------------------------------------------------- in a browser

@pytest.fixture(scope="module")
def page():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        page = browser.new_context(viewport={"width": 800, "height": 600}, offline=True).new_page()
        page.set_default_timeout(120_000)
        yield page
        browser.close()


@pytest.fixture
def run(page):
    "Calls a function of JavaScript with a module, joined with what it imports, and arguments."
    def run(name, function, *given):
        page.set_content("<main></main>")
        return page.evaluate("""async ([source, body, given]) => {
            const address = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
            return await eval(`(${body})`)(await import(address), ...given); }""",
                             [joined_modules(name), function, list(given)])
    return run


@pytest.mark.parametrize("name", MODULES)
def test_stands_alone(run, name):
    "Every module loads with nothing but what it says that it imports."
    assert run(name, "(m) => Object.keys(m).length") >= 1


def test_data(run):
    packed = pack_arrays([({"epochs": [0, 2]}, {"x": np.arange(12.).reshape(2, 6), "labels": np.array([0, 300])})])
    out = run("data.js", """(m, bytes) => { const [{info, arrays}] = m.unpack(new Uint8Array(bytes));
        return {info, second: [...m.at(arrays.x, 1)], labels: [...arrays.labels.values], shape: arrays.x.shape}; }""",
              list(packed))
    assert out == {"info": {"epochs": [0, 2]}, "second": [6, 7, 8, 9, 10, 11], "labels": [0, 300], "shape": [2, 6]}
    scaled = run("data.js", "(m, bytes) => [...m.unpack(new Uint8Array(bytes))[0].arrays.x.values]",
                 list(pack_arrays([({}, {"x": np.linspace(-1, 1, 600)})])))
    assert np.allclose(scaled, np.linspace(-1, 1, 600), atol=2/65534)
    assert run("data.js", """(m) => [m.nearest([0, 4, 9], 7), m.nearest([0, 2], 1), m.lastUpTo([0, 4, 9], 8),
        m.lastUpTo([3, 4], 1), m.finite([1, NaN, Infinity, -2]), m.positive(null), m.positive(.1)]""") == [
            2, 0, 1, 0, [1, -2], False, True]
    assert run("data.js", """(m) => [m.keyOf("points", {view: "chosen/", part: "test", side: "a"}),
        m.columnOf("accuracy", {side: "b"})]""") == ["chosen/test/a/points", "test_accuracy_b"]
    assert run("data.js", """(m) => m.csv([["a", null, 'say "x"'], [1, "two, three", undefined]])""") == (
        'a,,"say ""x"""\r\n1,"two, three",\r\n')


def test_page_stands_for_a_kernel(run):
    assert run("data.js", """(m) => { const page = new m.Page({epoch: 1}), seen = [];
        page.on("change:epoch", () => seen.push(page.get("epoch")));
        page.set("epoch", 3); page.set("epoch", 3); page.off(); page.set("epoch", 4);
        return seen; }""") == [3]


def test_words(run):
    told = """(m) => [m.number(.000123456), m.number(-2), m.number(Infinity), m.number(null), m.number(NaN),
        m.percent(.1234), m.percent(undefined)]"""
    assert run("words.js", told) == ["0.000123", "−2", "∞", "none", "none", "12.3 %", "none"]
    out = run("words.js", """(m) => { const p = document.createElement("p");
        p.append(...m.explained("9 transitions, gap behind mode 9, modeless twins, NC1, NC12"));
        return [p.textContent, [...p.querySelectorAll("abbr")].map((a) => [a.textContent, a.title])]; }""")
    terms = {t["term"]: t["sentence"] for t in static_json("glossary.json")}
    assert out == ["9 transitions, gap behind mode 9, modeless twins, NC1, NC12",
                   [["transitions", terms["Transitions"]], ["gap behind mode 9", terms["Gap"]], ["NC1", terms["NC1"]]]]


@pytest.mark.parametrize("spread", [60, 12])
def test_names_are_placed_as_in_the_package(run, spread):
    g, box = np.random.default_rng(1), [0, 0, 300, 300]
    points, sizes = 150 + spread*g.normal(size=(12, 2)), np.c_[g.uniform(7, 40, 12), np.full(12, 14.)]
    theirs = run("placing.js", "(m, ...given) => m.placeLabels(...given).map((p) => [p.x, p.y, +p.led])",
                 points.tolist(), sizes.tolist(), box, 6)
    centres, led = place_labels(points.tolist(), sizes.tolist(), box, 6)
    assert np.allclose(np.array(theirs), np.c_[centres, led], atol=1e-6)


def test_marks(run):
    out = run("marks.js", """(m) => ({colours: m.COLOURS, blues: [m.BLUES[0], m.BLUES[255]], purple: m.PUOR[0].length,
        again: m.sprite(3, 2) === m.sprite(31, 2), size: m.sprite(3, 2).width, circle: m.dot(5, 5, 1)})""")
    assert out == {"colours": list(static_json("schema.json")["colours"].values()), "purple": 3, "again": True,
                   "blues": [[255, 255, 255], [0, 114, 178]], "size": 16, "circle": "M4,5a1,1 0 1,0 2,0a1,1 0 1,0 -2,0"}


def test_elements(run):
    out = run("elements.js", """(m) => { let clicked = 0;
        const b = m.h("button", {title: "t", disabled: false, hidden: true, onclick: () => clicked++}, "x", null, "y");
        b.click();
        return [b.outerHTML, clicked]; }""")
    assert out == ['<button title="t" hidden="" data-lm-suppress-shortcuts="true">xy</button>', 1]


def test_controls(run):
    "A list, a switch and a slider show a value of the model and set it."
    out = run("controls.js", """(m) => { const state = {view: "b", layer: "head", layers: ["backbone", "head"],
            epoch: 4};
        const handlers = [], model = {get: (k) => state[k], on: (k, f) => handlers.push([k, f]), off() {},
            save_changes() {}, set(k, v) { state[k] = v; handlers.forEach(([n, f]) => n === "change:" + k && f()); }};
        const c = new m.Controls(model);
        const list = c.select("show", "view", [["a", "A"], ["b", "B"], ["c", "C", false]], "What is seen.");
        c.layers(() => true);
        document.querySelector("main").append(c.controls);
        const slider = c.slider("epoch", "epoch", () => [0, 4, 9], (e) => `epoch ${e}`);
        const radios = [...c.controls.querySelectorAll("input")];
        const before = [list.value, radios.map((r) => r.checked)];
        list.value = "a"; list.dispatchEvent(new Event("change"));
        radios[0].click(); slider.step(1); slider.step(1);
        return [before, state.view, state.layer, state.epoch, slider.out.textContent, slider.position(), list.title,
            list.options[2].disabled, c.held("features"), c.meaning.textContent.startsWith("showWhat is seen.")]; }""")
    assert out == [["b", [False, True]], "a", "backbone", 9, "epoch 9", 2,
                   "What is seen. Grey: not on this page, but in JupyterLab.", True, "features_0", True]


def test_panel(run):
    "A panel takes the place there is, has axes, and is steered by keys."
    out = run("panel.js", """(m) => { const app = {tip() {}}, p = new m.Panel(app, "Title", {canvas: true}), went = [];
        document.querySelector("main").append(p.element);
        p.steer({now: () => 3, last: () => 9, go: (i) => went.push(i), text: () => "mode 4"});
        const drawn = p.size(400), narrow = p.size(40);
        p.size(400); p.squareAxes(2, "unit"); p.describe("words");
        const svg = p.element.querySelector("svg");
        for (const key of ["ArrowRight", "ArrowDown", "PageUp", "Home", "End", "x"])
            svg.dispatchEvent(new KeyboardEvent("keydown", {key}));
        return [drawn, narrow, p.h, p.x(0) === (p.x0 + p.x1) / 2, svg.querySelectorAll(".ncib-axes").length, went,
            svg.getAttribute("aria-valuetext"), svg.getAttribute("aria-label"), p.canvas.width]; }""")
    assert out == [True, False, 248, True, 1, [4, 2, 4, 0, 9], "mode 4", "words", 400]


def test_scales(run):
    out = run("scales.js", """(m) => { const x = m.epochScale(100, 0, 200);
        return [x(0), x(100), m.epochTicks([0, 1, 2, 3, 4, 5, 10, 20, 50, 90, 100], x)]; }""")
    assert out[:2] == [0, 200] and out[2][0] == 0 and len(out[2]) < 11
    places = [200*np.log1p(e)/np.log1p(100) for e in out[2]]
    assert np.diff(places).min() > 26


def test_an_explorer_that_cannot_be_drawn_says_so(run):
    out = run("explorer.js", """(m) => { const el = document.querySelector("main");
        m.default.render({model: {get: (k) => k === "kind" ? "nonsense" : undefined, on() {}}, el})();
        return el.textContent; }""")
    assert out.startswith("The explorer could not be drawn")
    out = run("explorer.js", """async (m) => { const el = document.querySelector("main");
        await m.mountPage(el, {kind: "sweep", error: "Wrong input."}, {}); return el.textContent; }""")
    assert out == "Wrong input."


def test_superclasses_are_shown(page, tmp_path, short_pair):
    "Matrix and modes are of the two groups that were given; what is said of them is what the classes give."
    groups = ["small"]*4 + ["large"]*6
    explorer = CheckpointExplorer(*short_pair, superclasses=groups, progress=False)
    page.goto(explorer.save_html(tmp_path/"page.html", limit=50).as_uri())
    page.get_by_text("Superclasses separated by").wait_for()
    frames, = explorer._load(explorer.layer, False)
    c, of = frames.cosines["test", "a"][-1].numpy(), np.array([g == "large" for g in groups])
    same, other = (of[:, None] == of) & ~np.eye(10, dtype=bool), of[:, None] != of
    told = re.search(r"within a superclass (\S+), between superclasses (\S+); ideal −1/\(K−1\) = (\S+)\.",
                     page.locator("body").inner_text().replace("\n", " "))
    assert [float(v.replace("−", "-")) for v in told.groups()] == pytest.approx(
        [c[same].mean(), c[other].mean(), -1/9], abs=2e-3)
    assert page.locator("line.ncib-span").count() == 2
    means = frames.modes["test", "a", "twin"].mode_means[-1, 0].numpy()
    spread = [means[of == g].std() for g in (False, True)]
    inside = max(spread) > max(abs(means[of == g].mean()) for g in (False, True))
    words = f"within {['small', 'large'][int(np.argmax(spread))]}" if inside else "from"
    assert page.get_by_text(re.compile(f"Mode 1 separates .*{words}")).count() == 1
