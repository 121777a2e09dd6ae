"""Plans: what a queue needs for the tasks that come to it, and the measures of these from its log."""
