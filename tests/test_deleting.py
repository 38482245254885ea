"""To delete what is being written at that moment waits for the writing, and then deletes what it wrote."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client

from chat.models import Conversation, Message, Role
from documents.conversion import store
from documents.models import Chunk, Document
from leases.database import returning
from leases.owners import owner_of_user

pytestmark = pytest.mark.usefixtures("leases")

Delete = Callable[[Client, Any], Any]
YES = {"action": "delete_selected", "post": "yes"}


@pytest.fixture
def person() -> User:
    return User.objects.create_superuser("olga")


@contextmanager
def meanwhile(delete: Delete, person: User, row: Any) -> Iterator[None]:
    """Somebody deletes the row while the block writes to it, in a transaction that has begun already."""
    client = Client()
    client.force_login(person)
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            assert type(row).objects.filter(pk=row.pk).update(owner=row.owner)
            deletion = thread.submit(returning, delete, client, row)
            if connection.vendor == "postgresql":
                until_somebody_waits(deletion)
            yield
        assert deletion.result(30).status_code in (200, 302)


def until_somebody_waits(deletion: Future[Any]) -> None:
    """SQLite tells nobody who waits, and lets nobody begin to write meanwhile."""
    tick = threading.Event()
    with connection.cursor() as cursor:
        for _ in range(1000):
            cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
            (waits,) = cursor.fetchone()
            if waits or deletion.done():
                return
            tick.wait(0.01)
    pytest.fail("the deletion neither waits nor ends")


def selected(kind: str) -> Delete:
    return lambda client, row: client.post(f"/admin/{kind}/", YES | {"_selected_action": str(row.pk)})


def on_its_page(kind: str) -> Delete:
    return lambda client, row: client.post(f"/admin/{kind}/{row.pk}/delete/", {"post": "yes"})


@pytest.mark.parametrize(
    "delete",
    [
        lambda client, row: client.delete(f"/api/RAG/documents/{row.pk}"),
        lambda client, row: client.post(f"/documents/{row.pk}/", {"action": "delete"}),
        selected("documents/document"),
        on_its_page("documents/document"),
    ],
    ids=["API", "page", "admin's list", "admin's page"],
)
def test_a_document_goes_with_the_chunks_that_a_conversion_writes(person: User, delete: Delete) -> None:
    text = "Green tea is steeped at 75 degrees."
    document = store(
        Document(
            owner=owner_of_user(person.pk),
            title="Tea",
            content_type="text",
            text=text,
            file_size=9,
            word_count=7,
        )
    )
    with meanwhile(delete, person, document):
        document.chunks.all().delete()
        Chunk.objects.create(document=document, index=0, text=text, start=0, end=len(text))
    assert not Document.objects.exists()
    assert not Chunk.objects.exists()


@pytest.mark.parametrize(
    "delete",
    [
        lambda client, row: client.delete(f"/api/conversations/{row.pk}"),
        selected("chat/conversation"),
        on_its_page("chat/conversation"),
    ],
    ids=["API", "admin's list", "admin's page"],
)
def test_a_conversation_goes_with_the_answer_that_is_being_saved(person: User, delete: Delete) -> None:
    conversation = Conversation.objects.create(owner=owner_of_user(person.pk), title="Tea")
    with meanwhile(delete, person, conversation):
        Message.objects.create(conversation=conversation, role=Role.USER, content="How hot?")
    assert not Conversation.objects.exists()
    assert not Message.objects.exists()
