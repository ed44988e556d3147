"""What a user says: stored and handed to the model without loss."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from worker.conversation.user_message import Image, UserMessage

images = st.one_of(
    st.builds(Image, url=st.just("https://example.org/a.png")),
    st.builds(
        Image,
        media_type=st.just("image/png"),
        data=st.binary(min_size=1).map(lambda raw: base64.b64encode(raw).decode()),
    ),
)


@given(st.text(), st.lists(images, max_size=3))
def test_a_message_is_read_as_it_was_written(text: str, shown: list[Image]) -> None:
    message = UserMessage(text, tuple(shown))

    assert UserMessage.from_json(message.to_json()) == message


@given(st.binary(min_size=1))
def test_a_summary_tells_the_size_in_bytes_and_holds_nothing_of_the_picture(raw: bytes) -> None:
    image = Image(media_type="image/png", data=base64.b64encode(raw).decode())

    assert image.summary() == {"media_type": "image/png", "bytes": len(raw)}


def test_text_alone_is_stored_and_sent_as_text() -> None:
    assert UserMessage("Hi.").to_json() == {"text": "Hi."}
    assert UserMessage("Hi.").content == "Hi."


def test_pictures_stand_before_the_words_about_them() -> None:
    image = Image(media_type="image/png", data="AAAA")

    assert UserMessage("What is this?", (image,)).content == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "What is this?"},
    ]
    assert UserMessage("", (image,)).content == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    ]
