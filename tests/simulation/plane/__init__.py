"""The control plane in a simulated world: the real drivers of chords and delays, over simulated transactions."""
