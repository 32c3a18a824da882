"""The report and the explorers as people read them: on paper, on a phone, in the dark, by keyboard and by ear; in
headless Chromium (skipped where there is none)."""
import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest

from ncib.explore import BetaSweep, CheckpointExplorer, compare
from ncib.report import write_report
from test_browser import ARGUMENTS, CHROMIUM, looks, picture, sync_api
from test_figures import contrast, mixed, overlap

PAPER, PAGE = 703, 1032 # A4 within margins of 12 mm, in pixels


@pytest.fixture(scope="module")
def files(short_pair, short_timeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    explorers = {"checkpoints": CheckpointExplorer(*short_pair, progress=False),
                 "compared": compare(short_pair, short_pair[::-1], names=["one", "other"], progress=False),
                 "beta": BetaSweep(short_pair, progress=False)}
    return {"report": write_report(short_timeline, folder/"report.html")} | {name: e.save_html(folder/f"{name}.html")
                                                                             for name, e in explorers.items()}


@pytest.fixture(scope="module")
def desk():
    "One browser, with one page for a mouse and one for fingers."
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        size = {"viewport": {"width": 1200, "height": 800}, "offline": True}
        yield {"mouse": browser.new_context(**size).new_page(),
               "touch": browser.new_context(**size | {"viewport": {"width": 390, "height": 800}}, has_touch=True,
                                            is_mobile=True).new_page()}
        browser.close()


@pytest.fixture
def show(desk, files):
    "Opens a file and waits until its explorer is drawn."
    def open_file(name, width=1200, scheme="light", media="screen", by="mouse"):
        page = desk[by]
        page.emulate_media(media=media, color_scheme=scheme)
        if by == "mouse": page.set_viewport_size({"width": width, "height": 800})
        page.goto("about:blank"); page.goto(files[name].resolve().as_uri())
        page.locator(".ncib .ncib-box svg > *").first.wait_for(state="attached")
        return page
    return open_file


# ---------------------------------------------------------------- paper

def test_report_on_paper(show):
    """Nothing is cut off, controls stay on the screen, headings keep what they head, and the first page is the findings
    and the central figure."""
    page = show("report", PAPER, "dark", "print")
    wide = page.evaluate("[...document.querySelectorAll('img, svg, canvas, table, figcaption, .ncib-note')].filter(e "
                         "=> e.getClientRects().length).map(e => [e.tagName, "
                         "e.getBoundingClientRect().right]).filter(([, r]) => r > innerWidth + .5)")
    assert not wide
    assert not page.locator(":is(button, select, input, fieldset, summary, .open, .close, .cue):visible").count()
    assert page.locator(".central .which").first.inner_text() == "Layer: backbone"
    ends = page.locator(".central").evaluate("e => e.getBoundingClientRect().bottom + scrollY")
    assert page.locator(".verdict").evaluate("e => e.getBoundingClientRect().bottom + scrollY") < ends <= PAGE
    styles = lambda css, name: set(page.evaluate("([css, name]) => [...document.querySelectorAll(css)].map(e => "
                                                 "getComputedStyle(e)[name])", [css, name]))
    assert (styles("h1, h2, h3, dt", "breakAfter") == {"avoid"}
            and styles(".pictured, .ncib-panel, tr, .verdict li", "breakInside") == {"avoid"})
    # ink on paper, whatever the screen
    assert page.evaluate("[getComputedStyle(document.documentElement).color, "
                         "getComputedStyle(document.querySelector('.ncib')).color]") == ["rgb(27, 27, 27)"]*2


@pytest.mark.parametrize("name", ["checkpoints", "beta"])
def test_pictures_shrink_as_a_whole(show, name):
    "At another width than the one they were drawn for, as on paper, canvas and SVG of every panel have one scale."
    page = show(name)
    ratios = page.evaluate(looks("scales"))
    assert len(ratios) >= 4 and np.abs(np.array(ratios) - 1).max() < .01


# ---------------------------------------------------------------- phone and dark

def test_phone(show):
    "Legible figures that scroll with a cue and open in the whole window, tables with a cue, controls for fingers."
    page = show("report", by="touch")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    places = page.evaluate("[...document.querySelectorAll('.scroll')].filter(e => e.getClientRects().length).map(e => "
                           "[e.scrollWidth > e.clientWidth + 1, getComputedStyle(e.querySelector('.cue')).display, "
                           "e.tabIndex, getComputedStyle(e).backgroundImage.split('gradient').length - 1])")
    assert (len(places) == 8 + 2 and all(display == "block" for wide, display, *_ in places if wide)
            and any(wide for wide, *_ in places) and {(tab, shadows) for _, _, tab, shadows in places} == {(0, 4)})
    # pixels for a point of the drawing
    points = page.evaluate("[...document.images].filter(i => i.getClientRects().length).map(i => "
                           "i.getBoundingClientRect().width / (i.naturalWidth * .75))")
    assert min(points)*6.94 > 9                                                 # the smallest text
    assert not page.evaluate(looks("tooSmall"))
    first = page.locator(".central .picture").first
    first.locator(".cover").tap(position={"x": 60, "y": 60})
    box = first.bounding_box()
    assert (box["x"], box["y"], box["width"],
            box["height"]) == (0, 0, 390, 800) and first.locator("img").bounding_box()["width"] > 1100
    first.get_by_text("Close").tap()
    assert first.bounding_box()["width"] < 390 and page.locator(".picture:target").count() == 0


def pixels(page, locator):
    import io

    from PIL import Image
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("L"))


