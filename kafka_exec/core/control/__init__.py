"""The control plane: the reducers of chords, and the levels of delayed messages."""
