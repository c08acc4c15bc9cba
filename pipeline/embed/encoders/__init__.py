"""What answers tiles: uint8 images in, embeddings out, from as many threads at once as there are cores.

The files that an exported student ships with (files.py) need no torch; networks that are torch modules (modules.py) do.
`choose.py` says which engine is used, `Encoder` is what all of them are.
"""
