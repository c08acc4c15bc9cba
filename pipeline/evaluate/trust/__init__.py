"""What a reader must know before trusting a figure: leaks between splits, and cautions."""
