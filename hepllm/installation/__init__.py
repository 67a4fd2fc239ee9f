"""What the machine and its software can do, each question a function that answers in one line."""
