from django.urls import re_path

from documents import views

urlpatterns = [
    re_path(r"^RAG/upload/?$", views.Upload.as_view(), name="upload"),
    re_path(r"^(?:RAG/)?documents/?$", views.DocumentList.as_view(), name="documents"),
    re_path(
        r"^(?:RAG/)?documents/(?P<document_id>[^/]+)/?$", views.DocumentDetail.as_view(), name="document"
    ),
    re_path(
        r"^(?:RAG/)?documents/(?P<document_id>[^/]+)/embedding/?$",
        views.DocumentChunks.as_view(),
        name="chunks",
    ),
    re_path(r"^RAG/search/?$", views.Search.as_view(), name="search"),
    re_path(r"^RAG/stats/?$", views.Stats.as_view(), name="stats"),
    re_path(r"^vector-convert-llm/process-document/?$", views.Conversions.as_view(), name="process-document"),
    re_path(r"^RAG/embeddings/?$", views.Embeddings.as_view(), name="embeddings"),
]
