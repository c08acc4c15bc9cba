"""Room inputs: what is done to a batch on the device before a step: one small file a change, and what is drawn for it.

Tiles mixed with one another, stained otherwise, blurred and compressed; targets follow where they have to.
"""

from pipeline.inputs.changes import Changes
from pipeline.inputs.draws import Draws
from pipeline.inputs.inputs import Inputs
from pipeline.inputs.mixing import Mixing, pairs_stay_together

__all__ = ["Changes", "Draws", "Inputs", "Mixing", "pairs_stay_together"]
