"""The towers as `experiments.inspect` shows them: parts, shapes and parameters, as text and as a drawing."""
