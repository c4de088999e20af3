"""The server and its driver processes are killed at any moment, under load: no job is lost, none happens twice, none wrongly succeeded."""
