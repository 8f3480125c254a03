# The commands of a developer; `just` without a name lists them. CONTRIBUTING.md says what each one is for.

set positional-arguments  # words with blanks reach pytest whole, as in -k "metric and speed"

# Every test process would compile all modules again: without byte code, collecting the tests takes twice as long.
export PYTHONDONTWRITEBYTECODE := ""

_list:
    @just --list --unsorted

# the fast tests: under two minutes on two cores
test *arguments:
    pytest -n auto "$@"

# every test, with larger random searches and the coverage of the code
test-all *arguments:
    HYPOTHESIS_PROFILE=thorough pytest -n auto -m "slow or not slow" --cov --cov-report=term:skip-covered "$@"

# what a commit must satisfy besides the tests
lint:
    ruff check .
    ruff format --check .
    typos
    taplo fmt --check
    mypy
    lint-imports

# correct what can be corrected by itself
fix:
    ruff check --fix .
    ruff format .
    typos --write-changes
    taplo fmt

# the speed of denoisers, metrics, readers and of benchbox itself, beside other implementations
bench *arguments:
    pytest tests/benchmarks -m "slow or not slow" --dist no --benchmark-enable -s "$@"

# the manual, as pages in build/site; a warning is an error
docs:
    mkdocs build --strict
