"""How long both explorers and the report take to answer, in a real JupyterLab (the report: as a file) with headless
Chromium: key press → painted picture over 50 steps of each slider, switch of the layer → painted picture once both are
there, and the time from starting a cell to the first picture with the analysis cached.

    python benchmarks/explore.py [--classes 10 100] [--points 2000] [--checkpoints 16] [--dim 64]

Needs Chromium and the development extras. The page measures itself: from the key event to the first message after the
next animation frame, when the new picture has been handed to the compositor.
"""
import argparse
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
import torch
from playwright.sync_api import sync_playwright

from ncib.explore import CheckpointExplorer
from ncib.report import write_report
from ncib.runs import Run
from ncib.timeline import analyze

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]
MEASURE = """(label) => {
    const e = [...document.querySelectorAll('.ncib')].filter((e) => e.offsetParent).at(-1);
    const slider = e.querySelector(`input[type=range][aria-label="${label}"]`), channel = new MessageChannel();
    let start = 0;
    window.steps = [];
    slider.addEventListener('keydown', () => { start = performance.now(); }, true);
    slider.addEventListener('input', () => requestAnimationFrame(() => {
        channel.port1.onmessage = () => window.steps.push(performance.now() - start);
        channel.port2.postMessage(0);
    }));
    slider.focus();
}"""
SWITCH = """async () => {
    const e = [...document.querySelectorAll('.ncib')].filter((e) => e.offsetParent).at(-1), times = [];
    const wait = (ms) => new Promise((f) => setTimeout(f, ms));
    for (let i = 0; i < 12; i++) {
        const channel = new MessageChannel(), start = performance.now();
        const done = new Promise((f) => { channel.port1.onmessage = f; });
        e.querySelector(`input[type=radio][value=${i % 2 ? 'backbone' : 'head'}]`).click();
        requestAnimationFrame(() => channel.port2.postMessage(0));
        await done;
        times.push(performance.now() - start);
        await wait(i ? 150 : 3000);
    }
    return times.slice(2);
}"""
WAIT = """() => new Promise(done => {
    const start = performance.now(), n = document.querySelectorAll('.ncib svg').length;
    const look = () => document.querySelectorAll('.ncib svg').length > n
        ? requestAnimationFrame(() => done(performance.now() - start)) : requestAnimationFrame(look);
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = notebook.widgets.length - 1;
    window.jupyterapp.commands.execute('notebook:run-cell');
    look();
})"""


def simulated_pair(folder, k, checkpoints, points, dim):
    "Two encoders whose classes draw together."
    g = torch.Generator().manual_seed(0)
    y, dim = torch.arange(points) % k, max(dim, k)
    means = torch.linalg.qr(torch.randn(dim, dim, generator=g)).Q[:k]
    runs = [Run.create(folder/f"{name}-{k}", [str(c) for c in range(k)], {"seed": s}) for s, name in enumerate("ab")]
    for epoch in range(checkpoints):
        spread = .5*.85**epoch
        shared = [means[y] + spread*torch.randn(points, dim, generator=g) for _ in range(2)]
        for run in runs:
            train, test = (x + .3*spread*torch.randn(points, dim, generator=g) for x in shared)
            run.save_features(epoch, train, y, test, y, train[:, :k], test[:, :k])
    return [run.path for run in runs]


def start(page, source):
    "Time from starting a cell to the first picture in it, ms."
    page.evaluate("""async (source) => {
        const notebook = window.jupyterapp.shell.currentWidget.content;
        notebook.activeCellIndex = notebook.widgets.length - 1;
        await window.jupyterapp.commands.execute('notebook:insert-cell-below');
        notebook.activeCell.model.sharedModel.setSource(source);
    }""", source)
    first = page.evaluate(WAIT)
    page.evaluate("async () => { const n = window.jupyterapp.shell.currentWidget.content; await "
                  "n.scrollToItem(n.widgets.length - 1, 'start'); }")
    # JupyterLab gives the focus to the notebook when a cell is done
    page.wait_for_timeout(1000)
    return first


