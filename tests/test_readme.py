from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt

README = Path(__file__).parents[1] / "README.md"


def _python_blocks(text: str) -> list[tuple[int, str]]:
    """Line number and source of every block that starts with ```python."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in found]


def test_examples_run(tmp_path, monkeypatch):
    """The blocks run one after the other, as a reader would run them, and write nothing outside their directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: None)
    blocks = _python_blocks(README.read_text(encoding="utf-8"))
    assert blocks
    namespace: dict[str, object] = {"__name__": "readme"}
    for line, source in blocks:
        # leading newlines make a traceback point at the line of the README
        exec(compile("\n" * line + source, str(README), "exec"), namespace)


def test_first_block_stands_alone():
    _, first = _python_blocks(README.read_text(encoding="utf-8"))[0]
    assert "import scratio_sc as scratio" in first
    assert "scratio.datasets.pbmc68k()" in first
