"""What holds for every plugin and every part: light to import, described, its options kept and found again."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .findings import Check, Failed, Skipped, Subject, require
from .process import in_new_process

HEAVY = (
    "torch",
    "torchvision",
    "torchaudio",
    "torchmetrics",
    "timm",
    "lightning_fabric",
    "scipy",
    "matplotlib",
    "pandas",
    "sklearn",
    "cv2",
    "tensorflow",
    "jax",
)
"""Each of these takes a good part of a second to import."""


def light(subject: Subject) -> None:
    """Importing the plugin and calling its hooks, in a new process."""
    found = in_new_process(subject.plugin, {"do": "import", "heavy": HEAVY})
    require(
        not found,
        "; ".join(f"{where} imports {name}" for name, where in found.items()),
        "Import it inside build(), or in a module that build() imports.",
    )


def says_its_cmcd(subject: Subject) -> None:
    """A later cmcd may change the interfaces: the plugin is then listed as incompatible, and not loaded."""
    name = subject.plugin.distribution
    if canonicalize_name(name) == "cmcd":
        return
    try:
        needed = requires(name) or ()
    except PackageNotFoundError:
        raise Skipped("it belongs to no installed distribution") from None
    if not any(_is_cmcd(text) for text in needed):
        raise Failed(
            f"the dependencies of {name} do not name cmcd",
            'In pyproject.toml: dependencies = ["cmcd>=0.1,<0.2", …], with the versions that you test with.',
        )


def _is_cmcd(text: str) -> bool:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    return canonicalize_name(requirement.name) == "cmcd" and bool(requirement.specifier)


def described(subject: Subject) -> None:
    """`cmcd plugins show` and the docs have nothing else to say of it."""
    require(bool(subject.part.summary.strip()), "its summary is empty", "One sentence: what is it?")
    fields = subject.part.options.model_fields
    missing = [name for name, option in fields.items() if not (option.description or "").strip()]
    require(
        not missing,
        f"no description: {', '.join(missing)}",
        f'{missing[0] if missing else ""}: … = Field(DEFAULT, description="What it does.")',
    )


def has_defaults(subject: Subject) -> None:
    """`--target NAME` alone has to work."""
    fields = subject.part.options.model_fields
    missing = [name for name, option in fields.items() if option.is_required() and name not in subject.given]
    require(not missing, f"no default: {', '.join(missing)}", "Give each option a default that suits most data.")
    assert subject.options is not None


def strict(subject: Subject) -> None:
    """Options are part of what a cache entry is found by, and a misspelt one is an error."""
    config = subject.part.options.model_config
    require(
        config.get("extra") == "forbid" and bool(config.get("frozen")),
        'its model_config does not have extra="forbid" and frozen=True',
        "Leave model_config as cmcd_core.plugin.Options has it.",
    )


def kept(subject: Subject) -> None:
    """As config.toml and an encoder's config.json keep them."""
    options = subject.options
    written = options.model_dump(mode="json")
    again = type(options).model_validate({key: value for key, value in written.items() if value is not None})
    changed = [name for name in type(options).model_fields if getattr(again, name) != getattr(options, name)]
    require(
        not changed,
        f"changed by writing and reading: {', '.join(changed)}",
        "Use numbers, texts, booleans, Literal, Path, and tuples of these.",
    )


OF_A_PLUGIN: tuple[Check, ...] = (
    ("light: to import it and call its hooks imports no torch", light),
    ("its distribution says which versions of cmcd it needs", says_its_cmcd),
)
OF_A_PART: tuple[Check, ...] = (
    ("it and every option are described", described),
    ("every option has a default", has_defaults),
    ("options are frozen, and a misspelt one is refused", strict),
    ("options are the same after they were written and read", kept),
)
