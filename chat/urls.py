from django.urls import re_path

from chat import views

urlpatterns = [
    re_path(r"^lightweight-llm/chat/?$", views.Chat.as_view(), name="chat"),
    re_path(r"^lightweight-llm/status/?$", views.EngineStatus.as_view(), name="chat-status"),
    re_path(r"^RAG/chat/?$", views.DocumentChat.as_view(), name="document-chat"),
    re_path(r"^RAG/document-chat/?$", views.DocumentChatAlias.as_view(), name="document-chat-alias"),
    re_path(r"^conversations/?$", views.ConversationList.as_view(), name="conversations"),
    re_path(
        r"^conversations/(?P<session_id>[^/]+)/?$", views.ConversationDetail.as_view(), name="conversation"
    ),
    re_path(
        r"^conversations/(?P<session_id>[^/]+)/messages/(?P<message_id>[0-9]{1,18})/?$",
        views.MessageDetail.as_view(),
        name="message",
    ),
]
