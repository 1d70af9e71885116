"""Sessions for users and developers: ``nox -s demo``, ``nox -s tests`` and so on; ``nox -l`` lists them."""

from __future__ import annotations

from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
CONSTRAINTS = Path(".ci", "constraints.txt").resolve()


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def _run_tests(session: nox.Session, *arguments: str) -> None:
    session.install("-e", ".", *_group("test"))
    session.run("pytest", *arguments, *session.posargs, env={"MPLBACKEND": "Agg"})


@nox.session
def demo(session: nox.Session) -> None:
    """Install the package and run its main job on real cells; the results lie in demo/."""
    session.install(".")
    session.run("python", "tutorials/demo.py", env={"MPLBACKEND": "Agg"})


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, doctests and README examples on the Python that runs nox."""
    _run_tests(session)


@nox.session(name="tests-3.12", python="3.12")
def tests_312(session: nox.Session) -> None:
    """The same on Python 3.12."""
    _run_tests(session)


@nox.session(name="tests-3.13", python="3.13")
def tests_313(session: nox.Session) -> None:
    """The same on Python 3.13."""
    _run_tests(session)


@nox.session(name="tests-lowest", python="3.11")
def tests_lowest(session: nox.Session) -> None:
    """The same on the lowest Python with the lowest versions that pyproject.toml allows, torch excepted."""
    # An old torch on Linux brings 3 GB of CUDA libraries, so torch comes from the constraints file.
    # This session therefore does not show that the lower bound of torch holds.
    requirements = [Requirement(dependency) for dependency in PYPROJECT["project"]["dependencies"]]
    lowest = [
        f"{requirement.name}=={specifier.version}"
        for requirement in requirements
        for specifier in requirement.specifier
        if specifier.operator == ">=" and requirement.name != "torch"
    ]
    session.env["PIP_CONSTRAINT"] = str(CONSTRAINTS)
    session.install("-e", ".", *lowest, *_group("test"))
    # Old releases meet newer ones of their own dependencies here; their warnings are not ours to mend.
    session.run("pytest", "-W", "default", *session.posargs, env={"MPLBACKEND": "Agg"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(*_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package."""
    session.install("-e", ".", *_group("types"))
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html; every warning is an error."""
    session.install("-e", ".", *_group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def tutorials(session: nox.Session) -> None:
    """Run every tutorial; fails on an error or a stale notebook. `-- --write` writes them, `-- NAME` runs one."""
    session.install("-e", ".", *_group("tutorials"))
    session.run("python", ".ci/tutorials.py", *session.posargs, env={"MPLBACKEND": None})


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it into this empty environment and run the quickstart from elsewhere."""
    built = Path(session.create_tmp()).resolve()
    quickstart = Path("tutorials", "quickstart.py").resolve()
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(built / "dist"))
    (wheel_file,) = sorted((built / "dist").glob("*.whl"))
    session.run("python", "-m", "venv", "--clear", str(built / "empty"))
    python = str(next((built / "empty").glob("*/python*")).parent / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel_file), external=True)
    session.chdir(built)  # away from src/
    session.run(python, str(quickstart), env={"MPLBACKEND": "Agg"}, external=True)
