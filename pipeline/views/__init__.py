"""Views: the exact inputs that a teacher's answers belong to, as numbers that are replayed on the student's input.

A cached target belongs to one input. Mirroring a cached token grid is not the teacher's answer for the mirrored tile,
and no arithmetic gives its answer for a crop or another stain, so augmentation is a set of cached views: the first
`tokens.views` elements of the square's symmetry group, the same for every tile, and `tokens.augment.views` more, each
with a random element, crop and stain of its own (fields.py), which are kept beside the tokens (array.py). A view is
applied in this order:

    crop      a square box of the tile, resized to the side that is asked for (crop.py)
    stain     the strength of haematoxylin, eosin and the residual, scaled and shifted (stain.py)
    element   mirrored, turned (dihedral.py)

All three are integer arithmetic on uint8, so that teacher and student see the same bytes on any machine: one tile at a
time with numpy in the loader's threads (`view_of_tile`), or a batch at once on the teacher's device (`apply_views`).
"""

from pipeline.views.array import StoredViews, fields_array, fields_nbytes, source_px, stores_fields
from pipeline.views.batch import apply_views
from pipeline.views.dihedral import N_ELEMENTS, apply_view
from pipeline.views.fields import Place, batch_fields, view_fields
from pipeline.views.tile import view_of_tile

__all__ = [
    "N_ELEMENTS",
    "Place",
    "StoredViews",
    "apply_view",
    "apply_views",
    "batch_fields",
    "fields_array",
    "fields_nbytes",
    "source_px",
    "stores_fields",
    "view_fields",
    "view_of_tile",
]
