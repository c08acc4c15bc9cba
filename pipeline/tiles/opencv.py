"""OpenCV as every worker uses it: `from pipeline.tiles.opencv import cv2`. The only file that imports cv2 itself.

A worker is one process a core, where its threads would only get in each other's way; IPP rounds by the CPU it finds.
"""

from __future__ import annotations

import cv2

__all__ = ["cv2"]

cv2.setNumThreads(1)
cv2.ipp.setUseIPP(False)
