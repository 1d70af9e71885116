from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import metadata, resources

import anndata
import pytest

import scratio_sc

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", flags=re.MULTILINE)


def public_functions(*rooms: str) -> list:
    return [
        pytest.param(getattr(getattr(scratio_sc, room), name), id=f"{room}.{name}")
        for room in rooms
        for name in getattr(scratio_sc, room).__all__
        if inspect.isfunction(getattr(getattr(scratio_sc, room), name))
    ]


def is_annotated(annotation: object, expected: str) -> bool:
    """Annotations are strings in modules with `from __future__ import annotations`, objects elsewhere."""
    return annotation in (expected, eval(expected, {"AnnData": anndata.AnnData}))


def sections(docstring: str) -> dict[str, str]:
    _, *parts = SECTION.split(docstring)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("room", ["datasets", "get", "pl", "tl"])
def test_public_names_exist(room):
    module = getattr(scratio_sc, room)
    assert module.__all__
    assert sorted(module.__all__) == list(module.__all__), "sorted, so that the API page and dir() are"
    for name in module.__all__:
        assert not name.startswith("_")
        assert getattr(module, name).__module__.startswith("scratio_sc.")


@pytest.mark.parametrize("function", public_functions("tl", "pl"))
def test_signature(function):
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    assert parameters[0].name == "adata"
    assert is_annotated(parameters[0].annotation, "AnnData")
    assert 1 <= len(positional) <= 3
    assert not any(p.kind is p.VAR_POSITIONAL for p in parameters)
    for parameter in parameters:
        if parameter.kind is not parameter.VAR_KEYWORD:
            assert parameter.annotation is not parameter.empty, parameter.name
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("function", public_functions("tl"))
def test_signature_of_copy(function):
    signature = inspect.signature(function)
    if "copy" not in signature.parameters:
        pytest.skip("writes nothing into adata")
    copy = signature.parameters["copy"]
    assert copy.kind is copy.KEYWORD_ONLY
    assert copy.default is False
    assert is_annotated(copy.annotation, "bool")
    assert is_annotated(signature.return_annotation, "AnnData | None")


@pytest.mark.parametrize("function", public_functions("pl"))
@pytest.mark.parametrize("name", ["ax", "show", "return_fig"])
def test_signature_of_plots(function, name):
    parameters = inspect.signature(function).parameters
    assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters[name].default in (None, False)
    assert "save" not in parameters, "scanpy gives it up; figures are saved by their own method"


@pytest.mark.parametrize("function", public_functions("tl", "pl", "get", "datasets"))
def test_docstring(function):
    docstring = inspect.getdoc(function)
    assert docstring
    assert docstring.splitlines()[0].endswith(".")
    found = sections(docstring)
    parameters = inspect.signature(function).parameters
    assert {"Returns", "Examples"} <= set(found)
    assert ">>> " in found["Examples"]
    if parameters:
        # a definition is "name" or "name, other", with nothing before it on its line
        documented = re.findall(r"^(\S.*)$", found["Parameters"], flags=re.MULTILINE)
        names = [name.strip().lstrip("*") for line in documented for name in line.partition(" : ")[0].split(",")]
        assert names == list(parameters), "every parameter, in the order of the signature"


def test_import_is_light():
    """What only some calls need is imported by those calls."""
    source = "import sys, scratio_sc; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "scratio_sc" in loaded
    assert not loaded & {"torchdyn", "matplotlib.pyplot", "pytorch_lightning", "torchvision"}


def test_metadata():
    assert metadata.version("scratio-sc") == scratio_sc.__version__
    assert resources.files(scratio_sc).joinpath("py.typed").is_file()
