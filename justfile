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

wheel:
    python -m build --wheel

# what must pass before a commit
check: lint types imports test

# everything, from fresh environments
ci:
    .ci/run

# the whole method on generated data
demo:
    cmcd run --source image --target depth
