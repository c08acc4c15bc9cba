"""The stream of tokens: its speed, its answers, and what storing them costs and loses."""
