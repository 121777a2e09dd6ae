"""The parts of an app: its preparation, the options with which tasks are sent, and the base class of its tasks."""
