"""What a person sees: the report page, explorers without a kernel, and JupyterLab as `ncib lab` opens it, in headless
Chromium (skipped where there is none)."""
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest

from ncib.compare import compare
from ncib.report import write_report
from ncib.runs import Run
from ncib.timeline import analyze

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api")
if not CHROMIUM: pytest.skip("no Chromium on this machine", allow_module_level=True)
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]
NOTEBOOKS = Path(__file__).resolve().parents[1]/"nbs"
LOOKS = Path(__file__).with_name("looks.js").read_text(encoding="utf-8")


def looks(name):
    "A function of looks.js, to be evaluated on a page or an element."
    return f"(given) => {{\n{LOOKS}\nreturn {name}(given);\n}}"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        b = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield b
        b.close()


def open_file(browser, path, scheme="light", width=1200, scale=1):
    "An HTML file in a browser without a network; `page.problems` collects what goes wrong."
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, device_scale_factor=scale,
                               offline=True).new_page()
    page.set_default_timeout(30_000)
    page.problems, page.requests = [], []
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: page.requests.append(r.url) if not r.url.startswith(("file:", "data:", "blob:"))
            else None)
    page.goto(Path(path).resolve().as_uri())
    return page


def picture(explorer):
    "Everything drawn in an explorer: pixels of its canvases and the markup of its SVG."
    return explorer.evaluate("e => [...e.querySelectorAll('canvas')].map(c => c.toDataURL()).join() + "
                             "[...e.querySelectorAll('svg')].map(s => s.outerHTML).join()")


def overlaps(explorer):
    "Texts of one panel that lie on each other by more than 3 pixels, and texts that leave their panel."
    return explorer.evaluate(looks("overlaps"))


def test_comparison_page(browser, short_pair, tmp_path):
    """Figures decode, the switch shows one layer at a time, nothing is fetched, and nothing but the tables scrolls
    sideways."""
    compare(short_pair, out=tmp_path, progress=False)
    page = open_file(browser, tmp_path/"report.html", "light", 400)
    images = page.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth, i.alt])")
    assert len(images) == 2*7 and all(w and w > 200 and alt for w, alt in images)               # a pair has no tree
    backbone, head = (page.locator(f".of-{layer}") for layer in ("backbone", "head"))
    assert all(b.is_visible() for b in backbone.all()) and not any(h.is_visible() for h in head.all())
    page.locator("fieldset.switch").get_by_label("head").check()
    assert all(h.is_visible() for h in head.all()) and not any(b.is_visible() for b in backbone.all())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400 and not page.problems and not page.requests


@pytest.mark.parametrize("scheme, width", [("light", 1200), ("dark", 400)])
def test_report_page(browser, short_timeline, tmp_path, scheme, width):
    """No network, no script error, every figure decodes, the explorer steps, and nothing but the wide tables scrolls
    sideways."""
    page = open_file(browser, write_report(short_timeline, tmp_path/"report.html"), scheme, width)
    assert page.locator("h1").inner_text() and page.locator(".verdict li").count() == len(short_timeline.verdict())
    images = page.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth, i.alt])")
    # eight figures of each layer
    assert len(images) == 16 and all(w and w > 200 and alt for w, alt in images)
    switch, heads = page.locator("fieldset.switch"), page.locator(".of-head")
    assert not any(h.is_visible() for h in heads.all())
    switch.get_by_label("head").check()
    assert (all(h.is_visible() for h in heads.all())
            and not any(h.is_visible() for h in page.locator(".of-backbone").all()))
    switch.get_by_label("backbone").check()
    # one for both layers: it and the page's switch follow each other
    explorer = page.locator(".ncib")
    explorer.wait_for()
    explorer.get_by_role("radio", name="head").check()
    assert switch.get_by_label("head").is_checked() and heads.first.is_visible()
    switch.get_by_label("backbone").check()
    assert explorer.get_by_role("radio", name="backbone").is_checked()
    before = picture(explorer)
    explorer.get_by_label("epoch", exact=True).press("ArrowLeft")
    assert (picture(explorer) != before
            and f"epoch {short_timeline.epochs[-2]}" in explorer.locator("output").inner_text())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.problems and not page.requests
    assert not overlaps(explorer)


