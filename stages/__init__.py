"""The verbs: one short file a stage. Stages never import each other."""
