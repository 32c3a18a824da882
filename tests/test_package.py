"What a release publishes: built here, looked into, and used without the repository."
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

from sync import ROOT
from test_imports import BLOCK

pytest.importorskip("build"), pytest.importorskip("twine")
PROJECT = tomllib.loads((ROOT/"pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = re.search(r'__version__ = "(.+)"', (ROOT/"ncib/__init__.py").read_text())[1]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """sdist and wheel, the wheel made from the sdist, from a copy of everything that git would hand over; without
    network."""
    tree = tmp_path_factory.mktemp("source")
    for name in ("ncib", "nbs", "tests", "benchmarks", ".github"):
        shutil.copytree(ROOT/name, tree/name,
                        ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs"))
    for path in ROOT.iterdir():
        if path.is_file(): shutil.copy(path, tree)
    done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", tree/"dist", tree],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return tree/"dist"


def names(dist):
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    with tarfile.open(sdist) as t: inside = {m.name.split("/", 1)[1] for m in t.getmembers() if m.isfile()}
    return inside, set(zipfile.ZipFile(wheel).namelist())


def test_both_are_built_with_the_version_of_the_package(dist):
    assert {p.name for p in dist.iterdir()} == {f"ncib-{VERSION}.tar.gz", f"ncib-{VERSION}-py3-none-any.whl"}


def test_twine_accepts_both(dist):
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir()], capture_output=True,
                          text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_contents(dist):
    "The package whole, with its static files and its marker for type checkers, and nothing of the workshop."
    sdist, wheel = names(dist)
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT/"ncib").rglob("*") if p.is_file()
               and "__pycache__" not in p.parts}
    assert "ncib/py.typed" in package
    assert {n for n in wheel if not n.startswith(f"ncib-{VERSION}.dist-info/")} == package
    beside = {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    assert {n for n in sdist if not n.startswith("ncib.egg-info/")} == package | beside | {"PKG-INFO", "setup.cfg"}


def test_description_works_outside_the_repository(dist):
    "Every link of the long description is whole; those into the repository name files that are there."
    (wheel,) = dist.glob("*.whl")
    text = zipfile.ZipFile(wheel).read(f"ncib-{VERSION}.dist-info/METADATA").decode()
    links = re.findall(r"\]\(([^)\s]+)", text)
    assert links and all(link.startswith(("https://", "#")) for link in links)
    for link in links:
        for base in (PROJECT["urls"]["Source"] + "/blob/main/",
                     PROJECT["urls"]["Source"].replace("github.com", "raw.githubusercontent.com") + "/main/"):
            if link.startswith(base): assert (ROOT/link.removeprefix(base)).is_file(), link
    pages = {PROJECT["urls"]["Documentation"] + "/"
             + re.sub(r"(^|/)\d+[a-z]?_", r"\1", p.relative_to(ROOT/"nbs").with_suffix(".html").as_posix())
             for p in (ROOT/"nbs").rglob("*.ipynb")}
    ours = [link.split("#")[0] for link in links if link.startswith(PROJECT["urls"]["Documentation"] + "/")]
    assert ours and not {*ours} - pages


def test_wheel_works_without_repository_and_jupyter(dist, tmp_path):
    "Unpacked elsewhere, with Jupyter and nbdev hidden, every module but the widgets imports and the command runs."
    (wheel,) = dist.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path/"site")
    code = BLOCK + f"""
sys.path.insert(0, {str(tmp_path/'site')!r})
import importlib, pkgutil, ncib
assert ncib.__file__.startswith({str(tmp_path)!r}), ncib.__file__
for m in pkgutil.iter_modules(ncib.__path__):
    if m.name != "explore": importlib.import_module("ncib." + m.name)
from ncib.cli import main
sys.exit(main(["demo", "--epochs", "1", "--out", {str(tmp_path/'demo')!r}, "--quiet"]))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path/"demo/report.html").stat().st_size > 1e4


def test_version_and_addresses_are_the_same_everywhere():
    yaml = pytest.importorskip("yaml")
    cite = yaml.safe_load((ROOT/"CITATION.cff").read_text(encoding="utf-8"))
    site = yaml.safe_load((ROOT/"nbs/nbdev.yml").read_text(encoding="utf-8"))["website"]
    settings = dict(re.findall(r"(?m)^(\w+) = (.*)$", (ROOT/"settings.ini").read_text(encoding="utf-8")))
    assert VERSION == settings["version"] == cite["version"]
    assert re.search(r"(?m)^## (\S+)", (ROOT/"CHANGELOG.md").read_text(encoding="utf-8"))[1] in (VERSION, "Unreleased")
    assert PROJECT["urls"]["Documentation"] == site["site-url"] == cite["url"]
    assert PROJECT["urls"]["Source"] == site["repo-url"] == cite["repository-code"]
    assert PROJECT["description"] == settings["description"] == site["description"]


def test_supported_versions_are_the_tested_ones():
    "The classifiers name the Pythons that continuous integration runs."
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load((ROOT/".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    claimed = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert claimed == jobs["test"]["strategy"]["matrix"]["python"] and PROJECT["requires-python"] == f">={claimed[0]}"


@pytest.mark.parametrize("path", sorted((ROOT/".github").rglob("*.yml")), ids=lambda p: p.name)
def test_workflows_and_forms_are_well_formed(path):
    "YAML that parses, jobs that wait for jobs which exist, commands and files that exist."
    yaml = pytest.importorskip("yaml")
    doc = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(doc, dict)
    if path.parent.name != "workflows": return
    for job in doc["jobs"].values():
        needs = job.get("needs", [])
        assert {needs} <= set(doc["jobs"]) if isinstance(needs, str) else set(needs) <= set(doc["jobs"])
        if "uses" in job: assert (ROOT/job["uses"]).is_file()
        for step in job.get("steps", []):
            assert ("run" in step) != ("uses" in step)
            for target in re.findall(r"\bmake (\w+)$", step.get("run", ""), re.M):
                assert re.search(rf"(?m)^{target}:", (ROOT/"Makefile").read_text())
