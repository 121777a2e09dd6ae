"""The parts of a simulated worker: its membership of the group, its pool with the runs, and the sharing of tasks."""
