"""The pages of the documents."""

from typing import Any

from django.views.generic import TemplateView


class DocumentsPage(TemplateView):
    """The caller's documents: upload, list, search."""

    template_name = "documents/list.html"


class DocumentPage(TemplateView):
    """One document: what is known of it, its text, its chunks."""

    template_name = "documents/document.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs)
