"""Room corpus: what a student is trained on, as batches in an order that a step number determines.

corpus (which tiles) -> order (in which order) -> ahead (what comes next) -> loader (batches);
statistics and targets (in which units).
"""
