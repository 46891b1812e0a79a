"""A plugin for a later cmcd: it must not even be imported."""

raise AssertionError("imported, though it needs another cmcd")
