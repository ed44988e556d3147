"""What the program tells its operators: structured log lines under documented names, with secrets masked."""
