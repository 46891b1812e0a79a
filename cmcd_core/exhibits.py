"""What the report shows of the encoders and the data: made at a run's end, so that the report needs neither."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import Step
from .data.arrays import evenly
from .files import replacing, write_json
from .inspection.look import from_afar
from .inspection.pairing import features, together
from .interfaces.loader import Split
from .latents import BeforeAndAfter, Latents
from .pictures import show_safely
from .report.pictures import write_picture
from .run_folder import RunFolder
from .workbench import Side, Workbench

SIDES: tuple[Side, ...] = ("source", "target")
ON_MAP = 150
"""Pairs on the map: more would hide each other, and cost seconds."""
QUERIES, FOUND = 6, 5
PAIRS = 8
LOOKED_AT = 400
"""Training pairs whose belonging together is tested."""
TSNE_STEPS = 400
SMALLEST_MAP = 4
ROUNDING = 1e-9
"""Cosines that differ by less are the same."""


@dataclass(frozen=True)
class Exhibits:
    """Writes each exhibit into ``report/`` of a run's folder; what cannot be shown is told, and harms nothing else."""

    bench: Workbench
    folder: RunFolder

    def of_encoders(self, found: BeforeAndAfter | None) -> None:
        """After step 2: the map, the ranks of the partners, and what is retrieved for what."""
        if found is None:
            return
        self._show("the map of both modalities", lambda: self._space(found))
        self._show("what is retrieved", lambda: self._retrieval(found))

    def of_data(self, step: Step) -> None:
        """Training samples as the encoders see them, and whether pairs belong together."""
        self._show("pictures of the data", lambda: self._seen(step))
        if step == "distill":
            self._show("whether pairs belong together", self._pairing)

    def _show(self, what: str, show: Callable[[], None]) -> None:
        show_safely(what, show, self.bench.note)

    def _space(self, found: BeforeAndAfter) -> None:
        """``space.npz`` and ``space.json``: 2-D maps, and each partner's rank among all."""
        keys = found.after.keys
        shown = evenly(len(keys), ON_MAP)
        arrays: dict[str, np.ndarray] = {"key": np.asarray(keys)[shown]}
        about: dict[str, Any] = {"split": found.split, "pairs": len(keys), "space": found.after.space}
        about["explained"] = {}
        for when, latents in (("before", found.before), ("after", found.after)):
            arrays |= {f"{when}_rank_{side}": ranks(latents, side) for side in SIDES}
            flat, explained = flattened(latents, shown)
            arrays |= {f"{when}_{name}": points.astype(np.float32) for name, points in flat.items()}
            about["explained"][when] = explained
        about["classes"], arrays["class"] = self._classes(found.split, [keys[at] for at in shown])
        with replacing(self._place / "space.npz") as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        write_json(self._place / "space.json", about)

    def _classes(self, split: Split, keys: Sequence[str]) -> tuple[list[str] | None, np.ndarray]:
        """Names, and the class of each key (-1: none), by the first task whose targets have classes."""
        samples = {sample.key: sample for sample in self.bench.samples("distill", split)}
        loader = self.bench.resolved.places["distill"].loader
        for _, task in self.bench.tasks():
            names = loader.classes.get(task.target_name)
            if task.spatial or not names:
                continue
            of = [samples[key].targets.get(task.target_name) for key in keys]
            strata = [None if value is None else task.stratum(task.target(value)) for value in of]
            return list(names), np.asarray([-1 if stratum is None else stratum for stratum in strata])
        return None, np.full(len(keys), -1)

    def _retrieval(self, found: BeforeAndAfter) -> None:
        """``retrieval.json`` and its pictures: some held-out samples of each side, and the nearest of the other."""
        latents, keys = found.after, found.after.keys
        asked = evenly(len(keys), QUERIES).tolist()
        pictures = _Pictures(self, "retrieval")
        rows = []
        for side in SIDES:
            other: Side = "target" if side == "source" else "source"
            cosines, rank = _cosines(latents, side), ranks(latents, side)
            nearest = cosines.sort(dim=1, descending=True, stable=True)
            for query in asked:
                near = nearest.indices[query, :FOUND].tolist()
                rows.append(
                    {
                        "side": side,
                        "query": keys[query],
                        "rank": int(rank[query]),
                        "picture": pictures.whole("distill", found.split, side, keys[query]),
                        "found": [
                            {
                                "key": keys[at],
                                "own": at == query,
                                "cosine": round(float(cosines[query, at]), 4),
                                "picture": pictures.whole("distill", found.split, other, keys[at]),
                            }
                            for at in near
                        ],
                    }
                )
        write_json(self._place / "retrieval.json", {"split": found.split, "among": len(keys), "queries": rows})

    def _seen(self, step: Step) -> None:
        """``seen.json`` and its pictures: training samples whole, and as one crop of the training shows them."""
        sides = [side for side in SIDES if self._has(step, side)]
        views = {side: self.bench.views(step, side, "train") for side in sides}
        common = sorted(set.intersection(*(set(each.decoded.keys) for each in views.values())))
        chosen = [common[at] for at in evenly(len(common), PAIRS)]
        pictures = _Pictures(self, "seen")
        rows = [
            {
                "key": key,
                "views": {
                    side: [
                        pictures.whole(step, "train", side, key),
                        pictures.drawn(step, "train", side, key, seed=number),
                    ]
                    for side in sides
                },
            }
            for number, key in enumerate(chosen)
        ]
        sizes = {side: list(views[side].plain(np.zeros(1, np.int64)).shape[1:]) for side in sides}
        write_json(self._place / "seen.json", {"step": step, "inputs": sizes, "samples": rows})

    def _has(self, step: Step, side: Side) -> bool:
        if side == "target" and self.bench.resolved.config.target is None:
            return False
        if (step, side) in (("pretrain", "target"), ("evaluate", "source")):
            return False
        name = self.bench.bound(self.bench.resolved.places[step], side).name
        return any(name in sample.views for sample in self.bench.samples(step, "train"))

    def _pairing(self) -> None:
        """``pairing.json``: what the loader says of its pairs, how many items they are, and the permutation test."""
        source, target = (self.bench.views("distill", side, "train") for side in SIDES)
        rows, at_source, at_target = np.intersect1d(source.decoded.rows, target.decoded.rows, return_indices=True)
        _, first = np.unique(source.decoded.names[at_source], return_index=True)  # five sketches of a photo are one
        _, alone = np.unique(target.decoded.names[at_target[first]], return_index=True)
        first = np.sort(first[alone])
        chosen = first[evenly(len(first), LOOKED_AT)]
        place = self.bench.resolved.places["distill"]
        far = []
        for side, views, at in (("source", source, at_source), ("target", target, at_target)):
            bound = self.bench.bound(place, side)  # type: ignore[arg-type]
            far.append(features([from_afar(views.decoded.batch(at[[row]])[0], bound) for row in chosen]))
        statistic, chance, p = together(far[0], far[1])
        tested = {"tested": len(chosen), "p": p} | ({} if p is None else {"statistic": statistic, "chance": chance})
        about = {"pairs": len(rows), "source_items": len(np.unique(source.decoded.names[at_source]))}
        write_json(self._place / "pairing.json", {**about, "kind": place.loader.pairs, **tested})

    @property
    def _place(self) -> Path:
        return self.folder.path / "report"


