"""Pieces that several architectures share, written in ``keras.ops``."""
