"""Standardise and quantise tokens to int8 with one scale a token, and back."""
