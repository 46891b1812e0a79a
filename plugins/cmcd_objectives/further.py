"""Further candidates beyond the batch: a first-in-first-out queue, or the whole cached source bank."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmcd_core import ConfigError, Features

from .options import QueueSize
from .space import Space

NOTHING = torch.iinfo(torch.int64).min  # an index or a group that no batch has


class Queue(nn.Module):
    """The last ``most`` source features (and, with ``target_width``, the targets' momentum features) of past batches;
    no more than there are pairs, as beyond one epoch they would be copies.

    Buffers, so that a resumed run goes on with the same queue.
    """

    source: Tensor
    target: Tensor
    index: Tensor
    group: Tensor
    count: Tensor
    place: Tensor

    def __init__(self, most: int, source_width: int, target_width: int = 0) -> None:
        super().__init__()
        self.most = most
        self.register_buffer("source", torch.zeros(0, source_width))
        self.register_buffer("target", torch.zeros(0, target_width))
        self.register_buffer("index", torch.full((0,), NOTHING))
        self.register_buffer("group", torch.full((0,), NOTHING))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._waiting: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None] | None = None
        resize_on_load(self)

    @property
    def size(self) -> int:
        """Places in the queue; none before :meth:`begin`."""
        return self.index.shape[0]

    @torch.no_grad()
    def begin(self, pairs: int, *, random: bool) -> None:
        """Start over, for a training set of ``pairs``: full of random directions that age away, or empty."""
        size = min(self.most, pairs)
        generator = torch.Generator().manual_seed(0)
        for name in ("source", "target"):
            old: Tensor = getattr(self, name)
            rows = torch.randn(size, old.shape[1], generator=generator) if random else torch.zeros(size, old.shape[1])
            setattr(self, name, rows.to(old))
        self.index, self.group = (old.new_full((size,), NOTHING) for old in (self.index, self.group))
        self.place.zero_()
        self.count.fill_(size if random else 0)

    def exclude(self, index: Tensor | None, group: Tensor | None) -> Tensor:
        """(N or 1, K) bool: entries not filled yet, older copies of others, the batch's own, and those of the anchor's
        group."""
        return self._empty() | self._copies() | same_items(self.index, self.group, index, group)

    def exclude_own(self, index: Tensor | None, group: Tensor | None) -> Tensor:
        """(N or 1, K) bool: entries not filled yet, and the anchor's own past ones or its group's. Unlike in
        :meth:`exclude`, the rest of the batch stays: for formulas in which batch mates are no candidates already."""
        own = same_items(self.index, self.group, None, group)
        if index is not None:
            own = own | (index.to(self.index)[:, None] == self.index)
        return self._empty() | own

    def _empty(self) -> Tensor:
        return torch.arange(self.size, device=self.count.device) >= self.count

    def _copies(self) -> Tensor:
        """(K,) bool: entries of an item that is there again, from a later epoch."""
        newest_first = (self.place - 1 - torch.arange(self.size, device=self.place.device)) % self.size
        index, order = self.index[newest_first].sort(stable=True)
        copies = torch.zeros_like(index, dtype=torch.bool)
        copies[newest_first[order[1:]]] = (index[1:] == index[:-1]) & (index[1:] != NOTHING)
        return copies

    def remember(
        self, source: Tensor, index: Tensor | None, group: Tensor | None, target: Tensor | None = None
    ) -> None:
        """Keep a batch until :meth:`enqueue`: it must not be its own further candidates."""
        self._waiting = (source.detach(), None if target is None else target.detach(), index, group)

    @torch.no_grad()
    def enqueue(self) -> None:
        """Put the waiting batch in, over the oldest entries; of a batch longer than the queue, its last rows."""
        if self._waiting is None:
            return
        source, target, index, group = self._waiting
        self._waiting = None
        n = min(source.shape[0], self.size)
        places = (self.place + torch.arange(n, device=self.place.device)) % self.size
        self.source[places] = source[-n:].to(self.source)
        if target is not None:
            self.target[places] = target[-n:].to(self.target)
        self.index[places] = NOTHING if index is None else index[-n:].to(self.index)
        self.group[places] = NOTHING if group is None else group[-n:].to(self.group)
        self.place.copy_((self.place + n) % self.size)
        self.count.copy_((self.count + n).clamp(max=self.size))


class Bank(nn.Module):
    """All of the source's cached features. Not saved: the cache is there whenever training goes on."""

    source: Tensor
    index: Tensor
    group: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("source", torch.zeros(0, width), persistent=False)
        self.register_buffer("index", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("group", torch.zeros(0, dtype=torch.int64), persistent=False)

    def fill(self, features: Tensor, bank: Features) -> None:
        """Take in standardised ``features`` of ``bank``; without an index, a row's index is its place."""
        device, rows = self.source.device, features.shape[0]
        self.source = features.to(device)
        self.index = torch.arange(rows, device=device) if bank.index is None else bank.index.to(self.index)
        self.group = torch.full((rows,), NOTHING, device=device) if bank.group is None else bank.group.to(self.group)

    def exclude(self, index: Tensor | None, group: Tensor | None) -> Tensor:
        """(N or 1, M) bool: the batch's own rows and those of the anchor's group."""
        return same_items(self.index, self.group, index, group)


def further_candidates(queue: QueueSize, source_width: int, target_width: int = 0) -> Queue | Bank | None:
    """What the option ``queue`` asks for."""
    if queue == "bank":
        return Bank(source_width)
    return Queue(queue, source_width, target_width) if queue else None


def attach_further(name: str, further: Queue | Bank | None, space: Space, *, bank: Features | None, pairs: int) -> None:
    """Fit the standardisation to the cached source features; take them in where they are the candidates, or begin an
    empty queue.

    ``name`` is the objective's, for messages.
    """
    space.standardise.fit(name, bank)
    if isinstance(further, Queue):
        further.begin(pairs, random=False)
    if not isinstance(further, Bank):
        return
    if bank is None:
        raise ConfigError(
            f"objective.{name}.queue=bank needs the source's cached features, and there are none",
            f"Give the queue a size, such as -o objective.{name}.queue=4096",
        )
    further.fill(space.bank(bank), bank)


def same_items(indices: Tensor, groups: Tensor, index: Tensor | None, group: Tensor | None) -> Tensor:
    """(N or 1, K) bool: entries that are in the batch by ``index`` (for every anchor: the batch's own copy is a
    candidate already), or of anchor i's ``group``."""
    same = torch.zeros(1, indices.shape[0], dtype=torch.bool, device=indices.device)
    if index is not None:
        same = same | torch.isin(indices, index.to(indices))
    if group is not None:
        same = same | (group.to(groups)[:, None] == groups)
    return same


def one_group(batch: Tensor) -> Tensor:
    """(N,) group of a formula whose only candidates beside the own slot are the queue's: no batch mate is one."""
    return torch.zeros(batch.shape[0], dtype=torch.int64, device=batch.device)


def resize_on_load(module: nn.Module) -> None:
    """Let ``module``'s own buffers take the sizes of a state that is loaded.

    Their sizes follow from the training set, which an objective that is only loaded has not been attached to.
    """
    module.register_load_state_dict_pre_hook(_take_sizes)  # type: ignore[no-untyped-call]


def _take_sizes(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    for name, buffer in list(module.named_buffers(recurse=False)):
        saved = state.get(prefix + name)
        if saved is not None and saved.shape != buffer.shape:
            setattr(module, name, buffer.new_empty(saved.shape))
