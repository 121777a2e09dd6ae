"""The control plane's reducers: chords, and messages that wait for their time."""
