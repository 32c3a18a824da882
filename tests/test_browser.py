"What a person sees: the report page, and JupyterLab as `ncib lab` opens it, in headless Chromium (skipped where there is none)."
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from ncib.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api")
if not CHROMIUM: pytest.skip("no Chromium on this machine", allow_module_level=True)
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        b = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield b
        b.close()


@pytest.mark.parametrize("scheme, width", [("light", 1200), ("dark", 400)])
def test_report_page(browser, short_timeline, tmp_path, scheme, width):
    "No network, no script error, every figure decodes, and nothing but the wide tables scrolls sideways."
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True).new_page()
    page.set_default_timeout(120_000)
    problems, requests = [], []
    page.on("pageerror", lambda e: problems.append(str(e))); page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: requests.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto(write_report(short_timeline, tmp_path/"report.html").resolve().as_uri())
    assert not problems and not requests
    assert page.locator("h1").inner_text() and page.locator(".verdict li").count() == len(short_timeline.verdict())
    images = page.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth, i.alt])")
    assert len(images) == 6 and all(w and w > 200 and alt for w, alt in images)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_lab_opens_on_the_notebooks(browser, tmp_path):
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    token = secrets.token_hex(8)
    env = {**os.environ, **{f"JUPYTER_{k}_DIR": str(tmp_path/k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")}, "JUPYTERLAB_SETTINGS_DIR": str(tmp_path/"settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path/"workspaces")}
    command = [sys.executable, "-m", "ncib.cli", "lab", "--no-browser", f"--port={port}", f"--IdentityProvider.token={token}", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    log = open(tmp_path/"log", "w")
    server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert server.poll() is None, (tmp_path/"log").read_text()[-2000:]
            try: json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=5)); break
            except OSError: time.sleep(.5)
        page = browser.new_page()
        page.set_default_timeout(180_000)
        page.goto(f"http://127.0.0.1:{port}/?token={token}", wait_until="domcontentloaded")
        page.locator(".jp-Notebook .jp-RenderedMarkdown h1").first.wait_for()
        assert "/lab" in page.url
        assert page.locator(".jp-Notebook .jp-RenderedMarkdown h1").first.inner_text().strip("¶ ")
    finally:
        server.send_signal(signal.SIGTERM)
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()
