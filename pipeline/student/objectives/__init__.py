"""One small file an objective: a function of (prediction, standardised target) that returns a scalar in fp32."""

from pipeline.student.objectives.cls import cls_loss
from pipeline.student.objectives.contrastive import contrastive_loss
from pipeline.student.objectives.patch import patch_loss, unremarkable
from pipeline.student.objectives.relation import relation_loss

OBJECTIVES = ("cls", "patch", "relation")
"""Their names in params, in the curve and on the model card."""
NESTED = "nested"
"""That of the mean over nested sizes, which is compared as `cls` is and is there with `student.nested` alone."""

__all__ = ["NESTED", "OBJECTIVES", "cls_loss", "contrastive_loss", "patch_loss", "relation_loss", "unremarkable"]
