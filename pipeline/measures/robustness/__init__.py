"""How far an embedding moves when its image changes and its tissue does not."""
