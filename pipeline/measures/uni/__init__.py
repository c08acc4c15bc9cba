"""The protocol of UNI, as its authors' code has it: figures that may stand beside published ones.

Chen et al., "Towards a general-purpose foundation model for computational pathology", Nature Medicine 2024, and
github.com/mahmoodlab/UNI, uni/downstream/eval_patch_features.
"""