def test_dark_pictures_are_dark(show):
    "No white card: every figure of the report has the page's ground."
    for scheme in ("dark", "light"):
        page = show("report", 800, scheme)
        for image in page.locator("img:visible").all()[:3]:
            assert (np.median(pixels(page, image)) < 40) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["checkpoints", "beta"])
def test_lines_of_explorers_stand_out(show, name, scheme):
    page = show(name, scheme=scheme)
    found = page.evaluate(looks("lines"))
    hex = lambda v: "#" + "".join(f"{int(c):02x}" for c in re.findall(r"\d+", v)[:3])
    ground = hex(page.evaluate("getComputedStyle(document.querySelector('.ncib-head')).backgroundColor"))
    for stroke, fill, opacity in found:
        assert max(contrast(mixed(hex(v), ground, opacity), ground) for v in (stroke, fill)
                   if v.startswith("rgb")) >= 3, (stroke, fill, opacity)
    assert (len(found) > 10 and contrast(ground, "#ffffff") < 1.01 if scheme == "light"
            else contrast(ground, "#121212") < 1.1)


# ---------------------------------------------------------------- in sight

@pytest.mark.parametrize("name, by", [("checkpoints", "mouse"), ("compared", "mouse"), ("beta", "mouse"),
                                      ("report", "mouse"), ("compared", "touch"), ("report", "touch")])
def test_controls_stay_in_sight(show, name, by):
    """In a window of 800 pixels, with the last picture in view: slider, controls and status line are there, cover
    nothing of each other and leave most of the window."""
    page = show(name, by=by)
    page.locator(".ncib-panel").last.evaluate("e => e.scrollIntoView({block: 'end'})")
    head = page.locator(".ncib-head").bounding_box()
    switch = page.locator(".switch").bounding_box() if name == "report" else None
    assert (abs(head["y"] - (switch["y"] + switch["height"] if switch else 0)) < 2
            and head["y"] + head["height"] < (300 if by == "mouse" else 400))
    for part in (".ncib-slider input", ".ncib-slider output", ".ncib-said", ".ncib-controls select"):
        box = page.locator(part).first.bounding_box()
        assert head["y"] - 1 <= box["y"] and box["y"] + box["height"] <= head["y"] + head["height"] + 1, part
        assert page.locator(part).first.evaluate("e => { const r = e.getBoundingClientRect(); return "
                                                 "e.contains(document.elementFromPoint(r.x + 5, r.y + r.height / 2)); "
                                                 "}"), part


# ---------------------------------------------------------------- words

