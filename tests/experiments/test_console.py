"""What the programs print."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from experiments.shared import console


def test_what_controls_a_terminal_is_shown_and_not_done(capsys):
    console.say("one \x1b]0;title\x07 two\u202e\x9b31m\x7f\r\nthree\u2028")
    assert capsys.readouterr().out == "one \\x1b]0;title\\x07 two\\u202e\\x9b31m\\x7f\\r\nthree\\u2028\n"
    console.show_table("Titles", ["", "title"], [["a\x1bb", "c\x08d"]])
    assert "a\\x1bb  title c\\x08d" in capsys.readouterr().out


@given(st.text())
def test_every_text_is_printable_and_plain_text_stays(text):
    shown = console.visible(text)
    assert not any(unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs") for letter in shown)
    assert not set(shown) & set(console.BIDIRECTIONAL)
    if text.isprintable() and not set(text) & set(console.BIDIRECTIONAL):
        assert shown == text
