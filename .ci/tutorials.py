"""Run every tutorial from top to bottom; fail on an error and where a committed notebook is stale.

``python .ci/tutorials.py [--write] [name ...]``. With ``--write`` the notebooks are written instead of compared.

A notebook is stale if its cells are not those of its .py file, or if its outputs are not those of a run: other words or
another number of figures. Numbers are not compared, as they may differ in the last digits between machines.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
TIMEOUT = 600
NUMBER = re.compile(r"^[-+±~]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?%?$|^nan$", re.IGNORECASE)


def sources() -> list[Path]:
    """Tutorials: the py:percent files."""
    return [path for path in sorted(FOLDER.glob("*.py")) if "format_name: percent" in path.read_text("utf-8")]


def notebook_of(source: Path) -> nbformat.NotebookNode:
    """The notebook of a py:percent file, without outputs; its cells have ids that stay the same."""
    notebook = jupytext.read(source)
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"
        cell["metadata"] = {}
    notebook.metadata = {
        "jupytext": {"formats": "ipynb,py:percent"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def run(notebook: nbformat.NotebookNode) -> None:
    """Execute in an empty folder, so that a tutorial sees what a reader has: no files but the package's own."""
    with TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=TIMEOUT, resources={"metadata": {"path": folder}}, record_timing=False
        ).execute()
    for cell in notebook.cells:
        cell["metadata"] = {}
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":  # names of temporary files
                output.text = re.sub(r"/\S*/ipykernel_\d+/\d+\.py:\d+: ", "", output.text)


def said(cell: nbformat.NotebookNode) -> Counter[str]:
    """What a cell put out, without numbers: its words, and its figures."""
    out: Counter[str] = Counter()
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        text = output.get("text", "") if output.output_type == "stream" else data.get("text/plain", "")
        out.update(word for word in re.split(r"[\s,;:()\[\]{}'\"]+", text) if word and not NUMBER.match(word))
        out["(figure)"] += "image/png" in data
    return out


def stale(kept: nbformat.NotebookNode, fresh: nbformat.NotebookNode) -> str:
    """Why the kept notebook is stale; empty if it is not."""
    if [cell.source for cell in kept.cells] != [cell.source for cell in fresh.cells]:
        return "its cells are not those of the .py file"
    for i, (old, new) in enumerate(zip(kept.cells, fresh.cells, strict=True)):
        before, after = said(old), said(new)
        if before != after:
            return f"cell {i} has other outputs: without {dict(before - after)}, with {dict(after - before)}"
    return ""


def main(arguments: list[str]) -> int:
    """Run the tutorials named, or all, and say which are stale."""
    write, names, n_stale = "--write" in arguments, set(arguments) - {"--write"}, 0
    for source in sources():
        if names and source.stem not in names:
            continue
        started, target = time.perf_counter(), source.with_suffix(".ipynb")
        notebook = notebook_of(source)
        if not write and not target.exists():
            print(f"{source.stem}: there is no notebook", flush=True)
            n_stale += 1
            continue
        run(notebook)
        verdict = ""
        if write:
            nbformat.write(notebook, target)
        else:
            verdict = stale(nbformat.read(target, as_version=4), notebook)
        n_stale += bool(verdict)
        print(f"{source.stem}: {time.perf_counter() - started:.0f} s {verdict and f'STALE, {verdict}'}", flush=True)
    if n_stale:
        print("Write the notebooks again: nox -s tutorials -- --write")
    return int(n_stale > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
