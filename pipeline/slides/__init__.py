"""Room slides: the slide table, what each slide is, and where its pixels are.

Imports base, params, cluster, remote and demo.
"""
