"""Sessions for users and developers: ``nox -s demo``, ``nox -s tests`` and so on; ``nox -l`` lists them."""

from __future__ import annotations

from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
CONSTRAINTS = Path(".ci", "constraints.txt").resolve()
PEERS = {
    "meld": ("meld", "numpy<2", "scipy<1.14", "scikit-learn<1.6"),  # MELD keeps pandas 2.0, which keeps the others
    "kompot": ("kompot",),
    "milo": ("pertpy", "pydeseq2", "filelock", "statsmodels<0.15"),  # pertpy needs the last two and does not say so
    "mrvi": ("scvi-tools", "scikit-misc", "scanpy"),
}
"""What the environments of peers need. Slow ones (MrVI; kompot where it has to be quick) run where they are named."""


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


@nox.session(reuse_venv=True)
def benchmarks(session: nox.Session) -> None:
    """Compare with the peers and write the page of the documentation; `-- quick` in minutes, `-- mrvi` with MrVI."""
    session.install("-e", ".", *_group("benchmarks"))
    folder, quick = Path(session.create_tmp()).resolve(), "quick" in session.posargs
    slow = {"mrvi", "kompot"} if quick else {"mrvi"}
    pythons = [_peer(session, name, folder) for name in PEERS if name not in slow or name in session.posargs]
    options = [arg for arg in session.posargs if arg not in {"quick", *PEERS}]
    table = folder / "comparison.csv" if quick else Path("docs", "method", "comparison.csv")
    options += ["--quick"] if quick else []
    options += ["--python", *filter(None, pythons)] if any(pythons) else []
    session.run("python", "benchmarks/comparison.py", str(table), *options)
    session.run("python", "benchmarks/report.py", str(table), str(table.parent), env={"MPLBACKEND": "Agg"})
    session.log(f"Table and figures lie in {table.parent}.")


def _peer(session: nox.Session, name: str, folder: Path) -> str | None:
    """NAME=PYTHON of an environment of its own; None, with a line that says so, where the peer does not install."""
    python = folder / name / "bin" / "python"
    if not (folder / name / "installed").exists():
        session.run("python", "-m", "venv", "--clear", str(folder / name))
        pip = [str(python), "-m", "pip", "install", "--quiet", *PEERS[name]]
        constraint = {"PIP_CONSTRAINT": str(CONSTRAINTS)}  # one torch, not one for each peer
        session.run(*pip, env=constraint, external=True, success_codes=range(256))
        modules = {"meld": "meld", "kompot": "kompot", "milo": "pertpy, pydeseq2", "mrvi": "scvi"}
        check = f"import {modules[name]}, pathlib; pathlib.Path('{folder / name}', 'installed').touch()"
        session.run(str(python), "-c", check, external=True, success_codes=range(256))
    if not (folder / name / "installed").exists():
        session.warn(f"{name} does not install here and is left out.")
        return None
    return f"{name}={python}"


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
    known = (built / "empty" / "bin" / "python", built / "empty" / "Scripts" / "python.exe")
    python = str(next(path for path in known if path.exists()))
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel_file), external=True)
    session.chdir(built)  # away from src/
    session.run(python, str(quickstart), env={"MPLBACKEND": "Agg"}, external=True)
