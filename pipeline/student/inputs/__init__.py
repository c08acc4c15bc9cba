"""What is done to a batch on the device before the step: one small file a change, and what is drawn for it."""

from pipeline.student.inputs.changes import Changes
from pipeline.student.inputs.draws import Draws
from pipeline.student.inputs.inputs import Inputs
from pipeline.student.inputs.mixing import Mixing, pairs_stay_together

__all__ = ["Changes", "Draws", "Inputs", "Mixing", "pairs_stay_together"]
