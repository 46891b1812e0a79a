"""Does a plugin keep its contract? One file a kind of part; :mod:`cmcd_core.testing` is the way in."""
