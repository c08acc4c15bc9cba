"""Room measures: from features, labels and images to figures; it knows neither the store nor where a tile comes from.

Imports base, sets (the value of a mask that counts nowhere), tiles and views (images changed on purpose).
"""
