"""Every objective as a pure function on plain tensors, for anyone's own loop.

The first argument is the source (teacher), the second the target (student); rows are pairs; a scalar comes out. No
function detaches its inputs: compute the source's features without gradient.

Of large batches, cmd, cmc, nt_xent, siglip, seed and compress never hold a similarity matrix: their memory grows with
N, and their gradient cannot be differentiated again (``tiles.py`` says from which size on).
"""

from __future__ import annotations

from .contrast import cmc, nt_xent, siglip
from .moments import barlow_twins, coral, cs, mmd, vicreg
from .queued_distillation import compress, cwcl, dense_cmd, seed
from .regression import cosine, hint, l2, socket, srd, unic, vkd
from .relational import cc, cka, pkt, rkd, sp
from .similarity_distillation import cmd

__all__ = [
    "barlow_twins",
    "cc",
    "cka",
    "cmc",
    "cmd",
    "compress",
    "coral",
    "cosine",
    "cs",
    "cwcl",
    "dense_cmd",
    "hint",
    "l2",
    "mmd",
    "nt_xent",
    "pkt",
    "rkd",
    "seed",
    "siglip",
    "socket",
    "sp",
    "srd",
    "unic",
    "vicreg",
    "vkd",
]
