"""The two services and their leases."""

from django.db import migrations

SERVICES = [
    {
        "id": "lightweight-llm",
        "status_key": "chat",
        "name": "Chat Service",
        "busy_message": "Someone else is using the chat service right now. Please try again in a minute or two.",
        "own_busy_message": "You are already using the chat service in another window or program. "
        "Please wait until that answer is finished, then try again.",
    },
    {
        "id": "vector-convert",
        "status_key": "vectorConvert",
        "name": "Document Conversion Service",
        "busy_message": "Someone else is using the document conversion service right now. "
        "Please try again in a minute or two.",
        "own_busy_message": "You are already using the document conversion service in another window or program. "
        "Please wait until that document is finished, then try again.",
    },
]


def create(apps, schema_editor):
    service, lease = apps.get_model("leases", "Service"), apps.get_model("leases", "Lease")
    for values in SERVICES:
        row, _ = service.objects.get_or_create(id=values["id"], defaults=values)
        lease.objects.get_or_create(service=row)


def remove(apps, schema_editor):
    ids = [values["id"] for values in SERVICES]
    for model in ("Hold", "Lease"):
        apps.get_model("leases", model).objects.filter(service_id__in=ids).delete()
    apps.get_model("leases", "Service").objects.filter(id__in=ids).delete()


class Migration(migrations.Migration):
    dependencies = [("leases", "0002_hold_trigger")]

    operations = [migrations.RunPython(create, remove)]
