"""A slide's label from a student's features: gated attention MIL (Ilse, Tomczak, Welling, ICML 2018) in plain PyTorch.

    histill embed slides.csv --out features --format clam
    python examples/abmil.py features slides.csv

The table has columns `path` (or `slide_id`), `label` and `split`; slides of the split `train` are learnt from, all
others are answered, and those without features (left out by `histill embed`) are passed over. Nothing here is
Histill's: it reads CLAM's `pt_files` and `h5_files`, as CLAM itself does.

Shapes: N tiles of a slide, D channels, H inner width, C classes.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import h5py
import torch
from torch import Tensor, nn

HIDDEN, SEED = 128, 0


class GatedAttention(nn.Module):
    """A weight for each tile, the slide as their weighted mean, and its classes from that."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU())
        self.content, self.gate = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.score, self.leave = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, classes)

    def forward(self, tile_ND: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (C,), weights (N,) that sum to 1)."""
        tile_NH = self.enter(self.norm(tile_ND))
        score_N = self.score(torch.tanh(self.content(tile_NH)) * torch.sigmoid(self.gate(tile_NH))).squeeze(1)
        weight_N = score_N.softmax(0)
        return self.leave(weight_N @ tile_NH), weight_N


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows that have a label, each with its `slide_id`."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"]]
    return [{**row, "slide_id": row.get("slide_id") or Path(row["path"].replace(":", "-")).stem} for row in rows]


def train(model: GatedAttention, slides: list[tuple[Tensor, int]], epochs: int) -> None:
    """One slide a step."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(epochs):
        for i in torch.randperm(len(slides)).tolist():
            tile_ND, label = slides[i]
            loss = nn.functional.cross_entropy(model(tile_ND)[0], torch.tensor(label))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def main(words: list[str] | None = None) -> None:
    """Learn, answer the other slides, and say which tile each answer rests on most; the last line is JSON."""
    parser = argparse.ArgumentParser(description="attention MIL on the features of `histill embed --format clam`")
    parser.add_argument("features", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args(words)
    torch.manual_seed(SEED)
    pt_files = args.features / "pt_files"
    rows = [row for row in read_table(args.table) if (pt_files / f"{row['slide_id']}.pt").exists()]
    classes = sorted({row["label"] for row in rows})
    features = {row["slide_id"]: torch.load(pt_files / f"{row['slide_id']}.pt", weights_only=True) for row in rows}
    learnt = [(features[row["slide_id"]], classes.index(row["label"])) for row in rows if row["split"] == "train"]
    model = GatedAttention(learnt[0][0].shape[1], len(classes))
    train(model, learnt, args.epochs)
    right, held_out = 0, [row for row in rows if row["split"] != "train"]
    for row in held_out:
        with torch.inference_mode():
            logit_C, weight_N = model.eval()(features[row["slide_id"]])
        with h5py.File(args.features / "h5_files" / f"{row['slide_id']}.h5") as file:
            x, y = file["coords"][int(weight_N.argmax())].tolist()
        answer = classes[int(logit_C.argmax())]
        right += answer == row["label"]
        print(f"{row['slide_id']}: {answer} (is {row['label']}), most of all by the tile at {x}, {y}")
    print(json.dumps({"trained_on": len(learnt), "held_out": len(held_out), "right": right}))


if __name__ == "__main__":
    main()