@pytest.mark.parametrize("names", [["epoch", "the <last> layer", "b"], ["epoch", "the <last> layer", "b", "c", "head"],
                                   ["features"]])
def test_report_page_of_arrays(browser, tmp_path, names):
    """Layers of any names: radio buttons for a few, a list for many; without training features the page speaks of the
    given ones."""
    labels, g = np.arange(240) % 4, np.random.default_rng(0)
    means, shared = 3*g.normal(size=(4, 6)), g.normal(size=(240, 6))
    x, y = ({name: [means[labels] @ g.normal(size=(6, 6)) + s*(shared + g.normal(size=(240, 6))) for s in (2, .5)]
             for name in names} for _ in range(2))
    page = open_file(browser, write_report(analyze(x, y, labels, progress=False), tmp_path/"report.html"))
    explorer, switch = page.locator(".ncib"), page.locator("fieldset.switch")
    explorer.wait_for()
    assert ("held-out accuracy" in explorer.inner_text() and "given features" in explorer.inner_text()
            and explorer.get_by_label("features of").locator("option").all_inner_texts() == ["given images"])
    explorer.get_by_role("slider", name="epoch", exact=True).press("ArrowLeft")
    assert "epoch 1" in explorer.locator("output").inner_text()
    if len(names) > 1:
        before, many = explorer.inner_text(), len(names) > 4
        listed = explorer.get_by_label("layer", exact=True)
        radio = lambda **which: explorer.get_by_role("radio", **which)
        chosen = lambda: (listed.locator("option:checked").inner_text() if many
                          else radio(checked=True).get_attribute("value"))
        if many: listed.select_option(names[1])
        else: radio(name=names[1]).check()
        assert (chosen() == names[1] and switch.get_by_label(names[1]).is_checked() and explorer.inner_text() != before
                and "epoch 1" in explorer.locator("output").inner_text())
        assert page.locator(".of-2").first.is_visible() and not any(h.is_visible() for h in page.locator(".of-1").all())
        switch.get_by_label(names[0], exact=True).check()
        assert chosen() == names[0] and explorer.inner_text() == before
    else: assert not switch.count()
    assert not page.problems and not page.requests and not overlaps(explorer)


@pytest.fixture(scope="module")
def pages(short_pair, tmp_path_factory):
    "Explorers written as pages."
    from ncib.explore import BetaSweep, CheckpointExplorer, compare
    folder = tmp_path_factory.mktemp("pages")
    pxy = np.kron(np.eye(3), [[3., 1], [1, 3]]) + .2
    bare = [Run.create(folder/f"bare-{i}", r.classes, r.config, {"fingerprint": "same"})
            for i, r in enumerate(short_pair)]
    for r, b in zip(short_pair, bare):
        f = r.features(3); b.save_features(3, f.train, f.train_labels, f.test, f.test_labels)
    explorers = {"checkpoints": CheckpointExplorer(*short_pair, progress=False),
                 "bare": BetaSweep(tuple(bare), relevance="labels", progress=False),
                 "compared": compare(short_pair, short_pair[::-1], names=["one", "other"], progress=False),
                 "beta": BetaSweep(short_pair, progress=False),
                 "clusters": BetaSweep(pxy/pxy.sum(), progress=False),
                 "wrong": CheckpointExplorer(short_pair[0], short_pair[0], progress=False)}
    return {name: e.save_html(folder/f"{name}.html") for name, e in explorers.items() if not e.error}, explorers


