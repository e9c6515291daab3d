"""Messages about files that cannot be read or written."""

import pytest

from serving.errors import cannot_read, cannot_write, counted, one_line


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file or directory"), "a.toml does not exist."),
        (PermissionError(13, "Permission denied"), "a.toml cannot be read: permission denied."),
        (ValueError("Expected '='\n(line 1)."), "a.toml cannot be read as TOML: Expected '=' (li"),
        (EOFError(), "a.toml cannot be read as TOML: EOFError."),
        (
            UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "invalid"),
            "a.toml cannot be read as TOML: byte 0xe9 at position 3 is not UTF-8.",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(error, message):
    assert cannot_read("a.toml", error, "TOML").startswith(message)


def test_the_message_of_another_library_is_one_line_without_the_colors_of_a_terminal():
    message = (
        "Exception encountered when calling Lambda.call().\n\n\x1b[1mWe could not infer\x1b[0m"
    )
    assert (
        one_line(message) == "Exception encountered when calling Lambda.call(). We could not infer"
    )


def test_a_file_that_cannot_be_written_is_named_with_the_reason():
    error = OSError(28, "No space left on device")
    assert (
        cannot_write("out/a.png", error) == "out/a.png cannot be written: no space left on device."
    )


def test_a_number_is_followed_by_its_noun_in_the_singular_or_plural():
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
