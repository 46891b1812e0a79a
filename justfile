# The steps of .ci/run one by one, in the active environment. `just` lists them.

default:
    @just --list

# this repository, editable, with the tools that check it
install:
    python -m pip install -e '.[dev]'

# all but the long tests
test *arguments:
    python -m pytest {{arguments}}

# the long tests
slow *arguments:
    python -m pytest -m slow --durations=5 {{arguments}}

lint:
    ruff check .
    ruff format --check .

# put right what ruff can
fix:
    ruff check --fix .
    ruff format .

types:
    mypy

# who may import whom
imports:
    lint-imports

# what the docs take from the code, then the site in docs/_build
docs:
    python docs/reference.py
    sphinx-build -W --keep-going -q docs docs/_build

# sdist and wheel in dist/, as they would be published
dist:
    python -m build
    twine check --strict dist/*

# what must pass before a commit
check: lint types imports test

# everything, from fresh environments
ci:
    .ci/run

# the whole method on generated data
demo:
    cmcd run --source image --target depth

# every benchmark, into docs/performance.md
bench *arguments:
    python -m tests.benchmarks {{arguments}}