def test_static_explorer_steps(browser, pages):
    "Every control of a page without a kernel."
    page = open_file(browser, pages[0]["checkpoints"])
    explorer, seen = page.locator(".ncib"), set()
    slider = explorer.get_by_label("epoch", exact=True)
    for _ in range(4):
        seen.add(picture(explorer)); slider.press("ArrowLeft")
    assert len(seen) == 4 and "epoch 0" in explorer.locator("output").inner_text()
    explorer.get_by_role("button", name="play epoch").click()                   # plays to the end, then stops
    page.wait_for_function("document.querySelector('.ncib output').textContent == 'epoch 3' && "
                           "document.querySelector('.ncib-slider button').textContent.includes('play')")
    for label, option in (("features of", "training images"), ("encoder", "b"), ("relevant is", "label"),
                          ("show", "chosen"), ("scale", "of the last checkpoint")):
        before = picture(explorer)
        explorer.get_by_label(label, exact=True).select_option(option)
        assert picture(explorer) != before, label
    before = picture(explorer)
    # the switch has the keyboard of any radio buttons
    explorer.get_by_role("radio", name="backbone").press("ArrowRight")
    assert (explorer.get_by_role("radio", name="head").is_checked() and picture(explorer) != before
            and "epoch 3" in explorer.locator("output").inner_text())
    explorer.get_by_role("radio", name="backbone").check()
    assert picture(explorer) == before
    turn = picture(explorer)
    explorer.get_by_label("turn").press("ArrowRight")
    assert picture(explorer) != turn
    row, values = explorer.locator(".ncib-wide"), pages[1]["checkpoints"]._frames["backbone", False][0].info["table"]
    for epoch in (3, 2):
        words = row.locator(".ncib-note").inner_text()
        assert f"epoch {epoch}" in words and row.locator("svg").get_attribute("aria-label") == words
        for name, column in (("default", ""), ("ridge", "_ridge"), ("unshrunk", "_unshrunk"),
                             ("held out", "_held_out")):
            seen = float(re.search(f"{name} ×([0-9.]*[0-9])", words).group(1))
            wanted = values[f"test_twin_separation{column}"][values["epoch"].index(epoch)]
            assert seen == pytest.approx(wanted, rel=.006)
        slider.press("ArrowLeft")
    assert (row.locator(".ncib-cursor").count() == row.locator(".ncib-mark").count() == 4
            and row.locator(".ncib-band").count() == 3)
    slider.press("End")
    bars = explorer.locator(".ncib-panel").nth(3)
    note = bars.locator(".ncib-note").inner_text()
    explorer.locator(".ncib-mode").nth(4).click()
    assert explorer.get_by_role("spinbutton").input_value() == "5" and bars.locator(".ncib-note").inner_text() != note
    explorer.locator(".ncib-panel").nth(1).locator(".ncib-box").hover(position={"x": 60, "y": 60})
    assert "cosine" in explorer.locator(".ncib-tip").inner_text()
    explorer.locator(".ncib-mode").nth(0).hover()
    assert "β_c − 1" in explorer.locator(".ncib-tip").inner_text()
    with page.expect_download() as download: explorer.get_by_role("button", name="table as CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].startswith("epoch,") and len(lines) == 5
    assert explorer.get_by_role("button", name="PNG").count() == 0              # nobody there to draw it
    assert not page.problems and not page.requests


@pytest.mark.parametrize("scheme, width, scale", [("light", 1100, 1), ("dark", 380, 2), ("light", 700, 2)])
@pytest.mark.parametrize("name", ["checkpoints", "compared", "beta", "bare", "clusters"])
def test_layout(browser, pages, name, scheme, width, scale):
    """Nothing overlaps, leaves its panel or makes the page scroll sideways; text stands out from the background; every
    control has a label."""
    page = open_file(browser, pages[0][name], scheme, width, scale)
    explorer = page.locator(".ncib")
    explorer.wait_for()
    assert not overlaps(explorer) and page.evaluate("document.documentElement.scrollWidth") <= width
    colour = lambda css, what: np.array([int(v) for v in page.evaluate(
        f"getComputedStyle(document.querySelector('{css}')).{what}").strip("rgba()").split(",")[:3]])
    ink, paper = colour(".ncib", "color"), colour(".ncib button", "backgroundColor")
    assert abs(ink.mean() - paper.mean()) > 150 and (ink.mean() > 128) == (scheme == "dark")
    assert page.evaluate("[...document.querySelectorAll('.ncib :is(input, select, button)')].every(c => "
                         "c.getAttribute('aria-label') || c.closest('label')?.textContent || c.textContent)")
    assert page.evaluate("[...document.querySelectorAll('.ncib svg')].every(s => s.getAttribute('aria-label'))")
    slider = (explorer.locator("input[type=range]").last if name == "beta"
              else explorer.get_by_label("β" if name in ("bare", "clusters") else "epoch", exact=True))
    before = picture(explorer)
    slider.press("ArrowLeft")
    assert picture(explorer) != before and not page.problems


def test_beta_sweep_page(browser, pages):
    page = open_file(browser, pages[0]["beta"])
    explorer = page.locator(".ncib")
    slider = explorer.get_by_label("β", exact=True)
    slider.press("Home")
    assert re.search(r" 0 of \d+ modes are on", explorer.locator(".ncib-said").inner_text())
    slider.press("End")
    words = explorer.locator(".ncib-said").inner_text()
    nats = float(words.split("I(X;T) = ")[1].split(" nats")[0])
    explorer.get_by_label("information in").select_option("bits")
    assert (float(explorer.locator(".ncib-said").inner_text().split("I(X;T) = ")[1].split(" bits")[0])
            == pytest.approx(nats/np.log(2), rel=.01))
    explorer.get_by_label("epoch", exact=True).press("ArrowLeft")
    assert explorer.locator(".ncib-said").inner_text() != words and not page.problems


def test_a_step_through_checkpoints_changes_only_what_is_theirs(browser, pages):
    "Axes stay where they are, the page is laid out once, and the picture is that of a redraw."
    page = open_file(browser, pages[0]["beta"])
    explorer, unit = page.locator(".ncib"), page.locator(".ncib").get_by_label("information in")
    explorer.locator("svg .ncib-axes").last.wait_for(state="attached")
    # the code has axes for its own reach
    page.evaluate("window.kept = document.querySelectorAll('.ncib-panel:not(:nth-child(2)) .ncib-axes')")
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    layouts = lambda: next(m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]
                           if m["name"] == "LayoutCount")
    page.wait_for_timeout(300)
    before = layouts()
    explorer.get_by_label("epoch", exact=True).press("ArrowLeft")
    page.wait_for_timeout(300)
    # one, and room for what else is on the page; 7 where every panel was measured anew
    assert layouts() - before <= 3
    assert page.evaluate("kept.length >= 3 && [...kept].every(g => g.isConnected)")
    stepped = picture(explorer)
    for name in ("bits", "nats"): unit.select_option(name)                      # draws all again
    assert (not page.evaluate("[...kept].some(g => g.isConnected)") and picture(explorer) == stepped
            and not page.problems)


