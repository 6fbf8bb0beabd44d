"""The parts of `coldstart sql`: statements, output, completion."""
