"""Makes docstrings Markdown for the API pages: their doctests become code blocks."""

import griffe


class Doctests(griffe.Extension):
    """Fences each doctest, which Markdown would take for a quotation."""

    def on_instance(self, *, obj, **_):
        """Rewrites the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text):
    """Returns the text with a fence around each paragraph that begins with the prompt of Python.

    >>> print(fenced("Adds.\\n\\n>>> 1 + 1\\n2\\n\\nThe end."))
    Adds.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    The end.
    """
    paragraphs = text.split("\n\n")
    return "\n\n".join(f"```pycon\n{part}\n```" if part.lstrip().startswith(">>>") else part for part in paragraphs)