def test_the_corner_on_the_page(browser, pages):
    """Star and triangle on the curve, both enlarged with the shortfall beside them; a button leads there; the switch
    keeps checkpoint and β."""
    frames, page = pages[1]["beta"]._frames, open_file(browser, pages[0]["beta"])
    explorer, plane = page.locator(".ncib"), page.locator(".ncib-panel").last
    go, numbers = explorer.get_by_role("button", name="to the corner"), lambda f, i: [float(f.arrays[f"corner_{n}"][i])
                                                                                      for n in ("ixt", "best", "iyt")]
    for layer, i in (("backbone", -1), ("head", -1), ("head", -2)):
        explorer.get_by_role("radio", name=layer).check()
        explorer.get_by_label("epoch", exact=True).press("End" if i == -1 else "ArrowLeft")
        rate, best, told = numbers(frames[layer], i)
        said, note = f"{best - told:.2g}", plane.locator(".ncib-note").inner_text()
        assert plane.locator(".ncib-star").count() == plane.locator(".ncib-down").count() == 2
        assert ([float(re.search(r"[\d.]+", t).group()) for t in plane.locator(".ncib-short").all_text_contents()]
                == pytest.approx([float(said), round(100*(best - told)/best, 1)], rel=.06, abs=.06)
                and "Corner at I(X;T)" in note)
        stars, downs = (plane.locator(f".ncib-{n}").evaluate_all("e => e.map(m => { const r = "
                                                                 "m.getBoundingClientRect(); return [r.x + r.width/2, "
                                                                 "r.y + r.height/2]; })") for n in ("star", "down"))
        # to be seen at once
        assert (all(abs(s[0] - d[0]) < 1.5 and d[1] > s[1] - 1 for s, d in zip(stars, downs))
                and downs[1][1] - stars[1][1] > 20)
        go.press("Enter")
        here = float(explorer.locator(".ncib-said").inner_text().split("I(X;T) = ")[1].split(" nats")[0])
        assert abs(here - rate) < .05*rate + .3
    beta, at = explorer.locator("output").last.inner_text(), explorer.get_by_role("radio", name="backbone")
    at.check()
    assert explorer.locator("output").first.inner_text() == "epoch 2"
    explorer.get_by_role("radio", name="head").check()
    assert explorer.locator("output").last.inner_text() == beta and not page.problems


