"""The evaluation room: what the student is worth beside its teacher, how fast it is, and the page that says so."""
