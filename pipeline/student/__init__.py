"""Room student: a small encoder trained offline on a teacher's cached answers, and exported as a timm folder.

model + adapters -> objectives -> loop -> export, on batches of room corpus.
"""
