"""What `experiments.inspect` shows of the towers: parts, shapes and parameters, as text and as a drawing."""
