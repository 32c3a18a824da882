"""Everything is in pyproject.toml but the long description: README.md has links relative to the repository, and the
package index needs whole ones."""
import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
URLS = tomllib.loads((ROOT/"pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]


def page(notebook: str) -> str:
    "Where the site has a notebook: nbdev takes the number off its name."
    folder, slash, name = notebook.rpartition("/")
    return folder + slash + re.sub(r"^\d+[a-z]?_", "", name).replace(".ipynb", ".html")


def whole(link: re.Match) -> str:
    """A link of README.md as it works outside the repository: notebooks are pages of the site, pictures come raw, other
    files are shown by the code host."""
    image, text, target = link.groups()
    if target.startswith(("https://", "http://", "#", "mailto:")): return link[0]
    if image: return f"![{text}]({URLS['Source'].replace('github.com', 'raw.githubusercontent.com')}/main/{target})"
    if target.startswith("nbs/"): return f"[{text}]({URLS['Documentation']}/{page(target.removeprefix('nbs/'))})"
    return f"[{text}]({URLS['Source']}/blob/main/{target})"


def long_description() -> str:
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", whole, (ROOT/"README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    setup(long_description=long_description(), long_description_content_type="text/markdown")