def test_no_corner_and_one_layer(browser, pages):
    page = open_file(browser, pages[0]["bare"])
    explorer = page.locator(".ncib")
    assert ("No corner: labels alone carry" in explorer.locator(".ncib-panel").last.locator(".ncib-note").inner_text()
            and explorer.locator(".ncib-star").count() == 0)
    assert explorer.get_by_role("button", name="to the corner").is_disabled()
    assert (explorer.get_by_role("radio", name="head").is_disabled()
            and explorer.get_by_role("radio", name="backbone").is_checked() and not page.problems)


def test_the_noise_on_the_page_is_that_of_the_package(browser, pages):
    from ncib.beta_frames import noise_ellipse
    frames, page = pages[1]["beta"].frames, open_file(browser, pages[0]["beta"])
    explorer, shapes = page.locator(".ncib"), set()
    slider = explorer.get_by_label("β", exact=True)
    slider.press("Home")
    for _ in range(12):
        for _ in range(5): slider.press("ArrowRight")
        width, height = explorer.locator(".ncib-ideal").first.evaluate("e => [e.getBBox().width, e.getBBox().height]")
        wide, high = np.ptp(noise_ellipse(frames, float(frames.arrays["log_excess"][int(slider.input_value())])),
                            axis=1)
        assert abs(height*wide - width*high) < .02*width*wide + 1e-9
        shapes.add(round(high/wide, 1) if wide else 0.)
    assert len(shapes) > 2                                  # nothing, thin and round


def test_sentence_in_the_widgets_place(pages):
    assert "given twice" in pages[1]["wrong"].error


# ---------------------------------------------------------------- JupyterLab

TRAP = '''import hashlib, io, threading, time
import matplotlib.pyplot as plt
import torch
def draw():
    plt.figure(figsize=(3, 2)); plt.plot([1, 3, 2]); plt.title("of this cell")
    time.sleep(.02)
    plt.xlabel("x"); plt.axhline(2)
    out = io.BytesIO(); plt.savefig(out, format="png"); plt.close()
    return hashlib.sha256(out.getvalue()).hexdigest()
alone, beside = draw(), []
explorer.on_msg(lambda *a: beside.append(threading.current_thread() is not threading.main_thread()))
print("started", flush=True)
end, hashes, grad = time.time() + 30, set(), True
while time.time() < end and not (beside and explorer.copula and explorer.copula_0):
    hashes.add(draw()); grad &= torch.is_grad_enabled()
for _ in range(5): hashes.add(draw())
print("same pictures" if hashes == {alone} and grad else f"disturbed: {len(hashes)} {grad}",
      "beside" if beside and all(beside) else "not beside")'''


