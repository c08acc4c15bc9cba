"""One small file an objective: a function of (prediction, standardised target) that returns a scalar in fp32."""

from pipeline.student.objectives.cls import cls_loss
from pipeline.student.objectives.patch import patch_loss

__all__ = ["cls_loss", "patch_loss"]
