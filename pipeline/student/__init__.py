"""Room student: a small encoder trained offline on a teacher's cached answers, and exported as a timm folder.

corpus (which tiles) -> order (in which order) -> loader (batches) -> model + adapters -> objectives -> loop -> export.
"""