class _Pictures:
    """Pictures of one exhibit, each file once; what an earlier run of it left is removed."""

    def __init__(self, exhibits: Exhibits, name: str) -> None:
        self.bench, self.place = exhibits.bench, exhibits.folder.path / "report" / name
        self.known: dict[tuple[Any, ...], str] = {}
        self.rows: dict[tuple[Any, ...], Mapping[str, int]] = {}
        shutil.rmtree(self.place, ignore_errors=True)

    def whole(self, step: Step, split: Split, side: Side, key: str) -> str:
        """A sample as the encoder sees it, whole; the file's path within ``report/``."""
        return self._kept((step, split, side, key), lambda views, at: views.whole(at))

    def drawn(self, step: Step, split: Split, side: Side, key: str, seed: int) -> str:
        """One crop of it, augmented as in training."""
        config = self.bench.resolved.config
        recipe = config.pretrain if step == "pretrain" else config.distill
        return self._kept(
            (step, split, side, key, seed),
            lambda views, at: views.drawn(at, seed, area_min=recipe.crop_min, flip=recipe.flip),
        )

    def _kept(self, which: tuple[Any, ...], make: Callable[[Any, np.ndarray], Tensor]) -> str:
        if which not in self.known:
            step, split, side, key = which[:4]
            views = self.bench.views(step, side, split)
            places = self.rows.setdefault((step, split, side), {k: at for at, k in enumerate(views.decoded.keys)})
            view = make(views, np.asarray([places[key]]))[0].float().cpu()
            bound = self.bench.bound(self.bench.resolved.places[step], side)
            name = f"{side}-{len(self.known):03d}.jpg"
            write_picture(bound.modality.picture(view), self.place / name)
            self.known[which] = f"{self.place.name}/{name}"
        return self.known[which]


def _cosines(latents: Latents, side: Side) -> Tensor:
    """(n, n) cosines of one side's samples (rows) with the other's."""
    a, b = (F.normalize(x.double(), dim=1) for x in (latents.source, latents.target))
    return a @ b.T if side == "source" else b @ a.T


def ranks(latents: Latents, side: Side) -> np.ndarray:
    """(n,) for each sample of ``side``, at which place among the other's its own partner comes, by cosine; 1: first.

    Those that are just as near count half, so that constant features are at chance.
    """
    cosines = _cosines(latents, side)
    own = cosines.diagonal()[:, None]
    nearer, equal = (cosines > own + ROUNDING).sum(1), ((cosines - own).abs() <= ROUNDING).sum(1) - 1
    found: np.ndarray = (1 + nearer + torch.div(equal, 2, rounding_mode="floor")).numpy()
    return found


def flattened(latents: Latents, shown: np.ndarray) -> tuple[dict[str, np.ndarray], list[float]]:
    """(2, n, 2) source's and target's points by ``pca`` and by ``tsne``, and what share of variance the PCA shows.

    Both are fitted on both modalities together, at unit length, as retrieval compares them. Each modality's mean is
    taken away: the offset between modalities would be all that is seen, and says nothing of which pairs match.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    units = [F.normalize(x.double(), dim=1) for x in (latents.source, latents.target)]
    both = torch.cat([(unit - unit.mean(0))[shown] for unit in units]).numpy()
    count = len(both)
    if both.shape[1] < 2 or len(shown) < SMALLEST_MAP:
        return {}, []
    pca = PCA(2, svd_solver="full").fit(both)
    out = {"pca": pca.transform(both)}
    perplexity = min(30.0, (count - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", max_iter=TSNE_STEPS, random_state=0, n_jobs=1)
    out["tsne"] = tsne.fit_transform(both.astype(np.float32))
    return {name: points.reshape(2, -1, 2) for name, points in out.items()}, pca.explained_variance_ratio_.tolist()