@pytest.fixture(scope="module")
def lab(browser, short_pair, short_timeline, tmp_path_factory):
    "A page of JupyterLab, opened by `ncib lab` on the explorers' notebook and short runs."
    folder = tmp_path_factory.mktemp("lab")
    for name in ("demo", "demo-random-labels"):
        for i, run in enumerate(short_pair): shutil.copytree(run.path, folder/"runs"/name/f"encoder-{i}")
        short_timeline.save(folder/"runs"/name)
    notebook = nbformat.read(NOTEBOOKS/"explore/checkpoints.ipynb", 4)
    for cell in notebook.cells: cell.pop("outputs", None) if cell.cell_type != "code" else cell.update(outputs=[])
    (folder/"nbs/explore").mkdir(parents=True)
    nbformat.write(notebook, folder/"nbs/explore/checkpoints.ipynb")
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    token = secrets.token_hex(8)
    env = {**os.environ, "NCIB_RUNS": str(folder/"runs"), "MPLBACKEND": "agg",
           **{f"JUPYTER_{k}_DIR": str(folder/k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")},
           "JUPYTERLAB_SETTINGS_DIR": str(folder/"settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder/"workspaces")}
    command = [sys.executable, "-m", "ncib.cli", "lab", "--notebooks", str(folder/"nbs"), "--no-browser",
               f"--port={port}", f"--IdentityProvider.token={token}", "--allow-root", "--ServerApp.ip=127.0.0.1",
               "--LabApp.expose_app_in_browser=True"]
    log = open(folder/"log", "w")
    server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert server.poll() is None, (folder/"log").read_text()[-2000:]
            try:
                json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=5)); break
            except OSError: time.sleep(.5)
        page = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True).new_page()
        page.set_default_timeout(120_000)
        page.problems = []
        page.on("pageerror", lambda e: page.problems.append(str(e)))
        page.goto(f"http://127.0.0.1:{port}/?token={token}", wait_until="domcontentloaded")
        page.locator(".jp-Notebook .jp-RenderedMarkdown h1").first.wait_for()
        yield page
    finally:
        with contextlib.suppress(Exception):
            sessions = f"http://127.0.0.1:{port}/api/sessions"
            for session in json.load(urllib.request.urlopen(f"{sessions}?token={token}", timeout=5)):
                end = urllib.request.Request(f"{sessions}/{session['id']}?token={token}", method="DELETE")
                urllib.request.urlopen(end, timeout=10)
        server.send_signal(signal.SIGTERM)
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()


def first_explorer(page):
    "The first explorer, scrolled into view: JupyterLab takes cells that are out of sight off the page."
    page.evaluate(looks("showExplorer"))
    explorer = page.locator(".ncib:visible").first
    explorer.locator(".ncib-slider output").wait_for()
    return explorer


def command(page, name, **args):
    return page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, args])


