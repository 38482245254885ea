"""Conversations and what was said in them."""

from datetime import timedelta
from uuid import UUID, uuid4

from django.db import models
from django.db.models.functions import Now
from django.http import Http404

NOT_FOUND = "There is no such conversation among yours; it may have been deleted. Please begin a new one."
NO_MESSAGE = (
    "This message is not in the conversation any more. Please load the conversation again to see what is."
)


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def for_owner(self, owner: str | None) -> "ConversationQuerySet":
        """What this owner may see, and the only way by which a request reaches a conversation."""
        return self.none() if owner is None else self.filter(owner=owner)

    def listed(self) -> "ConversationQuerySet":
        """Those with a title, which the first exchange gives if nobody did before; and others for a day."""
        return self.exclude(title="", created_at__lt=Now() - timedelta(days=1))

    def matching(self, words: str) -> "ConversationQuerySet":
        """Those in whose title or messages the words stand."""
        said = Message.objects.filter(conversation=models.OuterRef("pk"), content__icontains=words)
        return self.filter(models.Q(title__icontains=words) | models.Exists(said))

    def pick_one(self, pk: str) -> "Conversation":
        """This conversation of the set. Raises Http404 if it is not in it."""
        try:
            conversation = self.filter(pk=UUID(pk)).first()
        except ValueError:
            conversation = None
        if conversation is None:
            raise Http404(NOT_FOUND)
        return conversation


class Conversation(models.Model):
    """A conversation of one owner; the contract calls its id `sessionId`."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    owner = models.CharField(max_length=80, editable=False)
    title = models.CharField(max_length=100, blank=True)
    document_ids = models.JSONField(default=list, blank=True, help_text="The documents ticked for it.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now_add=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-updated_at", "-id")
        indexes = [models.Index(fields=["owner", "-updated_at", "-id"], name="conversation_newest")]

    def __str__(self) -> str:
        return f"conversation {self.pk}"

    def newest(self, count: int, *, before: int | None = None) -> "list[Message]":
        """The newest messages, or those before one of them, in the order in which they were said."""
        return self.page(count, before)[0]

    def page(self, count: int, before: int | None = None) -> "tuple[list[Message], int | None]":
        """The same, and the first of them if others were said before it."""
        messages = self.messages.all() if before is None else self.messages.filter(pk__lt=before)
        rows = list(messages.order_by("-id")[: count + 1])
        shown = rows[:count][::-1]
        return shown, shown[0].pk if len(rows) > count else None

    def take_back(self, message_id: int) -> int:
        """Delete a message and all that was said after it; how many, 0 if it is not there.

        In one statement: what was taken back in another tab must not take with it what was said since.
        """
        there = models.Exists(self.messages.filter(pk=message_id))
        count, _ = self.messages.filter(there, pk__gte=message_id).delete()
        return count


class Role(models.TextChoices):
    USER = "user"
    ASSISTANT = "assistant"


class Message(models.Model):
    """One thing said. `sources` holds the passages that an answer was drawn from; an `incomplete` answer
    broke off: it was stopped, or the engine failed, or the session ended. By `exchange_id` the caller who
    asked knows question and answer again."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    role = models.CharField(max_length=10, choices=Role)
    content = models.TextField()
    sources = models.JSONField(default=list, blank=True)
    incomplete = models.BooleanField(default=False)
    exchange_id = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.role} in {self.conversation_id}"
