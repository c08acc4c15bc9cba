"""What of a slide became no tile, and why: shares of its tissue, images by name, and a slide without any."""
