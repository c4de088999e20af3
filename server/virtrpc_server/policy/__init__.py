"""Who may do what: rules in Cedar's language, read from a file, asked before anything happens."""
