"""How the site shows a public name: as nbdev does, and below a class its properties and public methods.

settings.ini names it (`renderer = show_api.Page`), and `make docs` puts this folder on the path. nbdev runs the cells
of a notebook once more to show them. A class that was made there has no source to take the texts beside its fields
from, and no link to one: the same object of the package is shown in its place.

A long class is written in layers, private classes of the same module of which it is the last. Its page shows one class:
what the layers hold is listed as its own.
"""
import dataclasses
import importlib
import importlib.util
import inspect
import re

from fastcore.docments import docments
from nbdev.showdoc import BasicMarkdownRenderer

from ncib._modidx import d as index


def packaged(sym):
    "The object of the package that stands under the same name as `sym` of a notebook."
    found = ([module for module, names in index["syms"].items() if f"{module}.{sym.__qualname__}" in names]
             if getattr(sym, "__module__", None) == "__main__" else [])
    return getattr(importlib.import_module(found[0]), sym.__name__) if found else sym


def with_late_names(sym):
    "Loads the libraries that annotations in text name (`pandas.DataFrame`) and the module loads late."
    f = getattr(sym, "__func__", sym)
    for text in getattr(f, "__annotations__", {}).values() if inspect.isfunction(f) else ():
        for library in re.findall(r"\b(\w+)\.\w", text) if isinstance(text, str) else ():
            if library not in f.__globals__ and importlib.util.find_spec(library):
                f.__globals__[library] = importlib.import_module(library)
    return sym


def layers(cls) -> list:
    "The class, below it the private classes of its module that it is built on: lowest first."
    return [c for c in reversed(cls.__mro__)
            if c is cls or c.__module__ == cls.__module__ and c.__name__.startswith("_")]


def public_members(cls) -> dict:
    "Name → what the class or one of its layers holds, in the order in which they are written."
    return {k: v for c in layers(cls) for k, v in vars(c).items() if not k.startswith("_")}


def with_texts_of_layers(params: dict, cls) -> dict:
    "The parameters of a dataclass; fields of a layer take the texts that stand beside them there."
    for layer in filter(dataclasses.is_dataclass, layers(cls)):
        for k, text in docments(layer, returns=False).items():
            if text and k in params: params[k]["docment"] = text
    return params


class Page(BasicMarkdownRenderer):
    def __init__(self, sym, name=None, title_level=3, maxline=110):
        sym = with_late_names(packaged(sym))
        super().__init__(sym, name=name, title_level=title_level, maxline=maxline)
        self.fn = getattr(sym, "__qualname__", self.fn)
        if dataclasses.is_dataclass(sym): with_texts_of_layers(self.dm.dm, sym)

    def _repr_markdown_(self):
        kind = "class" if inspect.isclass(self.sym) else "def"
        # nbdev would make links of words in backticks
        plain = lambda code: f"```python\n{kind} {code[1].replace('`', '').replace(':NoneType=None', '=None')}```"
        out = [re.sub(r"(?s)```python\ndef (.*?)```", plain, super()._repr_markdown_())]
        if kind == "def": return out[0]
        public = public_members(self.sym)
        properties = {k: v for k, v in public.items() if isinstance(v, property) or hasattr(v, "attrname")}
        if properties:
            said = {k: " ".join((inspect.getdoc(v) or "").split()).replace("|", r"\|") for k, v in properties.items()}
            out.append("\n".join(["| property | |", "|---|---|"] + [f"| `{k}` | {text} |" for k, text in said.items()]))
        for k, v in public.items():
            if inspect.isfunction(getattr(v, "__func__", v)):
                out.append(Page(getattr(self.sym, k), name=f"{self.nm}.{k}",
                                title_level=self.title_level + 1)._repr_markdown_().removeprefix("---\n\n"))
        return "\n\n".join(out)
