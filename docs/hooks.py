"""Pages that the site makes from the code at each build: the public names, and the API of each room."""

import ast
import pathlib
import re

from mkdocs.structure.files import File

import retrieval

LIBRARY = pathlib.Path(retrieval.__file__).parent


def on_config(config):
    """Adds the API pages to the navigation."""
    config.nav.append({"API": ["api/index.md", *(f"api/retrieval.{room}.md" for room in rooms())]})
    return config


def on_files(files, config):
    """Adds the generated pages."""
    pages = {"api/index.md": public_names()} | {f"api/retrieval.{room}.md": room_page(room) for room in rooms()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown, page, **_):
    """Gives the wide tables of the options the place of the table of contents."""
    if page.file.src_uri == "config.md":
        page.meta["hide"] = ["toc"]
    return markdown


def on_post_page(output, page, config):
    """Makes the links of the notebook those of the site, which other pages get from their Markdown."""
    if not page.file.src_uri.endswith(".ipynb"):
        return output
    return re.sub(r'href="([a-z-]+)\.md(#[a-z-]+)?"', r'href="../\1/\2"', output)


def rooms():
    """Returns the names of the packages of the library, sorted."""
    return sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))


def room_page(room):
    """Returns the page of one room: its rule, and the public names of each of its modules."""
    lines = [f"# retrieval.{room}", "", ast.get_docstring(ast.parse((LIBRARY / room / "__init__.py").read_text())), ""]
    for path in sorted((LIBRARY / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.name != "__init__.py" and any(is_public(node) for node in tree.body):
            module = ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)
            lines += [f"::: {module}", ""]
    return "\n".join(lines)


def is_public(node):
    """Tells whether a statement of a module defines a public class or function."""
    return isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")


def public_names():
    """Returns the table of what `import retrieval` offers, each name linked to its place."""
    lines = ["# The public names", "", "`import retrieval` offers these; each is imported on first use.", ""]
    lines += ["| name | summary |", "|---|---|"]
    for name in retrieval.__all__:
        value = getattr(retrieval, name)
        place = value.__name__ if not hasattr(value, "__qualname__") else f"{value.__module__}.{value.__qualname__}"
        summary = (value.__doc__ or "").strip().splitlines()[0]
        link = f"[`{name}`][{place}]" if hasattr(value, "__qualname__") else f"`{name}`"
        lines.append(f"| {link} | {summary} |")
    return "\n".join(lines) + "\n"
