"""What a bucket behind the store costs."""
