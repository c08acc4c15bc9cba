"""The student for others: a file that builds it in a tool, a folder for a model hub, and the tissue as outlines."""
