"""How good and how fast: accuracy and speed of any artifact, and the demonstration that shows both."""
