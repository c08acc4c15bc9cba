"""Tilings that other tools made, and ours for other tools."""
