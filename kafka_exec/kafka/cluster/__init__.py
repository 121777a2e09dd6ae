"""One cluster as a process sees it: its topics, its one log reader, its shared producer."""
