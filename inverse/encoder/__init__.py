"""The encoder: a network that sees at a glance which objects are in a picture, and where."""
