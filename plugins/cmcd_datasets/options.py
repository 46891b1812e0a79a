"""Options that several loaders share."""

from __future__ import annotations

from cmcd_core.plugin import Field, LoaderOptions


class SplitOptions(LoaderOptions):
    """How splits are made where the data set brings none."""

    val_share: float = Field(
        0.15, ge=0, lt=0.5, description="Share of the rows for val, where the data has no such split."
    )
    test_share: float = Field(
        0.2, ge=0, lt=0.5, description="Share of the rows for test, where the data has no split at all."
    )
    split_seed: int = Field(0, ge=0, description="Draws the splits that are made here.")