def test_lab_opens_on_the_explorers_and_runs_them(lab):
    "Run all, drag, key, play, export; no cell fails and the page reports no error."
    assert ("/lab" in lab.url
            and "Step through training" in lab.locator(".jp-Notebook .jp-RenderedMarkdown h1").first.inner_text())
    lab.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
    lab.evaluate("async () => { const s = window.jupyterapp.shell.currentWidget.sessionContext; await s.ready; await "
                 "s.session.kernel.info; }")
    command(lab, "notebook:run-all-cells")
    lab.wait_for_function("document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status === 'idle' && "
                          "document.querySelectorAll('.ncib svg').length > 4")
    outputs = (".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr'] , "
               ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
    assert lab.locator(outputs).filter(has_text="Error").count() == 0
    explorer = first_explorer(lab)
    assert "epoch 3" in explorer.locator("output").inner_text()
    slider = explorer.get_by_label("epoch", exact=True)
    slider.focus()
    pictures = []
    for key, epoch in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowRight", 3)):
        lab.keyboard.press(key)
        lab.wait_for_function(f"document.activeElement.closest('.ncib').querySelector('output').textContent == 'epoch "
                              f"{epoch}'")
        pictures.append(picture(explorer))
    assert len(set(pictures)) == 4
    box = slider.bounding_box()                                                 # drag from the right end to the left
    lab.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"]/2); lab.mouse.down()
    lab.mouse.move(box["x"] + 4, box["y"] + box["height"]/2, steps=16); lab.mouse.up()
    lab.wait_for_function("document.activeElement.closest('.ncib').querySelector('output').textContent == 'epoch 0'")
    # the last state of a drag is the one that is shown
    assert picture(explorer) == pictures[0]
    explorer.get_by_role("button", name="play epoch").click()
    lab.wait_for_function("document.querySelector('.ncib output').textContent == 'epoch 3'")
    for kind, head in (("PNG", b"\x89PNG"), ("PDF", b"%PDF")):
        with lab.expect_download() as download: explorer.get_by_role("button", name=f"figure as {kind}").click()
        assert (Path(download.value.path()).read_bytes().startswith(head)
                and "epoch-3" in download.value.suggested_filename)
    explorer.screenshot(path=str(Path(os.environ.get("NCIB_SHOTS", "/tmp"))
                                 /"lab.png")) if os.environ.get("NCIB_SHOTS") else None
    assert not lab.problems


def test_controls_stay_in_sight_in_the_lab(lab):
    """Outputs of JupyterLab are places that could scroll; the head of an explorer sticks to the notebook's window all
    the same."""
    first_explorer(lab)
    tops = lab.evaluate(looks("headInSight"))
    assert -2 < tops[0] < 30 and tops[1] > 60 and tops[2] < -150 and not tops[3].endswith(", 0)")
    first_explorer(lab)


def run_cell(page, source):
    "Runs `source` in a new last cell; returns the locator of its output."
    page.evaluate(looks("runCell"), source)
    return page.locator(".jp-Notebook .jp-Cell").last.locator(".jp-Cell-outputWrapper")


def test_state_is_shared_with_python(lab):
    explorer = first_explorer(lab)
    explorer.get_by_label("epoch", exact=True).press("Home")
    # for the message to arrive before the cell does
    lab.wait_for_timeout(300)
    cell = run_cell(lab, "print('epoch is', explorer.epoch); explorer.epoch = 2; explorer.mode = 3")
    cell.get_by_text("epoch is 0").wait_for(state="attached")
    first_explorer(lab)
    lab.wait_for_function("document.querySelector('.ncib output').textContent == 'epoch 2' && "
                          "document.querySelector('.ncib input[type=number]').value == '3'")
    # the kernel makes the other layer; checkpoint and mode stay
    first_explorer(lab).get_by_role("radio", name="head").check()
    lab.wait_for_function("[...document.querySelectorAll('.ncib-wide .ncib-note')].length && "
                          "document.querySelector('.ncib .ncib-state').textContent.trim() == ''")
    run_cell(lab,
             "print('layer', explorer.layer, 'epoch', explorer.epoch, 'mode', explorer.mode, "
             "bool(explorer.features_1)); explorer.layer = 'backbone'").get_by_text("layer head epoch 2 mode 3 "
                                                                                    "True").wait_for(state="attached")
    lab.wait_for_function("document.querySelector('.ncib input[value=backbone]').checked")


def test_callbacks_beside_a_running_cell(lab):
    """While a cell draws with pyplot, the explorer analyses other features and exports a figure on its own thread:
    neither disturbs the other."""
    explorer = first_explorer(lab)
    with lab.expect_download():
        # JupyterLab starts the second thread with the first message
        explorer.get_by_role("button", name="figure as PNG").click()
    cell = run_cell(lab, TRAP)
    cell.get_by_text("started").wait_for(state="attached")
    explorer = first_explorer(lab)
    with lab.expect_download() as download: explorer.get_by_role("button", name="figure as PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    explorer.get_by_label("marginals", exact=True).select_option("normal scores (copula)")
    cell.get_by_text("same pictures beside").wait_for(state="attached")
    lab.wait_for_function("document.querySelector('.ncib .ncib-state').textContent.trim() == ''")
    assert not lab.problems
