"""Filters: what the builder makes can be read, and what cannot be read is told before it is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py import Filter, InvalidArgumentError, check_filter, where
from containerd_py.filters import checked_filters


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (where("name").equals("docker.io/library/alpine:3.20"), 'name=="docker.io/library/alpine:3.20"'),
        (where("labels", "app.example/tier").differs("web"), 'labels."app.example/tier"!="web"'),
        (where("topic").matches(r"^/tasks/\d"), r'topic~="^/tasks/\\d"'),
        (where("labels", "a").exists(), "labels.a"),
        (where("event", "container_id").equals('a "b"\n\\'), r'event.container_id=="a \"b\"\n\\"'),
        (where("id").equals("a") & where("labels", "b").exists(), 'id=="a",labels.b'),
        (where("id").equals("a") & "labels.b==c", 'id=="a",labels.b==c'),
    ],
)
def test_the_builder_writes_containerds_language(made, text):
    """Fields are dotted, values are quoted, and `&` joins with a comma."""
    assert made == text
    assert isinstance(made, Filter)
    assert check_filter(made) == text


@given(st.lists(st.text(), min_size=1), st.text(), st.sampled_from(["equals", "differs", "matches"]))
def test_whatever_is_quoted_can_be_read(path, value, operator):
    """No field and no value leads to a filter whose syntax is wrong."""
    check_filter(getattr(where(*path), operator)(value) & where(*path).exists())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name==a",
        "name == a",
        'name=="a b",labels."a.b/c"!=x',
        "topic~=|^/tasks/exit|",
        r"topic~=/\x41\u00e4\U0001F600\101/",
        "name==a=b.c:d",
        "labels.a.b==ä",
    ],
)
def test_what_a_daemon_reads_is_let_through(text):
    """Plain strings are as good as built ones."""
    assert check_filter(text) == text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("==x", "'' → '==x'"),
        ("name=x", "'name' → '=x'"),
        ("name==", "'name==' → ''"),
        ('name=="a', "'name==\"a' → ''"),
        ("name==/a/", "'name==' → '/a/'"),
        ("name==a b", "'name==a' → ' b'"),
        ("name==a,", "'name==a,' → ''"),
        ("a-b==c", "'a' → '-b==c'"),
        (r'name~="\d"', r"""'name~="\\' → 'd"'"""),
        (r'name=="\777"', r"""'name=="\\' → '777"'"""),
        ("name== !=", "'name== ' → '!='"),
        ("name==a\0", "'name==a' → '\\x00'"),
    ],
)
def test_a_wrong_filter_says_where(text, place):
    """The message shows the text up to the fault, and from there on."""
    with pytest.raises(InvalidArgumentError) as raised:
        check_filter(text)
    assert place in str(raised.value)


def test_a_text_is_no_list_of_filters():
    """The slip of passing one string is told, and not taken for a filter per letter."""
    with pytest.raises(InvalidArgumentError, match="list"):
        checked_filters("name==a")