def measure(page, label, steps=50):
    "Latency of `steps` key presses on a slider of the last explorer on the page, ms."
    page.evaluate(MEASURE, label)
    count, times = 0, []
    while len(times) < steps + 2:
        if count > 3*steps: raise SystemExit("the slider does not answer")
        page.keyboard.press("ArrowLeft" if count//14 % 2 == 0 else "ArrowRight"); count += 1
        page.wait_for_timeout(60)
        times = page.evaluate("window.steps")
    return sorted(times[2:steps + 2])


def line(name, times):
    return (f"{name}: median {statistics.median(times):.0f} ms, 95th percentile "
            f"{times[min(len(times) - 1, int(.95*len(times)))]:.0f} ms, most {times[-1]:.0f} ms (n = {len(times)})")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    p.add_argument("--points", type=int, default=2000); p.add_argument("--checkpoints", type=int, default=16)
    p.add_argument("--dim", type=int, default=64)
    a = p.parse_args()
    folder = Path(tempfile.mkdtemp())
    pairs = {k: simulated_pair(folder, k, a.checkpoints, a.points, a.dim) for k in a.classes}
    reports = {}
    # the analysis of both layers is cached from here on
    for k, paths in pairs.items():
        CheckpointExplorer(*paths).layer = "head"
        reports[k] = write_report(analyze(*paths), folder/f"report-{k}.html")
    nbformat.write(nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("from ncib.explore import BetaSweep, CheckpointExplorer")],
        metadata={"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}),
        folder/"bench.ipynb")
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    token, env = (secrets.token_hex(8),
                  {**os.environ, **{f"JUPYTER_{n}_DIR": str(folder/n.lower()) for n in ("CONFIG", "DATA", "RUNTIME")},
                   "JUPYTERLAB_SETTINGS_DIR": str(folder/"settings"),
                   "JUPYTERLAB_WORKSPACES_DIR": str(folder/"workspaces")})
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}",
                               f"--IdentityProvider.token={token}", "--allow-root", "--ServerApp.ip=127.0.0.1",
                               f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"],
                              env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=5)); break
            except OSError: time.sleep(.5)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(180_000)
            page.goto(f"http://127.0.0.1:{port}/lab/tree/bench.ipynb?token={token}", wait_until="domcontentloaded")
            page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
            page.evaluate("async () => { const s = window.jupyterapp.shell.currentWidget.sessionContext; await "
                          "s.ready; await s.session.kernel.info; await "
                          "window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
            print(f"{os.cpu_count()} cores, Python {platform.python_version()}, Chromium {browser.version}, load "
                  f"{os.getloadavg()[0]:.1f}; {a.checkpoints} checkpoints, {a.points} samples per part, {a.dim} "
                  f"features")
            for k, paths in pairs.items():
                pair = ", ".join(repr(str(p)) for p in paths)
                for name, source, sliders in (("CheckpointExplorer", f"CheckpointExplorer({pair})", ("epoch",)),
                                              ("BetaSweep", f"BetaSweep([{pair}])", ("epoch", "β"))):
                    first = start(page, source)
                    for label in sliders: print(line(f"K = {k:3}, {name}, {label}", measure(page, label)), flush=True)
                    print(line(f"K = {k:3}, {name}, layer", sorted(page.evaluate(SWITCH)))
                          + f"; first picture {first/1e3:.2f} s after the cell started", flush=True)
                report = browser.new_page(viewport={"width": 1400, "height": 1000})
                report.goto(reports[k].as_uri())
                report.wait_for_selector(".ncib svg")
                report.wait_for_timeout(1000)
                print(line(f"K = {k:3}, report, epoch", measure(report, "epoch")), flush=True)
                report.close()
            browser.close()
    finally:
        for session in json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/sessions?token={token}",
                                                        timeout=5)):
            end = f"http://127.0.0.1:{port}/api/sessions/{session['id']}?token={token}"
            urllib.request.urlopen(urllib.request.Request(end, method="DELETE"), timeout=10)
        server.send_signal(signal.SIGTERM)
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__": main()
