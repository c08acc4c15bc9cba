"""Room base: errors, files, the store and its manifests, arrays, what a figure is, intervals.

Imports no other room; everyone may enter.
"""

from pipeline.base import deferred

deferred.install()
