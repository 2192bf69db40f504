"""What a stack is: its typed settings, the files that give them, and how they are read."""