def test_words_of_the_report(show, short_timeline):
    page = show("report")
    text = page.locator("main").inner_text()
    runs = [Path(r).name for r in short_timeline.info["runs"]]
    assert f"Encoder A is {runs[0]}, encoder B {runs[1]}." in text
    first = page.locator(".verdict").inner_text()
    for term in ("NC1", "Simplex ETF", "Mode", "Gap", "Critical β"): assert first.count(f"{term}:") == 1, term
    assert page.locator(".verdict abbr").evaluate_all("e => e.every(a => a.title.length > 20)")
    assert ("a network of random weights keeps much of what its images show" in text
            and f"accuracy is {100*short_timeline.mean('test_accuracy')[0]:.1f}\u00a0% all the same" in text)
    assert not re.search(r"\d%", text)                                          # one way to write percentages
    accuracies = re.findall(r"accuracy(?: ends at| is)? ([\d.]+)\s%", text)
    assert len(accuracies) >= 3 and all(re.fullmatch(r"\d+\.\d", a) for a in accuracies)
    table = [row.inner_text() for row in page.locator(".dataframe").first.locator("tbody tr td:nth-child(2)").all()]
    assert table == [f"{100*a:.1f} %" for a in short_timeline.mean("test_accuracy")]
    links = page.locator(".terms a").all_inner_texts()
    assert len(set(links)) == len(links) > 15


def test_words_of_the_explorers(show, short_pair):
    """Every list says what it chooses; encoders by their folders; one gap in the status line; what cannot be chosen is
    not called chosen."""
    page = show("checkpoints")
    explorer = page.locator(".ncib")
    assert all(len(t) > 20 for t in explorer.locator(".ncib-controls select").evaluate_all("e => e.map(s => s.title)"))
    names = [r.path.name for r in short_pair]
    assert explorer.get_by_label("encoder", exact=True).locator("option").all_inner_texts() == [f"A ({names[0]})",
                                                                                                f"B ({names[1]})"]
    said = explorer.locator(".ncib-said").inner_text()
    assert (f"encoder A ({names[0]})" in said and said.count("gap") == 1
            and re.search(r"test accuracy \d+\.\d %", said) and explorer.locator(".ncib-said abbr").count() == 3)
    few = explorer.get_by_label("show", exact=True).locator("option").last.inner_text()
    assert re.fullmatch(r"only \d, \d, \d and \d", few)
    explorer.get_by_label("show", exact=True).select_option("chosen")
    assert "Classes " + ", ".join(re.findall(r"\d", few)) in explorer.locator("figcaption").first.inner_text()
    explorer.get_by_text("What the words mean").click()
    words = explorer.locator(".ncib-words dt").all_inner_texts()
    assert {"relevant is", "marginals", "NC1", "Transitions", "Simplex ETF", "Twin"} <= set(words)
    page = show("beta")
    assert (all(len(t) > 20 for t in page.locator(".ncib-controls select").evaluate_all("e => e.map(s => s.title)"))
            and f"X: encoder A ({names[0]})" in page.locator(".ncib-said").inner_text())


# ---------------------------------------------------------------- labels

