"""`histill plan`: what a run will take, from the slides' headers and a minute's measurement, and what it then took."""
