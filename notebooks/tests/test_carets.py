"""Mistakes are shown under their words, as the command line shows them."""

from __future__ import annotations

import pytest

from smack.carets import render
from smack.errors import Diagnostic, Refused, SmackError
from smack.secrets import hide

TEXT = "CREATE TABLE payments (card BIGINT, amount DOUBLE);\n\nSELECT card, SUM(amuont) AS total\nFROM payments\n"


def at(text: str, word: str) -> tuple[int, int]:
    start = text.encode().index(word.encode())
    return start, start + len(word.encode())


def test_the_caret_stands_under_the_word() -> None:
    mistake = Diagnostic("unknown column 'amuont'", at(TEXT, "amuont"), "did you mean 'amount'?")
    assert render(TEXT, "typo.sql", [mistake]) == (
        "  error: unknown column 'amuont'\n"
        "   ╭─[typo.sql:3:18]\n"
        " 2 │ \n"
        " 3 │ SELECT card, SUM(amuont) AS total\n"
        "   ·                  ^^^^^^\n"
        " 4 │ FROM payments\n"
        "   ╰────\n"
        "  help: did you mean 'amount'?\n"
    )


def test_offsets_are_bytes_and_columns_are_letters() -> None:
    text = "SELECT 'größe 🙂', amuont FROM t"
    lines = render(text, "q", [Diagnostic("m", at(text, "amuont"))]).splitlines()
    shown = next(line for line in lines if "SELECT" in line)
    under = next(line for line in lines if "^" in line)
    # The face takes two columns of a terminal.
    assert under.index("^") == shown.index("amuont") + 1
    assert under.count("^") == 6
    assert "[q:1:19]" in lines[1]


def test_a_tab_is_as_wide_above_as_below() -> None:
    text = "\tSELECT\twrong"
    lines = render(text, "q", [Diagnostic("m", at(text, "wrong"))]).splitlines()
    assert lines[3].index("^") == lines[2].index("wrong")


def test_several_mistakes_come_in_the_order_of_the_text() -> None:
    late, early = Diagnostic("late", at(TEXT, "amuont")), Diagnostic("early", at(TEXT, "card"))
    shown = render(TEXT, "q", [late, Diagnostic("no place"), early])
    assert shown.index("no place") < shown.index("early") < shown.index("late")


def test_of_several_lines_the_first_is_marked() -> None:
    shown = render("a\nbc\nd", "q", [Diagnostic("m", (2, 6))])
    assert " 2 │ bc\n   · ^^\n" in shown


@pytest.mark.parametrize("span", [(0, 0), (3, 900), (500, 400), (1, 2), (5, 5), (-3, 1)])
@pytest.mark.parametrize("text", ["é\nxä", "", "\n", "a\r\nb"])
def test_spans_that_lie_do_no_harm(text: str, span: tuple[int, int]) -> None:
    assert "^" in render(text, "f", [Diagnostic("m", span)])


def test_a_refusal_ends_with_how_many_mistakes_there_are() -> None:
    one = Refused(422, "bad", [Diagnostic("m", (0, 1))], "x", "f.sql")
    assert str(one).endswith("error: 1 mistake in f.sql")
    two = Refused(422, "bad", [Diagnostic("m"), Diagnostic("n")], "x", "f.sql")
    assert str(two).endswith("error: 2 mistakes in f.sql")
    assert str(Refused(409, "there is no job 'a/b'")) == "there is no job 'a/b'"


def test_secrets_are_stars_and_nothing_moves() -> None:
    text = "WITH (properties.sasl.password = 'hünter2''s', topic = 'password', nowhere = 1)"
    shown = hide(text)
    assert "nter2" not in shown and "topic = 'password'" in shown
    assert len(shown.encode()) == len(text.encode())
    told = render(text, "f", [Diagnostic("m", at(text, "nowhere"))])
    assert "nter2" not in told
    lines = told.splitlines()
    assert lines[3].index("^") == lines[2].index("nowhere")
    assert hide('password = "it\'s \\"so\\"" # a') == 'password = "***********" # a'
    assert hide('password: "x" # yaml') == 'password: "*" # yaml'


def test_in_a_notebook_an_error_is_its_message_and_the_line_that_asked() -> None:
    try:
        raise SmackError("there is no job 'a'")
    except SmackError as error:
        shown = error._render_traceback_()
    assert shown[-1] == "there is no job 'a'"
    assert shown[0].endswith("raise SmackError(\"there is no job 'a'\")")