@pytest.mark.parametrize("width", [1200, 400])
def test_names_of_the_class_means_do_not_collide(show, width):
    page = show("checkpoints", width)
    explorer = page.locator(".ncib")
    for layer in ("backbone", "head"):
        explorer.get_by_role("radio", name=layer).check()
        for key in ("End", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
            explorer.get_by_label("epoch", exact=True).press(key)
            names = np.array(explorer.locator(".ncib-mean text").evaluate_all("e => e.map(t => { const r = "
                                                                              "t.getBoundingClientRect(); return "
                                                                              "[r.left, r.top, r.right, r.bottom]; })"))
            marks = np.array(explorer.locator(".ncib-mean path").evaluate_all("e => e.map(t => { const r = "
                                                                              "t.getBoundingClientRect(); return "
                                                                              "[r.left, r.top, r.right, r.bottom]; })"))
            assert (len(names) == 10 and all(overlap(names[i], names[j]) < 2.5 for i in range(10) for j in range(i))
                    and all(overlap(n, m) < 3 for n in names for m in marks))


# ---------------------------------------------------------------- keyboard and screen reader

def test_pictures_by_keyboard(show):
    """Modes and checkpoints in the pictures are reached by Tab and the arrow keys, say where they are, and show where
    the focus is."""
    page = show("checkpoints")
    explorer = page.locator(".ncib")
    explorer.get_by_label("epoch", exact=True).focus()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("""(e => [e.tagName, e.getAttribute('role'),
            e.closest('figure')?.querySelector('figcaption').textContent])(document.activeElement)"""))
    steered = [r for r in reached if r[0] == "svg"]
    assert ([r[2].split(":")[0].split(" (")[0] for r in steered] == ["Critical β", "Accuracy and NC1", "Sensitivity"]
            and all(r[1] == "slider" for r in steered))
    modes, curves = explorer.locator("svg[role=slider]").nth(0), explorer.locator("svg[role=slider]").nth(1)
    modes.focus()
    assert modes.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    for key, mode in (("ArrowRight", 2), ("ArrowUp", 3), ("ArrowLeft", 2),
                      ("End", int(modes.get_attribute("aria-valuemax")) + 1), ("Home", 1)):
        before = picture(explorer)
        page.keyboard.press(key)
        assert (int(explorer.get_by_role("spinbutton").input_value()) == mode
                == int(modes.get_attribute("aria-valuenow")) + 1 and picture(explorer) != before)
        assert (modes.get_attribute("aria-valuetext").startswith(f"mode {mode}: β_c − 1 = ")
                and "epoch 3" in explorer.locator("output").inner_text())
    curves.focus()
    page.keyboard.press("Home")
    assert (explorer.locator("output").inner_text() == "epoch 0" == curves.get_attribute("aria-valuetext")
            and "At epoch 0: test accuracy" in curves.get_attribute("aria-label"))
    page.keyboard.press("ArrowRight")
    assert explorer.locator("output").inner_text() == "epoch 1"


def test_alternative_texts(show):
    page = show("report")
    texts = page.evaluate("[...document.images].map(i => i.alt)")
    assert len(set(texts)) == len(texts) == 16 and all(len(t) > 120 and re.search(r"\d", t) for t in texts)


@pytest.mark.parametrize("name", ["report", "checkpoints", "beta"])
def test_accessible(show, name):
    """Every control and picture has a name, headings skip no level, nothing that scrolls is out of the keyboard's
    reach, and text stands out 4.5 : 1 in both themes."""
    for scheme, width in (("light", 1200), ("dark", 400)):
        page = show(name, width, scheme)
        assert page.evaluate(looks("barriers")) == []
        rgb = lambda v: "#" + "".join(f"{int(float(c)):02x}" for c in re.findall(r"[\d.]+", v)[:3])
        default = "#ffffff" if scheme == "light" else "#121212"
        faint = {(text, ink, ground) for ink, ground, text in page.evaluate(looks("written"))
                 if contrast(rgb(ink), default if ground.endswith(", 0)") else rgb(ground)) < 4.5}
        assert not faint


def axe():
    "The text of axe-core: the file that NCIB_AXE names, or that of the package axe-playwright-python."
    if os.environ.get("NCIB_AXE"): return Path(os.environ["NCIB_AXE"])
    spec = importlib.util.find_spec("axe_playwright_python")
    return next(Path(spec.submodule_search_locations[0]).rglob("axe.min.js"), None) if spec else None


@pytest.mark.skipif(axe() is None, reason="no axe-core on this machine")
@pytest.mark.parametrize("name", ["report", "checkpoints", "compared", "beta"])
def test_axe_finds_nothing_serious(show, name):
    for scheme, width in (("light", 1200), ("dark", 400)):
        page = show(name, width, scheme)
        page.evaluate(axe().read_text(encoding="utf-8"))
        assert [(v["id"], v["nodes"][0]["html"][:90]) for v in page.evaluate("axe.run()")["violations"]
                if v["impact"] in ("serious", "critical")] == []
