"""What models answer to chosen tiles: computed once, kept in the store, found again by content."""
